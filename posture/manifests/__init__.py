"""The streams' ScaledJobs, from deploy/posture-job.yaml or a file of their own: checked, changed and written.

Must not know a running cluster: it works on files only.
"""
