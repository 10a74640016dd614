"""The Kubernetes API: a small client, and how to read the objects that a farm consists of.

Must not know why an object is changed: plans and moves are the balancer's, going up and down is lifecycle's.
"""
