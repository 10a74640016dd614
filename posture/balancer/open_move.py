"""A move that has begun, as it stands in an annotation of its ScaledJob."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from posture.kube.annotations import MOVE
from posture.kube.objects import ScaledJob
from posture.planning.model import ONE_SIGNAL, Move, MoveKind


@dataclass(frozen=True)
class OpenMove:
    """A move that has begun and is not finished."""

    id: str
    move: Move
    began_s: float
    """By the API server's clock, in seconds since 1970."""

    def to_text(self) -> str:
        """Return the annotation's value: relief and cost of the signal in which they are largest.

        A single number each is what older balancers, and those of other farms, read.
        """
        most = {"relief": max(self.move.relief.values()), "cost": max(self.move.cost.values())}
        return json.dumps({"id": self.id, "began_s": round(self.began_s, 3), **asdict(self.move), **most})

    @classmethod
    def from_text(cls, text: str) -> OpenMove | None:
        """Return the move; None for a text that is no move, which still counts as an open one."""
        try:
            fields = json.loads(text)
            identity, began_s = str(fields.pop("id")), float(fields.pop("began_s"))
            points = {"relief": {ONE_SIGNAL: float(fields["relief"])}, "cost": {ONE_SIGNAL: fields["cost"]}}
            move = Move(**fields | points | {"kind": MoveKind(fields["kind"])})
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None
        named = all(isinstance(name, str) for name in (move.stream, move.source, move.destination))
        return cls(identity, move, began_s) if named else None


def open_move_text(scaled_job: ScaledJob) -> str | None:
    """Return the annotation of an open move, None if there is none."""
    return (scaled_job.annotations or {}).get(MOVE)


def destination_of(scaled_job: ScaledJob) -> str | None:
    """Return where a stream with an open move goes; None if that is not said.

    Others may have written the affinity since the move began, so the annotation counts. That of a pinned stream is
    the operator's: it counts, as it does where the annotation is no move.
    """
    opened = OpenMove.from_text(open_move_text(scaled_job) or "")
    return scaled_job.node if opened is None or scaled_job.pinned else opened.move.destination
