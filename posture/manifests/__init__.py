"""The files posture-job-*.yaml: read, checked, changed and written with their comments.

Must not know a running cluster: it works on files only.
"""
