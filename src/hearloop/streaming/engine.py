"""Many live streams share each step of the graph: continuous batching.

One thread gathers the streams that have a chunk of audio ready, computes their features together,
runs the graph once for all of them, and tells each listener what is new. Streams come and go
between steps; nobody waits for anybody else's audio.
"""

import logging
import threading
import time
from typing import Final

import numpy as np

from hearloop import decoding
from hearloop.errors import InvalidAudio, Overloaded, ServiceUnavailable
from hearloop.features import (
    FRAME_SECONDS,
    MEL_BINS,
    SAMPLE_RATE,
    WINDOW,
    Samples,
    cut,
    log_mel_windows,
)
from hearloop.recogniser import Recogniser
from hearloop.streaming.channel import Channel, Listener, Mark
from hearloop.streaming.options import StreamOptions

__all__ = ["Engine", "LiveStream"]

log = logging.getLogger(__name__)

_GATHER_S: Final = 0.0002
"""Pause between two steps for each live stream: more of them get ready for the same step."""
_LONGEST_PAUSE_S: Final = 0.02
"""A fraction of what a listener would notice."""
_FULL: Final = 0.9
"""Share of real time that steps may take; beyond it new streams would slow down the others."""
_RETRY_S: Final = 1.0
"""How soon another stream may try: many last seconds only."""
_SMOOTHING: Final = 256
"""Chunks over which the cost of a chunk is averaged: a second and a half of thirty streams."""


class Engine:
    """Recognises up to `most_streams` live streams in a thread of its own."""

    def __init__(self, recogniser: Recogniser, *, most_streams: int) -> None:
        self._recogniser = recogniser
        self._chunk_frames = recogniser.bundle.architecture.chunk_frames
        self._most_streams = most_streams
        self._states = recogniser.graph.initial_states(most_streams)
        self._free = list(range(most_streams))[::-1]
        self._channels: set[Channel] = set()
        self._awake: dict[Channel, None] = {}
        self._changed = threading.Condition(threading.RLock())
        self._open = True
        self._stopping = False
        self._cost_s = 0.0
        self._thread = threading.Thread(target=self._run, name="streaming", daemon=True)
        self._thread.start()

    @property
    def live(self) -> int:
        """Streams that have not ended."""
        return len(self._channels)

    @property
    def load(self) -> float:
        """Share of real time that the live streams need; at 1 they would fall behind."""
        return self._cost_s * self.live / (self._chunk_frames * FRAME_SECONDS)

    def open(
        self, listener: Listener, *, options: StreamOptions | None = None, admitted: bool = False
    ) -> "LiveStream":
        """Begin a stream; `listener` is called in the engine's thread and must not block.

        `admitted`: the caller has looked at the load before, and keeps to what it promised.

        Raises Overloaded when there are as many streams as the engine can keep up with, and
        ServiceUnavailable when it is closing.
        """
        with self._changed:
            if not self._open:
                raise ServiceUnavailable("The recogniser is stopping; connect again.")
            if not self._free or (self.load > _FULL and not admitted):
                raise Overloaded(
                    f"The recogniser has {self.live} live streams and takes no more for the "
                    f"moment; try again in {_RETRY_S:g} s.",
                    retry_after_s=_RETRY_S,
                )
            channel = Channel(
                self._free.pop(),
                listener,
                options or StreamOptions(),
                self._recogniser,
            )
            self._channels.add(channel)
        return LiveStream(self, channel)

    def close(self, drain_s: float) -> None:
        """Take no new streams, wait up to `drain_s` for the live ones, then finish the rest.

        Each of them gets its last Final, then Ended.
        """
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: not self._channels, timeout=drain_s)
            self._stopping = True
            for channel in self._channels:
                self._put(channel, Mark.FINISH)
            self._changed.notify_all()
        self._thread.join()

    def _put(self, channel: Channel, item: Samples | Mark) -> None:
        """Put an item into an inbox, and wake the engine when it makes a difference."""
        with self._changed:
            if channel.ended:
                return
            channel.put(item)
            if channel.due():
                self._awake[channel] = None
                self._changed.notify_all()

    def _abandon(self, channel: Channel) -> None:
        with self._changed:
            channel.ended = True
            if channel in self._channels:  # or else it has been let go, and its place with it
                self._awake[channel] = None
                self._changed.notify_all()

    # The engine's thread.

    def _run(self) -> None:
        while channels := self._gather():
            began = time.perf_counter()
            try:
                self._step([channel for channel in channels if not channel.ended])
            except Exception:
                log.exception("A step of %d streams failed", len(channels))
                self._give_up(channels)
            took_s = time.perf_counter() - began
            weight = min(1.0, len(channels) / _SMOOTHING)
            self._cost_s += weight * (took_s / len(channels) - self._cost_s)
            self._settle(channels)
            if self.live > 1 and len(self._awake) < self.live / 2:
                time.sleep(min(_GATHER_S * self.live, _LONGEST_PAUSE_S))

    def _gather(self) -> list[Channel]:
        """Wait until streams have something to do, and take what has arrived for them."""
        with self._changed:
            self._changed.wait_for(lambda: self._awake or (self._stopping and not self._channels))
            channels = list(self._awake)
            self._awake.clear()
            for channel in channels:
                channel.drain()
            return channels

    def _step(self, channels: list[Channel]) -> None:
        """One chunk of each stream that has one."""
        self._take_features(channels)
        ready = [channel for channel in channels if channel.chunker.pending]
        if ready:
            self._recognise(ready)
        for channel in channels:
            channel.settle()

    def _take_features(self, channels: list[Channel]) -> None:
        idle = [channel for channel in channels if not channel.chunker.pending]
        spans = [
            (channel, span) for channel in idle if (span := channel.chunker.span()) is not None
        ]
        if not spans:
            return
        # Joined, not stacked: for arrays this small that takes half the time.
        heard = np.concatenate([span for _, span in spans]).reshape(len(spans), -1)
        windows = cut(heard).reshape(-1, WINDOW)
        rows = log_mel_windows(windows).reshape(len(spans), self._chunk_frames, MEL_BINS)
        for (channel, span), matrix in zip(spans, rows, strict=True):
            channel.chunker.take(matrix, span)

    def _recognise(self, channels: list[Channel]) -> None:
        chunks = [channel.chunker.pending.popleft() for channel in channels]
        if not self._recogniser.bundle.architecture.streaming:
            for channel, chunk in zip(channels, chunks, strict=True):
                channel.keep(chunk)
            return
        slots = np.array([channel.slot for channel in channels])
        new = [channel.slot for channel, chunk in zip(channels, chunks, strict=True) if chunk.first]
        for state in self._states if new else ():
            state[new] = 0.0
        states = tuple(state.take(slots, axis=0) for state in self._states)
        rows = [chunk.rows for chunk in chunks]
        x = np.concatenate(rows).reshape(len(rows), *rows[0].shape)
        if self._recogniser.rescorer:
            log_probs, after, encoded = self._recogniser.graph.step(x, states)
        else:
            (log_probs, after), encoded = self._recogniser.graph.run(x, states), None
        for state, update in zip(self._states, after, strict=True):
            state[slots] = update
        paths = log_probs.argmax(axis=2).tolist()
        certainties = decoding.certainty(log_probs).tolist()
        heard = [None] * len(chunks) if encoded is None else encoded
        for channel, chunk, *outputs in zip(
            channels, chunks, log_probs, paths, certainties, heard, strict=True
        ):
            channel.answer(chunk, *outputs)

    def _give_up(self, channels: list[Channel]) -> None:
        error = ServiceUnavailable("The recogniser failed on this stream; connect again.")
        for channel in channels:
            channel.end(error)

    def _settle(self, channels: list[Channel]) -> None:
        """Let the ended streams go, and see who has more to do."""
        with self._changed:
            for channel in channels:
                if channel.ended:
                    self._channels.discard(channel)
                    self._free.append(channel.slot)
                    self._awake.pop(channel, None)
                    self._changed.notify_all()
                elif channel.due():
                    self._awake[channel] = None


class LiveStream:
    """One live stream of an engine. Safe to use from several threads; nothing here blocks."""

    def __init__(self, engine: Engine, channel: Channel) -> None:
        self._engine = engine
        self._channel = channel

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that wait for a step: a sender that is too fast should pause."""
        return self._channel.inbox_samples / SAMPLE_RATE

    def accept(self, samples: Samples) -> None:
        """Take the next (n,) samples at 16 kHz, -1 to 1; any n. Raises InvalidAudio."""
        samples = np.array(samples, dtype=np.float32)  # the caller may reuse its buffer
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise InvalidAudio(
                f"The samples have shape {samples.shape} or are not all finite; send mono audio, "
                "-1 to 1."
            )
        self._engine._put(self._channel, samples)

    def commit(self) -> None:
        """End the utterance here: a Final follows, with an empty text if nobody spoke."""
        self._engine._put(self._channel, Mark.COMMIT)

    def finish(self) -> None:
        """No more audio follows: the last Final comes, then Ended."""
        self._engine._put(self._channel, Mark.FINISH)

    def close(self) -> None:
        """Abandon the stream: no more events, not even Ended."""
        self._engine._abandon(self._channel)
