"""The loop that observes the cluster, plans with the pure planner, and moves streams so that no crash loses one.

What must survive a restart is kept in annotations of the ScaledJobs. Must not know the files of manifests.
"""
