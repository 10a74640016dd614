"""The planner on a model of a farm: sizing before buying, and experiments that test the planner's promises.

Must not know a real cluster or Prometheus.
"""
