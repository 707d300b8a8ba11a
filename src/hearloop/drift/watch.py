"""The monitor's use case: read the log, compare calls, ask for labels, start a retrain.

`Watch` gathers evidence and carries decisions out; what is decided lies in the pure functions of
`detectors`, `harm` and `policy`. One thread calls `listen` and `decide` in turn.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from hearloop import audio, quality
from hearloop.drift import detectors, signals
from hearloop.drift.champion import Champion, Champions, load
from hearloop.drift.policy import Evidence, MonitorPolicy, ask_for_review, review_share
from hearloop.drift.retrain import Corrections, Retrains
from hearloop.drift.runs import Run, Runs
from hearloop.drift.signals import SIGNALS, ClosedCall
from hearloop.drift.state import Alarm, StateStore
from hearloop.drift.status import describe
from hearloop.errors import IntegrityError, InvalidInput, NotFound
from hearloop.events import Transcription
from hearloop.ports import DecisionLog, Event, EventReader, ObjectStore, PipelineLauncher
from hearloop.recipe import Recipe

__all__ = ["Outside", "Watch"]

log = logging.getLogger(__name__)

CHAMPION_SECONDS = 1.0
"""Between two looks for a new champion while a canary answers too."""

REVIEW_CALLS = 200
"""Calls put up for review that the status lists."""


@dataclass(frozen=True, kw_only=True)
class Outside:
    """All that the monitor talks to, and its clocks."""

    reader: EventReader
    objects: ObjectStore
    champions: Champions
    corrections: Corrections
    decisions: DecisionLog
    launcher: PipelineLauncher
    rollout_outcome: Callable[[str], str | None]
    """How the rollout of a pipeline run ended; None when it rolled nothing out."""
    bucket: str
    """Where the monitor keeps its state and its claims."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    """Seconds; measures only the silence of the log."""


class Watch:
    """Watches one deployment."""

    def __init__(self, outside: Outside, *, recipe: Recipe, policy: MonitorPolicy) -> None:
        self._outside = outside
        self._policy = policy
        self._states = StateStore(outside.objects, outside.bucket)
        self._state = self._states.load(policy)
        self._retrains = Retrains(
            corrections=outside.corrections,
            decisions=outside.decisions,
            launcher=outside.launcher,
            rollout_outcome=outside.rollout_outcome,
            runs=Runs(outside.objects, outside.bucket),
            recipe=recipe,
            policy=policy,
            now=outside.now,
        )
        self._pending: list[Event] = []
        self._heard_at = dict.fromkeys(self._state.book.latest, outside.monotonic())
        self._looked_at = -math.inf
        self._champion: Champion | None = None
        self._evidence: Evidence | None = None
        self._runs: list[Run] = []
        self._decided_at: datetime | None = None
        if self._state.champion is not None:
            self._champion = load(self._state.champion, outside.champions, policy)
        self._status = self._describe()

    def status(self) -> dict[str, Any]:
        """What the monitor knew at the end of its last look, as JSON values.

        May be called from any thread.
        """
        return self._status

    def listen(self, seconds: float) -> int:
        """Deal with what arrives within `seconds`; returns the number of events.

        After ServiceUnavailable call it again: what was not dealt with is kept.
        """
        if not self._pending:
            self._pending = list(self._outside.reader.poll(seconds))
        dealt_with = len(self._pending)
        while self._pending:
            self._hear(self._pending[0])
            del self._pending[0]
        closed = self._state.book.advance(self._silence())
        for call in closed:
            self._watch_call(call)
        if dealt_with or closed:
            self._states.save(self._state)
            self._outside.reader.commit()
        self._status = self._describe()
        return dealt_with

    def decide(self) -> None:
        """Look for a new champion, follow runs in flight, and decide about a retrain."""
        self._look_for_champion()
        if self._state.alarm is not None and not self._state.announced:
            self._announce(self._state.alarm)
        self._runs = self._retrains.follow(self._state.champion)
        wer = self._champion.wer if self._champion else None
        self._evidence = self._retrains.consider(self._state, self._runs, wer)
        self._set_review_share(review_share(self._evidence, self._policy))
        self._states.save(self._state)
        self._decided_at = self._outside.now()
        self._status = self._describe()

    def _describe(self) -> dict[str, Any]:
        return describe(
            self._state,
            self._champion,
            self._policy,
            evidence=self._evidence,
            decided_at=self._decided_at,
            runs=self._runs,
        )

    def _silence(self) -> dict[int, float]:
        now = self._outside.monotonic()
        return {partition: now - heard for partition, heard in self._heard_at.items()}

    def _hear(self, event: Event) -> None:
        counts = self._state.counts
        try:
            said = Transcription.from_json(event.value)
        except InvalidInput as error:
            counts.malformed += 1
            log.warning("Event %s/%d/%d: %s", event.topic, event.partition, event.offset, error)
            return
        if said.model_version != self._state.champion:
            self._look_for_champion(at_most_every=CHAMPION_SECONDS)
        if said.model_version != self._state.champion:
            counts.other_version += 1
            return
        closed = self._state.book.add(
            call=said.call,
            partition=event.partition,
            event=said.event_id,
            at=datetime.fromisoformat(said.received_at).timestamp(),
            signals=self._measure(said),
        )
        counts.events += 1
        self._heard_at[event.partition] = self._outside.monotonic()
        for call in closed:
            self._watch_call(call)

    def _measure(self, said: Transcription) -> dict[str, float]:
        """All signals of an utterance; without readable audio those of the answer alone."""
        try:
            heard = audio.decode(self._outside.objects.get(said.audio_uri))
            measured = quality.measure(heard.samples)
        except (NotFound, IntegrityError, InvalidInput) as error:
            self._state.counts.unreadable += 1
            log.warning("The audio of request %s cannot be measured: %s", said.request_id, error)
            return signals.recogniser_signals(
                text=said.text, confidence=said.confidence, seconds=said.audio_seconds
            )
        return signals.utterance(measured, text=said.text, confidence=said.confidence)

    def _watch_call(self, call: ClosedCall) -> None:
        state = self._state
        state.calls += 1
        state.calls_since_reference += 1
        if ask_for_review(call.call, state.share):
            state.review = [*state.review, call.call][-REVIEW_CALLS:]
        comparison = self._champion.comparison if self._champion else None
        if comparison is None:
            return
        size = min(call.size, comparison.size)
        statistic = detectors.step(state.detector, comparison.bets(call.means(size), size))
        state.statistic = statistic.tolist()
        if state.alarm is None and detectors.combined(statistic) >= self._policy.arl_calls:
            self._raise_alarm()

    def _raise_alarm(self) -> None:
        """Note the alarm. It is announced by `decide`, for a database that is away must neither
        stop the listening nor lose the alarm."""
        state = self._state
        parts = dict(zip(SIGNALS, detectors.by_signal(state.detector).tolist(), strict=True))
        total = sum(parts.values())
        state.alarm = Alarm(
            call_number=state.calls,
            since_reference=state.calls_since_reference,
            model_version=str(state.champion),
            raised_at=self._outside.now().isoformat(),
            statistic=total,
            signals={
                name: part / total
                for name, part in sorted(parts.items(), key=lambda item: -item[1])
            },
        )
        state.alarms.append(state.alarm)
        state.announced = False

    def _announce(self, alarm: Alarm) -> None:
        loudest = ", ".join(list(alarm.signals)[:3])
        log.warning("Shift alarm at call %d: %s", alarm.call_number, loudest)
        self._state.corrections_at_alarm = self._outside.corrections.last()
        self._outside.decisions.append(
            kind="shift",
            subject=alarm.model_version,
            decision="ask for labels",
            reason=f"After {alarm.since_reference} calls the speech differs from the champion's "
            f"reference, most of all in {loudest}.",
            evidence=asdict(alarm),
            identity=f"shift-{alarm.model_version}-{alarm.call_number}",
        )
        self._state.announced = True

    def _look_for_champion(self, *, at_most_every: float = 0.0) -> None:
        now = self._outside.monotonic()
        if now - self._looked_at < at_most_every:
            return
        champion = self._outside.champions.champion()
        self._looked_at = now
        if champion != self._state.champion:
            self._change_champion(champion)

    def _change_champion(self, version: str | None) -> None:
        """Compare with another champion from now on; nothing has changed where this raises."""
        champion = None
        if version is not None:
            champion = load(version, self._outside.champions, self._policy)
            self._outside.decisions.append(**champion.decision())
        self._champion = champion
        self._state.reset(version, self._outside.now().isoformat())

    def _set_review_share(self, share: float) -> None:
        if share == self._state.share:
            return
        raised = share > self._state.share
        self._outside.decisions.append(
            kind="review",
            subject=str(self._state.champion),
            decision=f"put up {share:.0%} of calls",
            reason="a shift alarm stands and no label has cleared it"
            if raised
            else "no shift alarm stands that labels have not cleared",
            evidence={"before": self._state.share, "after": share},
        )
        self._state.share = share
