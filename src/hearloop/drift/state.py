"""What the monitor knows, in a form that survives it.

The state is written to object storage before the consumer commits its offsets, and events that
are delivered again are recognised by their ids: a monitor that is killed anywhere and started
again ends up where one that was never killed is (but for the order in which it reads the
partitions of the log, which is nobody's to choose).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from hearloop.drift import detectors
from hearloop.drift.policy import MonitorPolicy
from hearloop.drift.signals import SIGNALS, CallBook
from hearloop.errors import IntegrityError, NotFound
from hearloop.ports import ObjectStore

__all__ = ["Alarm", "Counts", "State", "StateStore"]


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """One shift alarm."""

    call_number: int
    """The call that raised it, counted from 1 over all calls ever watched."""
    since_reference: int
    """The same, counted since the reference was loaded."""
    model_version: str
    raised_at: str
    """ISO 8601, UTC, by the monitor's clock."""
    statistic: float
    signals: dict[str, float]
    """Each signal's share of the statistic, largest first."""


@dataclass(kw_only=True)
class Counts:
    """Events, by what became of them."""

    events: int = 0
    malformed: int = 0
    """Not a transcription event at all."""
    other_version: int = 0
    """Answered by another version than the champion: nothing to compare with."""
    unreadable: int = 0
    """Audio missing or broken; the recogniser's own signals are used all the same."""


@dataclass(kw_only=True)
class State:
    """Everything that changes while the monitor watches."""

    book: CallBook
    counts: Counts = field(default_factory=Counts)
    champion: str | None = None
    champion_since: str = ""
    """When this champion was first seen: ISO 8601, UTC."""
    calls: int = 0
    """Calls watched, ever."""
    calls_since_reference: int = 0
    statistic: list[list[list[list[float]]]] = field(default_factory=list)
    """The detector: (signal, side, score, fraction)."""
    signals: tuple[str, ...] = SIGNALS
    """Names of the detector's signals, in order."""
    alarm: Alarm | None = None
    """The alarm that stands since the reference was loaded."""
    alarms: list[Alarm] = field(default_factory=list)
    """All alarms ever."""
    announced: bool = True
    """Whether the alarm that stands is on record in the log of decisions."""
    corrections_at_alarm: int = 0
    """Last correction in the store when the alarm was announced."""
    review: list[str] = field(default_factory=list)
    """Latest calls that were put up for review, oldest first."""
    reason: str = ""
    """Reason of the last decision about a retrain, so that each reason is recorded once."""
    share: float = 0.0
    """Share of calls put up for review."""

    @property
    def detector(self) -> NDArray[np.float64]:
        """The statistic as an array."""
        return np.array(self.statistic)

    def reset(self, champion: str | None, at: str) -> None:
        """Begin anew with another champion; what was counted and alarmed stays on record.

        Calls that the old champion has begun are left out: half of them says nothing.
        """
        self.champion, self.champion_since = champion, at
        self.book.open.clear()
        self.calls_since_reference = 0
        self.statistic = detectors.initial(len(SIGNALS)).tolist()
        self.signals = SIGNALS
        self.alarm, self.announced, self.corrections_at_alarm = None, True, 0


_ADAPTER: TypeAdapter[State] = TypeAdapter(State)


class StateStore:
    """Keeps the state as one JSON object."""

    def __init__(self, objects: ObjectStore, bucket: str) -> None:
        self._objects = objects
        self._uri = f"s3://{bucket}/monitor/state.json"
        self._saved = b""

    def save(self, state: State) -> None:
        """Replace the stored state, if it has changed since it was last saved here."""
        body = _ADAPTER.dump_json(state)
        if body != self._saved:
            self._objects.put(self._uri, body, content_type="application/json")
            self._saved = body

    def load(self, policy: MonitorPolicy) -> State:
        """The stored state, or a fresh one, under the given policy. Raises IntegrityError."""
        book = CallBook(
            close_after_calls=policy.close_after_calls, idle_seconds=policy.idle_seconds
        )
        try:
            state = _ADAPTER.validate_json(self._objects.get(self._uri))
        except NotFound:
            return State(book=book, share=policy.review_share)
        except ValidationError as error:
            raise IntegrityError(
                f"The monitor's state at {self._uri} cannot be read "
                f"({error.errors()[0]['msg']}); delete the object to begin with fresh detectors."
            ) from error
        state.book.close_after_calls = book.close_after_calls
        state.book.idle_seconds = book.idle_seconds
        if state.signals != SIGNALS or len(state.statistic) != len(SIGNALS):
            state.reset(None, state.champion_since)
        return state
