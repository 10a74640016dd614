"""What the API server may answer instead of doing what it was asked."""

from __future__ import annotations


class KubeError(Exception):
    """The API server did not do what was asked; the message is one line for the log."""


class UnreachableError(KubeError):
    """No answer, or none that is one: no connection, a time-out, 429 or 5xx to the end."""


class NoConnectionError(UnreachableError):
    """Nothing answers at the server's address: no other request would be answered either."""


class RefusedError(KubeError):
    """403: the role lacks a verb, which the message names."""


class CredentialsRefusedError(RefusedError):
    """401, or no credentials to be had: no other request would be answered either."""


class NotAdmittedError(KubeError):
    """403 although the role would do: a quota, PodSecurity, a LimitRange, a policy or a webhook says no."""


class ConflictError(KubeError):
    """409, or a JSON Patch whose ``test`` failed (422): somebody else was there first."""


class StaleError(ConflictError):
    """A JSON Patch whose ``test`` failed: the object is no longer as it was read."""


class NotFoundError(KubeError):
    """404: it is gone, or never was there."""
