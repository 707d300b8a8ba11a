"""Until when all that was sent has been read: only then has who said nothing since been silent.

A member that is late, or was away, must not take its own lateness for the silence of callers.
"""

__all__ = ["ReadUntil"]


class ReadUntil:
    """For each partition a moment (s, monotonic) before which nothing sent is unread."""

    def __init__(self) -> None:
        self._marks: dict[int, tuple[float, int]] = {}
        self._until: dict[int, float] = {}

    def mark(self, partition: int, now: float, end: int) -> None:
        """At `now` the partition ends before the offset `end`."""
        self._marks.setdefault(partition, (now, end))

    def read(self, partition: int, following: int) -> None:
        """All offsets before `following` have been read."""
        if partition in self._marks and following >= self._marks[partition][1]:
            self._until[partition] = self._marks.pop(partition)[0]

    def until(self, partition: int) -> float:
        """What was sent before this moment has been read."""
        return self._until.get(partition, float("-inf"))

    def forget(self, partition: int) -> None:
        """Another member reads it now."""
        self._marks.pop(partition, None)
        self._until.pop(partition, None)
