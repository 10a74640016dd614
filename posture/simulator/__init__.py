"""The planner on a model of a farm: sizing before buying, and the proof by experiment of what the planner promises.

Must not know a real cluster or Prometheus.
"""
