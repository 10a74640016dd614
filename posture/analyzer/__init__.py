"""One stream's program: frames in, annotated pictures and rows out, each frame acknowledged once it is on disk.

Must not know other streams, nodes or Kubernetes: where it runs is somebody else's business.
"""
