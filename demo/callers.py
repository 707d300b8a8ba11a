"""People who call: they speak to the endpoint as a product team's program would."""

import io
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from demo.scenario import Callers
from hearloop.audio import encode_flac
from hearloop.corpora.synthetic import calls
from hearloop.telemetry import Progress, Silent

__all__ = ["Answer", "Line", "Said", "Traffic", "spoken"]

TRANSCRIPTIONS = "/openai/v1/audio/transcriptions"
ANSWER_WITHIN_S = 30.0
"""Seconds until a caller gives up; that counts as a failed request."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """One utterance that somebody is going to say."""

    call: str
    speaker: str
    accent: str
    reference: str
    audio: bytes = field(repr=False)
    """FLAC."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the endpoint answered to one utterance, or why it did not."""

    said: Said
    call: str
    at: datetime
    milliseconds: float
    request_id: str = ""
    model_version: str = ""
    text: str = ""
    confidence: float = 0.0
    failure: str = ""
    """Empty when the endpoint answered."""


def spoken(callers: Callers, progress: Progress | None = None) -> list[list[Said]]:
    """Speak a group's calls: a list of utterances for each call, in a fixed order."""
    watched = progress or Silent()
    spoken_calls = []
    for call in calls(callers.corpus, callers.split, callers.calls, callers.utterances_per_call):
        spoken_calls.append(
            [
                Said(
                    call=call.call,
                    speaker=call.speaker,
                    accent=call.accent,
                    reference=text,
                    audio=encode_flac(samples),
                    seconds=len(samples) / 16_000,
                )
                for text, samples in call.utterances
            ]
        )
        watched.advance()
    return spoken_calls


class Line:
    """A telephone line to the endpoint. Safe to share between threads."""

    def __init__(self, serving_url: str, headers: Mapping[str, str] | None = None) -> None:
        """`headers`: with a token, where the server asks for one."""
        self._client = httpx.Client(base_url=serving_url, headers=headers, timeout=ANSWER_WITHIN_S)

    def ask(self, said: Said, *, call: str | None = None) -> Answer:
        """Say one utterance. A failure is an answer too: it is counted, never raised."""
        name = call or said.call
        began = time.perf_counter()
        at = datetime.now(UTC)
        try:
            response = self._client.post(
                TRANSCRIPTIONS,
                headers={"x-hearloop-call": name, "x-hearloop-speaker": said.speaker},
                files={"file": ("utterance.flac", io.BytesIO(said.audio), "audio/flac")},
            )
            body = response.raise_for_status().json()
            return Answer(
                said=said,
                call=name,
                at=at,
                milliseconds=_since(began),
                request_id=body["request_id"],
                model_version=body["model_version"],
                text=body["text"],
                confidence=body["confidence"],
            )
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:  # or a strange body
            return Answer(
                said=said, call=name, at=at, milliseconds=_since(began), failure=repr(error)
            )

    def converse(
        self, spoken_calls: Iterable[Sequence[Said]], *, at_once: int, progress: Progress
    ) -> Iterator[list[Answer]]:
        """Hold calls, `at_once` of them side by side; a call's utterances follow each other."""

        def hold(call: Sequence[Said]) -> list[Answer]:
            return [self.ask(said) for said in call]

        with ThreadPoolExecutor(at_once) as pool:
            for answers in pool.map(hold, spoken_calls):
                progress.advance()
                yield answers

    def close(self) -> None:
        """Hang up."""
        self._client.close()


class Traffic:
    """Callers who keep calling in the background, one utterance after the other.

    They repeat the same recordings as new calls; `pause_s` is how long a caller waits between two
    utterances. It may be set at any time, so that traffic can be light while a model trains.
    """

    def __init__(
        self, line: Line, spoken_calls: Sequence[Sequence[Said]], *, callers: int, pause_s: float
    ) -> None:
        self.answers: list[Answer] = []
        self.pause_s = pause_s
        self._line = line
        self._spoken = spoken_calls
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep_calling, args=(number, callers), daemon=True)
            for number in range(callers)
        ]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _keep_calling(self, number: int, callers: int) -> None:
        lap = 0
        while True:
            for call in self._spoken[number::callers]:
                for said in call:
                    self.answers.append(self._line.ask(said, call=f"{said.call}-lap{lap}"))
                    if self._stop.wait(self.pause_s):
                        return
            lap += 1


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
