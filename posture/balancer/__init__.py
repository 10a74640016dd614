"""The loop that observes the cluster, plans with the pure planner, and moves streams so that no crash loses one.

What has to outlive the process stands as annotations on the ScaledJobs. Must not know the files of manifests.
"""
