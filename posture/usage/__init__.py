"""The usage of each node, read from Prometheus with one query for each signal, whatever the number of nodes.

Every value carries the time of its scrape, and a value that is missing, stale or invalid is an error, never a 0.
Must not know what is decided from the usage.
"""
