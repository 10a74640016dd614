"""Posture Farm: what the scripts share."""
