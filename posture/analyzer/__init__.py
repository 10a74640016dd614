"""One stream's program: frames in, annotated pictures and rows out, each frame acknowledged once it is on disk.

Must not know other streams, nodes or Kubernetes: where it runs is somebody else's business.
"""

from posture.analyzer.fitting import prefer_fitting_packages

# here, since all that imports numpy and mediapipe comes past: the choice must be made before
prefer_fitting_packages()
