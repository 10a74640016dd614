"""How busy each node is, read from Prometheus: one query for all nodes, every value with its time, nothing guessed.

Must not know what is decided from it.
"""
