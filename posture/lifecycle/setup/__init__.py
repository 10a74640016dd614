"""A cluster that ``kubectl apply -k deploy/stack`` has filled is made a farm, by what the cluster itself says.

Labels nodes, writes what it has found into cluster.yaml, and makes passwords, certificates and the Secrets that the
stack's pods wait for. Everything is looked at first; what was made here is marked, so that it can be told from what
others have made, and taken back.
"""
