"""The one path of an utterance, whichever protocol it came by: decode, choose, recognise, log."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from opentelemetry.trace import Span

from hearloop.audio import Audio
from hearloop.decoding import Transcript
from hearloop.errors import InvalidInput
from hearloop.hotwords import Hotword, compiled
from hearloop.recogniser import Recogniser
from serving import metrics, tracing
from serving.caller import CONFIDENCE, MODEL_VERSION, REQUEST_ID, Caller
from serving.phrases import Phrases
from serving.refusals import Busy, RecognitionFailed
from serving.request_log import Answered, RequestLog
from serving.tallies import Outcome, Session
from serving.versions import Versions

__all__ = ["Answer", "Transcriber", "Utterance"]

MOST_WAITING = 64
"""Utterances that may wait for a thread: a few seconds of work for two cores."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """What was said between two pauses of a long recording; times are the recording's."""

    request_id: str
    """What a correction names."""
    start_s: float
    end_s: float
    transcript: Transcript


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a caller gets for one recording, before a protocol dresses it."""

    request_id: str
    model_version: str
    transcript: Transcript
    audio_seconds: float
    utterances: tuple[Utterance, ...] = ()
    """Of a long recording, which is logged utterance by utterance."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with every answer."""
        return {
            REQUEST_ID: self.request_id,
            MODEL_VERSION: self.model_version,
            CONFIDENCE: f"{self.transcript.confidence:.4f}",
        }


class Transcriber:
    """Answers utterances in a pool of threads, so that the event loop never waits for one."""

    def __init__(
        self,
        versions: Versions,
        request_log: RequestLog,
        threads: int,
        decode: Callable[[bytes], Audio],
        phrases: Phrases,
    ) -> None:
        self._versions = versions
        self._decode = decode
        self._phrases = phrases
        self._request_log = request_log
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="recogniser")
        self._waiting = 0

    async def transcribe(
        self, utterance: bytes | Audio, caller: Caller, keywords: Sequence[str] = ()
    ) -> Answer:
        """Transcribe one utterance, encoded or decoded; `keywords` are phrases to expect.

        Raises InvalidAudio, InvalidInput (keywords), ServiceUnavailable (no model, or too many
        waiting) or RecognitionFailed.
        """
        if self._waiting >= MOST_WAITING:
            raise Busy(
                f"{self._waiting} utterances are waiting already; try again in a second.",
                retry_after_s=1.0,
            )
        known = await self._phrases.of(caller)
        self._waiting += 1
        metrics.QUEUE_LENGTH.inc()
        try:
            with tracing.span("utterance", caller.trace) as traced:
                return await asyncio.get_running_loop().run_in_executor(
                    self._pool,
                    self._answer,
                    utterance,
                    caller,
                    keywords,
                    known,
                    time.monotonic(),
                    traced,
                )
        finally:
            self._waiting -= 1
            metrics.QUEUE_LENGTH.dec()

    def _answer(
        self,
        utterance: bytes | Audio,
        caller: Caller,
        keywords: Sequence[str],
        known: Mapping[str, float],
        arrived: float,
        traced: Span,
    ) -> Answer:
        received_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            with tracing.stage("decode", traced):
                audio = self._decode(utterance) if isinstance(utterance, bytes) else utterance
        except InvalidInput:
            metrics.REQUESTS.labels("", "refused").inc()
            raise
        session, recogniser = self._versions.choose(caller.call, caller.request_id)
        with tracing.stage("recognise", traced):
            expected = self._phrases.hotwords(keywords, known, caller, recogniser.tokenizer)
            if expected:
                compiled(expected, recogniser.tokenizer)  # the caller's mistakes are no version's
            version, transcript = self._recognise(audio, session, recogniser, caller, expected)
        metrics.LATENCY.labels(version).observe(time.monotonic() - arrived)
        self._request_log.put(
            Answered(
                caller=caller,
                model_version=version,
                samples=audio.samples,
                transcript=transcript,
                received_at=received_at,
            )
        )
        return Answer(
            request_id=caller.request_id,
            model_version=version,
            transcript=transcript,
            audio_seconds=audio.seconds,
        )

    def _recognise(
        self,
        audio: Audio,
        session: Session,
        recogniser: Recogniser,
        caller: Caller,
        expected: Sequence[Hotword],
    ) -> tuple[str, Transcript]:
        """Recognise with the session's version; where a canary fails, the stable one answers."""
        try:
            return session.version, self._counted(audio, session, recogniser, expected)
        except Exception as error:
            log.exception("Version %s failed on request %s", session.version, caller.request_id)
            stable, fallback = self._versions.stable
            if stable != session.version:
                transcript = fallback.transcribe(audio.samples)
                metrics.REQUESTS.labels(stable, "answered").inc()
                return stable, transcript
            raise RecognitionFailed(
                f"The recogniser failed on this utterance; report request {caller.request_id}."
            ) from error

    def _counted(
        self,
        audio: Audio,
        session: Session,
        recogniser: Recogniser,
        expected: Sequence[Hotword],
    ) -> Transcript:
        """Recognise, and count how the version dealt with it."""
        began = time.monotonic()
        try:
            transcript = recogniser.transcribe(audio.samples, hotwords=expected)
        except Exception:
            self._versions.count(session, "failed", time.monotonic() - began)
            metrics.REQUESTS.labels(session.version, "failed").inc()
            raise
        outcome: Outcome = "answered" if transcript.text else "empty"
        seconds = time.monotonic() - began
        self._versions.count(session, outcome, seconds)
        metrics.REQUESTS.labels(session.version, outcome).inc()
        if audio.seconds > 0:
            metrics.REAL_TIME_FACTOR.observe(seconds / audio.seconds)
        if outcome == "empty":
            metrics.EMPTY_RESULTS.inc()
        return transcript
