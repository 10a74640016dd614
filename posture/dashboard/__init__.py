"""The page on which a farm is looked at: what each stream shows now, what has been, and where it runs.

It reads the broker, the database, Prometheus and the Kubernetes API, holds nothing that is not elsewhere, and
nothing depends on it. It knows no other program, and opens no picture: cv2, mediapipe and numpy are not here.
"""
