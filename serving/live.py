"""The one path of live audio, whichever protocol it came by: admit, recognise, count, log.

Each version in service has an engine in which its streams share every step. A conversation stays
on the version that it began with; the engine of a version that serves no more goes on until its
last stream has ended.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from hearloop.audio import Samples
from hearloop.errors import Overloaded, ServiceUnavailable
from hearloop.features import FRAME_SECONDS, HOP, SAMPLE_RATE, WINDOW
from hearloop.recogniser import Recogniser
from hearloop.streaming import (
    Ended,
    Engine,
    Event,
    Heard,
    LiveStream,
    Partial,
    StreamOptions,
)
from hearloop.streaming import (
    Final as FinalResult,
)
from hearloop.streaming.chunks import CHUNK_FRAMES
from hearloop.tokenizer import Tokenizer
from serving import metrics
from serving.caller import Caller
from serving.recording import Recording
from serving.request_log import Answered, RequestLog
from serving.tallies import Outcome, Session
from serving.versions import Versions

__all__ = ["Conversation", "Live", "Told"]

LATE_S: Final = 0.12
"""Mean delay of results, by our fault, beyond which new streams are refused: those that were
accepted are to have theirs within 0.3 s, of which 0.16 s are the wait for the chunk to be whole."""

WATCHED_S: Final = 1.0
"""Time over which that mean is taken, the last moments weighing most."""

AHEAD_S: Final = 1.0
"""A caller who has sent so much more audio than time has passed is sending a recording: its delay
is its own doing."""

EDGE_S: Final = (WINDOW - HOP) / 2 / SAMPLE_RATE
"""Audio beyond a chunk that its last frame needs."""

CHUNK_S: Final = CHUNK_FRAMES * FRAME_SECONDS
"""Audio of a step of the recogniser."""

SPARE: Final = 32
"""Streams of an engine beside those that are admitted: a conversation that changes its options
has two for a moment."""

LAST_SECONDS: Final = 5.0
"""For the last results of streams that were told to finish."""

MANY: Final = "The server has {} live streams and takes no more for the moment; try again in 1 s."

Told = Callable[[Event, float], None]
"""What hears of events, in the event loop's thread: an event, and the second of the conversation
that its times count from."""

log = logging.getLogger(__name__)


class Live:
    """All live conversations of the server. To be used in the event loop's thread alone."""

    def __init__(self, versions: Versions, request_log: RequestLog, most_streams: int) -> None:
        self.request_log = request_log
        self._versions = versions
        self._most_streams = most_streams
        self._engines: dict[Recogniser, Engine] = {}
        self._conversations: set[Conversation] = set()
        self._stopping = False
        self._late_s, self._watched = 0.0, -math.inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[Callable[[Event], None], Event]] = deque()
        self._woken = False
        metrics.CHUNKS_WAITING.set_function(lambda: self.chunks_waiting)

    @property
    def chunks_waiting(self) -> int:
        """Chunks that have arrived and are not recognised. From any thread."""
        return sum(int(one.waiting_s / CHUNK_S) for one in list(self._conversations))

    def admit(self, caller: Caller, told: Told) -> "Conversation":
        """Begin a conversation. Raises NoModel, Overloaded, or ServiceUnavailable when stopping."""
        if self._stopping:
            raise ServiceUnavailable("The server is stopping; connect again.")
        self._loop = asyncio.get_running_loop()
        session, recogniser = self._versions.choose(caller.call, caller.request_id)
        engine = self._engine(recogniser)
        late = self._late_s > LATE_S and time.monotonic() - self._watched < WATCHED_S
        if late or len(self._conversations) >= self._most_streams:
            raise Overloaded(MANY.format(len(self._conversations)), retry_after_s=1.0)
        conversation = Conversation(self, engine, session, caller, told, recogniser.tokenizer)
        self._conversations.add(conversation)
        metrics.LIVE_STREAMS.inc()
        return conversation

    def _engine(self, recogniser: Recogniser) -> Engine:
        if recogniser not in self._engines:
            most = self._most_streams + SPARE
            self._engines[recogniser] = Engine(recogniser, most_streams=most)
        return self._engines[recogniser]

    def left(self, conversation: "Conversation") -> None:
        """A conversation has ended."""
        if conversation in self._conversations:
            self._conversations.discard(conversation)
            metrics.LIVE_STREAMS.dec()
            self._retire()

    def _retire(self) -> None:
        """End the engines of versions that serve no more, once they have no streams."""
        held = set(self._versions.held().values())
        used = {one.engine for one in self._conversations}
        for recogniser, engine in list(self._engines.items()):
            if recogniser not in held and engine not in used:
                del self._engines[recogniser]
                asyncio.get_running_loop().run_in_executor(None, engine.close, LAST_SECONDS)

    def pass_on(self, handler: Callable[[Event], None], event: Event) -> None:
        """Bring an event from an engine's thread to the loop's; one wake-up serves many."""
        self._waiting.append((handler, event))
        if not self._woken:
            self._woken = True
            assert self._loop
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        while self._waiting:
            handler, event = self._waiting.popleft()
            try:
                handler(event)
            except Exception:  # one conversation's trouble is no other's
                log.exception("An event of a live stream was not delivered")

    def count(self, session: Session, outcome: Outcome, seconds: float) -> None:
        """Count one utterance of a conversation, as evidence for rollouts and for the metrics."""
        self._versions.count(session, outcome, seconds)
        metrics.REQUESTS.labels(session.version, outcome).inc()
        if outcome == "empty":
            metrics.EMPTY_RESULTS.inc()

    def observe(self, late_s: float) -> None:
        """How late the results of a step came, counted from the arrival of all that it needed."""
        now = time.monotonic()
        fades = math.exp((self._watched - now) / WATCHED_S)
        self._late_s, self._watched = fades * self._late_s + (1.0 - fades) * late_s, now

    async def drain(self, seconds: float) -> None:
        """Take no new conversations, wait for the live ones, then finish what is left."""
        self._stopping = True
        await self._until_empty(seconds)
        for conversation in list(self._conversations):
            conversation.finish()
        await self._until_empty(LAST_SECONDS)
        for engine in self._engines.values():
            await asyncio.to_thread(engine.close, 0.0)

    async def _until_empty(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._conversations and time.monotonic() < deadline:
            await asyncio.sleep(0.05)


class Conversation:
    """One caller's live audio. Each set of options has a stream of the engine, one at a time."""

    def __init__(
        self,
        live: Live,
        engine: Engine,
        session: Session,
        caller: Caller,
        told: Told,
        tokenizer: Tokenizer,
    ) -> None:
        self.engine = engine
        self.caller = caller
        self.tokenizer = tokenizer
        """Of the version that listens."""
        self.options = StreamOptions()
        self.utterances = 0
        self._live = live
        self._session = session
        self._told = told
        self._turn: _Turn | None = None
        self._heard_s = 0.0
        """Seconds of audio in the streams that have ended."""

    @property
    def version(self) -> str:
        """The model version that listens."""
        return self._session.version

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that have not been recognised: the sender is faster than speech."""
        return self._turn.stream.waiting_s if self._turn else 0.0

    @property
    def unanswered_s(self) -> float:
        """Seconds of audio since the last final result."""
        return self._turn.recording.held_s if self._turn else 0.0

    def listen(self, options: StreamOptions) -> None:
        """Listen with other options from here on; what was said before is finished."""
        if options != self.options and self._turn:
            self._end_turn(self._turn.stream.finish)
        self.options = options

    def accept(self, samples: Samples) -> None:
        """Take the next (n,) samples at 16 kHz. Raises Overloaded, InvalidAudio."""
        if self._turn is None:
            self._turn = _Turn(self._live, self, self._session, self._told, self._heard_s)
        self._turn.accept(samples)

    def commit(self) -> None:
        """End the utterance here."""
        if self._turn:
            self._turn.committed_at = time.monotonic()
            self._turn.stream.commit()

    def clear(self) -> None:
        """Forget the utterance that is being spoken."""
        if self._turn:
            self._end_turn(self._turn.stream.close)

    def finish(self) -> None:
        """No more audio follows: the last results come, then Ended."""
        if self._turn:
            self._turn.stream.finish()
        else:
            self._told(Ended(), self._heard_s)

    def leave(self) -> None:
        """The caller is gone; what was said is still recognised, and logged."""
        self._told = _nobody
        if self._turn:
            self._turn.told = _nobody
        self.finish()
        self._live.left(self)

    def _end_turn(self, end: Callable[[], None]) -> None:
        assert self._turn
        self._heard_s += self._turn.recording.total_s
        self._turn.is_last = False
        self._turn = None
        end()


def _nobody(event: Event, base_s: float) -> None:
    """Hears of the events of a caller who is gone."""


class _Turn:
    """One stream of the engine."""

    def __init__(
        self, live: Live, conversation: Conversation, session: Session, told: Told, base_s: float
    ) -> None:
        self.told = told
        self.recording = Recording()
        self.committed_at: float | None = None
        self.is_last = True
        """Whether the conversation ends with this stream."""
        self._live = live
        self._conversation = conversation
        self._session = session
        self._base_s = base_s
        self._first_speech = True
        self._began = time.monotonic()
        self.stream: LiveStream = conversation.engine.open(
            lambda event: live.pass_on(self._hear, event),
            options=conversation.options,
            admitted=True,
        )

    def accept(self, samples: Samples) -> None:
        self.recording.add(samples, time.monotonic())
        self.stream.accept(samples)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Heard):
            now = time.monotonic()
            if self.recording.total_s < now - self._began + AHEAD_S:
                self._live.observe(now - self.recording.arrived(event.heard_s + EDGE_S))
        elif isinstance(event, Partial):
            arrived = self.recording.arrived(event.heard_s)
            metrics.PARTIAL_LATENCY.observe(time.monotonic() - arrived)
            if self._first_speech and event.words:
                self._first_speech = False
                spoke_at = self.recording.arrived(event.words[0].start_s)
                metrics.TIME_TO_FIRST_WORD.observe(time.monotonic() - spoke_at)
        elif isinstance(event, FinalResult):
            self._answer(event)
        elif isinstance(event, Ended):
            if event.error is not None:
                self._live.count(self._session, "failed", 0.0)
            if not self.is_last:
                return
        self.told(event, self._base_s)

    def _answer(self, event: FinalResult) -> None:
        """Count and log an utterance that is over."""
        began = self.committed_at or self.recording.arrived(event.end_s)
        self.committed_at = None
        seconds = max(0.0, time.monotonic() - began)
        metrics.FINAL_LATENCY.observe(seconds)
        metrics.FINAL_WORDS.inc(len(event.transcript.words))
        metrics.REVISED_WORDS.inc(event.revised_words)
        engine = self._conversation.engine
        metrics.REAL_TIME_FACTOR.observe(engine.load / max(1, engine.live))
        self._live.count(self._session, "answered" if event.transcript.text else "empty", seconds)
        samples = self.recording.take(event.start_s, event.end_s)
        self._conversation.utterances += 1
        caller = self._conversation.caller
        if not len(samples):
            return
        self._live.request_log.put(
            Answered(
                caller=replace(
                    caller,
                    request_id=f"{caller.request_id}-{self._conversation.utterances}",
                    call=caller.call or caller.request_id,
                ),
                model_version=self._session.version,
                samples=samples,
                transcript=event.transcript,
                received_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
        )
