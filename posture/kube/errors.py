"""What the API server may answer instead of doing what it was asked."""

from __future__ import annotations


class KubeError(Exception):
    """The API server did not do what was asked; the message is one line for the log."""


class UnreachableError(KubeError):
    """No answer, or none that is one: no connection, a time-out, 429 or 5xx to the end."""


class RefusedError(KubeError):
    """401: the credentials are not accepted. 403: the role lacks a verb, which the message names."""


class NotAdmittedError(KubeError):
    """403 although the role would do: a quota, PodSecurity, a LimitRange, a policy or a webhook says no."""


class ConflictError(KubeError):
    """409, or a JSON Patch whose ``test`` failed (422): somebody else was there first."""


class NotFoundError(KubeError):
    """404: it is gone, or never was there."""
