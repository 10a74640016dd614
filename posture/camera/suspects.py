"""Frames over which connections end: found by sending one at a time, and set aside once others have arrived.

A broker, or something on the way to it, may end the connection at a frame: one that is too large for it, say. Sent
first again with each new connection, that frame would hold up all others for ever. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

MOST_ENDED = 3
"""Connections that may end over one frame."""


class Suspects:
    """What is known of the frames of one camera.

    Attributes:
        cautious: send a frame only when the one before has been answered, so that it is known which one it was.
    """

    def __init__(self) -> None:
        self.cautious = False
        self._ended: dict[str, int] = {}
        self._outlived: set[str] = set()
        """Suspects since whose first time another frame was answered: it is not the broker that takes nothing."""

    def answered(self, frame_id: str) -> None:
        """Say that the broker has answered to a frame."""
        self._ended.pop(frame_id, None)
        self._outlived.discard(frame_id)
        self._outlived.update(self._ended)

    def connection_ended(self, unanswered: Collection[str], *, steady: bool) -> list[str]:
        """Say that a connection was lost.

        Args:
            unanswered: frames sent over it to which the broker had not answered.
            steady: it had served for a good while, so that its end says nothing of a frame.

        Returns:
            The frames to set aside.
        """
        if steady:
            self.cautious = False
        elif unanswered:
            self.cautious = True
        if len(unanswered) == 1 and not steady:
            (frame_id,) = unanswered
            self._ended[frame_id] = self._ended.get(frame_id, 0) + 1
        found = [name for name in self._outlived if self._ended[name] >= MOST_ENDED]
        for name in found:
            del self._ended[name]
            self._outlived.discard(name)
        return found

    def last(self, names: Iterable[str]) -> list[str]:
        """Return frames in the order in which to send them: suspects last."""
        return sorted(names, key=lambda name: name in self._ended)

    def forget_all_but(self, names: Collection[str]) -> None:
        """Forget frames that don't wait any more."""
        self._ended = {name: count for name, count in self._ended.items() if name in names}
        self._outlived.intersection_update(self._ended)
