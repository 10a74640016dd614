"""A node's own figures for Prometheus: how busy its GPU and processors are, and how much memory is left.

Reads this machine and nothing else. Must not know streams, the cluster, or what is decided from the figures.
"""
