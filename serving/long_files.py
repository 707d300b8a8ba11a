"""Files longer than an utterance: decoded and recognised block by block, in bounded memory.

One at a time, with less priority than callers who wait for a word. What is said between two pauses
is logged as an utterance of its own, so that it can be corrected.
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

from opentelemetry.trace import Span

from hearloop.audio import Samples
from hearloop.errors import HearloopError, InvalidAudio, ServiceUnavailable
from hearloop.hotwords import compiled
from hearloop.streaming import Segment, transcribe_long
from serving import metrics, tracing
from serving.caller import Caller
from serving.phrases import Phrases
from serving.refusals import Busy, RecognitionFailed
from serving.request_log import Answered, RequestLog
from serving.tallies import Outcome, Session
from serving.transcriber import Answer, Utterance
from serving.versions import Versions

__all__ = ["LongFiles", "Work"]

LOOK_S: Final = 0.5
"""Between two looks whether the caller is still there."""

MOST_WAITING: Final = 4
"""Long files that may wait for the one before: a few minutes."""

NICENESS: Final = 10
"""Of the thread that recognises them, as `nice` has it: live streams come first."""

Told = Callable[[Utterance], None]
"""Hears of each utterance as it is found, in another thread; raises Left to end the work."""

LONGEST_COUNTED_S: Final = 1.0
"""Of the time that a file takes, as evidence about a version: more says how long the file was."""

log = logging.getLogger(__name__)


class Left(HearloopError):
    """Whoever asked is gone: nobody reads this."""


def _stopping() -> ServiceUnavailable:
    return ServiceUnavailable(
        "The server stops before the recording is transcribed; send it again, another one answers."
    )


class LongFiles:
    """Answers long files in a thread of its own. `blocks`: decodes a file, block by block."""

    def __init__(
        self,
        versions: Versions,
        request_log: RequestLog,
        blocks: Callable[[BinaryIO], Generator[Samples]],
        phrases: Phrases,
    ) -> None:
        self._versions = versions
        self._request_log = request_log
        self._blocks = blocks
        self._phrases = phrases
        self._pool = ThreadPoolExecutor(1, "long-files", initializer=_yield_to_others)
        self._waiting = 0
        self._stopping = False
        self._ended = asyncio.Event()
        """When it is set, what is not done will not be."""

    async def transcribe(
        self, file: BinaryIO, caller: Caller, keywords: Sequence[str], told: Told
    ) -> Answer:
        """Transcribe a file of up to two hours; `keywords` are phrases to expect.

        Raises InvalidAudio, InvalidInput (phrases), ServiceUnavailable (no model, too many waiting,
        or the server stops) or RecognitionFailed.
        """
        if self._stopping:
            raise _stopping()
        if self._waiting > MOST_WAITING:
            raise Busy(
                f"{self._waiting} long recordings are waiting already; try again in a minute.",
                retry_after_s=60.0,
            )
        known = await self._phrases.of(caller)
        self._waiting += 1
        metrics.QUEUE_LENGTH.inc()
        try:
            with tracing.span("long file", caller.trace) as traced:
                return await self._unless_ended(
                    asyncio.get_running_loop().run_in_executor(
                        self._pool, self._answer, file, caller, keywords, known, told, traced
                    )
                )
        finally:
            self._waiting -= 1
            metrics.QUEUE_LENGTH.dec()

    async def drain(self, seconds: float) -> None:
        """Take no more files, and end those that are not done after so many seconds."""
        self._stopping = True
        deadline = time.monotonic() + seconds
        while self._waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self._ended.set()

    async def _unless_ended(self, answer: asyncio.Future[Answer]) -> Answer:
        """The answer. Raises ServiceUnavailable as soon as there will be none."""
        ended = asyncio.ensure_future(self._ended.wait())
        either: set[asyncio.Future[Any]] = {answer, ended}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        if not answer.done():
            answer.cancel()  # one that waits; one under way ends at its next block
            raise _stopping()
        return await answer

    def _heard(self, file: BinaryIO) -> Generator[Samples]:
        """The blocks of a file, as long as somebody will see what comes of them."""
        with closing(self._blocks(file)) as blocks:
            for block in blocks:
                if self._ended.is_set():
                    raise _stopping()
                yield block

    def _answer(
        self,
        file: BinaryIO,
        caller: Caller,
        keywords: Sequence[str],
        known: Mapping[str, float],
        told: Told,
        traced: Span,
    ) -> Answer:
        session, recogniser = self._versions.choose(caller.call, caller.request_id)
        expected = self._phrases.hotwords(keywords, known, caller, recogniser.tokenizer)
        if expected:
            compiled(expected, recogniser.tokenizer)  # the caller's mistakes are no version's
        utterances = _Utterances(self._request_log, caller, session.version, told)
        began = time.monotonic()
        try:
            with tracing.stage("recognise", traced), closing(self._heard(file)) as blocks:
                found = transcribe_long(
                    recogniser, blocks, hotwords=expected, on_segment=utterances.add, threads=1
                )
        except InvalidAudio:
            metrics.REQUESTS.labels("", "refused").inc()
            raise
        except (Left, ServiceUnavailable):
            raise
        except Exception as error:
            self._count(session, "failed", time.monotonic() - began)
            log.exception("Version %s failed on request %s", session.version, caller.request_id)
            raise RecognitionFailed(
                f"The recogniser failed on this recording; report request {caller.request_id}."
            ) from error
        seconds = time.monotonic() - began
        self._count(session, "answered" if found.segments else "empty", seconds)
        metrics.REAL_TIME_FACTOR.observe(seconds / max(1.0, found.seconds))
        return Answer(
            request_id=caller.request_id,
            model_version=session.version,
            transcript=found.transcript,
            audio_seconds=found.seconds,
            utterances=tuple(utterances.found),
        )

    def _count(self, session: Session, outcome: Outcome, seconds: float) -> None:
        """As one request, which a rollout does not hold its length against."""
        self._versions.count(session, outcome, min(seconds, LONGEST_COUNTED_S))
        metrics.REQUESTS.labels(session.version, outcome).inc()
        if outcome == "empty":
            metrics.EMPTY_RESULTS.inc()


class _Utterances:
    """Numbers what is found, tells of it and logs it."""

    def __init__(
        self, request_log: RequestLog, caller: Caller, model_version: str, told: Told
    ) -> None:
        self.found: list[Utterance] = []
        self._request_log = request_log
        self._caller = replace(caller, call=caller.call or caller.request_id)
        self._model_version = model_version
        self._told = told

    def add(self, segment: Segment, samples: Samples) -> None:
        request_id = f"{self._caller.request_id}-{len(self.found) + 1}"
        one = Utterance(
            request_id=request_id,
            start_s=segment.start_s,
            end_s=segment.end_s,
            transcript=segment.transcript,
        )
        self.found.append(one)
        self._told(one)
        self._request_log.put(
            Answered(
                caller=replace(self._caller, request_id=request_id),
                model_version=self._model_version,
                samples=samples,
                transcript=segment.transcript,
                received_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
        )


def _yield_to_others() -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class Work:
    """One long file under way, for the event loop: what is found in it, then its answer."""

    def __init__(
        self, files: LongFiles, file: BinaryIO, caller: Caller, keywords: Sequence[str]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Utterance | None] = asyncio.Queue()
        self._first: Utterance | None = None
        self._left = False
        self._file = os.fdopen(os.dup(file.fileno()), "rb")  # whoever leaves closes the other
        self._task = asyncio.ensure_future(
            files.transcribe(self._file, caller, keywords, self._tell)
        )
        self._task.add_done_callback(self._finish)

    async def begun(self) -> None:
        """Until something is found. Raises what `answer` raises when nothing was."""
        self._first = await self._queue.get()
        if self._first is None:
            self._queue.put_nowait(None)
            await self._task

    async def found(self) -> AsyncIterator[Utterance]:
        """Utterances as they are found, to the last."""
        if self._first is not None:
            yield self._first
        while (one := await self._queue.get()) is not None:
            yield one

    async def answer(self, left: Callable[[], Awaitable[bool]] | None = None) -> Answer:
        """The answer; the work ends early when `left` says that nobody waits for it."""
        while left and not self._task.done():
            await asyncio.wait({self._task}, timeout=LOOK_S)
            if await left():
                self.leave()
        return await self._task

    def leave(self) -> None:
        """Nobody waits any more."""
        self._left = True

    def _tell(self, one: Utterance) -> None:
        if self._left:
            raise Left("Whoever asked is gone.")
        self._loop.call_soon_threadsafe(self._queue.put_nowait, one)

    def _finish(self, task: asyncio.Future[Answer]) -> None:
        self._file.close()
        self._queue.put_nowait(None)
        if not task.cancelled():
            task.exception()  # nobody may ask for it any more
