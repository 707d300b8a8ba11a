"""One call that is being heard: pieces in, records out."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from hearloop.decoding import transcript
from hearloop.errors import InvalidAudio
from hearloop.features import Samples
from hearloop.streaming import Final, LiveStream
from serving import tracing
from serving.caller import Caller
from serving.calls.engines import Opened
from serving.calls.pieces import Piece, Place, Record
from serving.pcm import Reader
from serving.recording import Recording

__all__ = ["Call", "Published"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the transcripts topic has of a call already."""

    utterances: int = 0
    until_s: float = 0.0
    """End of the last one, seconds of the call."""
    heard_by: tuple[str, str] = ("", "")
    """The model version, and the name of the phrases that were expected."""
    ended_at: int | None = None
    """Offset of its last piece, once it has ended."""

    def with_record(self, record: Record) -> "Published":
        """After one more record."""
        if record.kind == "ended":
            return replace(self, ended_at=record.until)
        if record.number < self.utterances:  # it came twice: a broker may do that
            return self
        return Published(
            utterances=record.number + 1,
            until_s=record.end_s,
            heard_by=(record.model_version, record.phrases),
        )


class Call:
    """A call of one partition, from a stream of the engine. For the worker's thread."""

    def __init__(
        self,
        first: Piece,
        published: Published,
        given: bool,
        open_stream: Callable[["Call"], Opened],
    ) -> None:
        """`given`: whether its recording may be kept where no piece says so."""
        self.key, self.name, self.tenant = first.key, first.call, first.tenant
        self.speaker = first.speaker
        self.began: Place = first.place
        self.heard_at = time.monotonic()
        self._given = given
        self._said: bool | None = None
        """What the pieces say of consent; who has said no once is not asked again."""
        self.recording = Recording()
        opened = open_stream(self)
        self.stream: LiveStream = opened.stream
        self._model_version, self._phrases = opened.version, opened.phrases
        self._published = published
        self._number = published.utterances
        self._pcm = first.pcm
        self._reader = Reader(first.pcm)
        self._expected = 0
        self._until = first.place.offset
        self.finished = False
        """Whether no more pieces are expected."""
        self.span = tracing.begun("call", first.trace, **{"hearloop.tenant": self.tenant})
        """What is done for the call; its name is somebody's number, and stays out."""

    def take(self, piece: Piece) -> None:
        """Hear the next piece; what cannot be audio is passed over, and the call goes on."""
        self.heard_at = time.monotonic()
        self._until = piece.place.offset
        if piece.consent is not None:
            self._said = piece.consent and self._said is not False
        if self.finished or self._came_before(piece):
            return
        try:
            if piece.pcm != self._pcm:
                self._accept(self._reader.last())
                self._pcm, self._reader = piece.pcm, Reader(piece.pcm)
            self._accept(self._reader.read(piece.audio))
        except InvalidAudio as error:
            log.warning("A piece of call %s is passed over: %s", self.name, error)
        if piece.last:
            self.finish()

    def finish(self) -> None:
        """No more pieces are expected: the last records come."""
        if not self.finished:
            self.finished = True
            self._accept(self._reader.last())
            self.stream.finish()

    def close(self) -> None:
        """Nobody listens here any more."""
        self.stream.close()
        self.span.end()

    def caller(self, request_id: str) -> Caller:
        """Who speaks, in a request of that name."""
        return Caller(
            request_id=request_id,
            call=self.name,
            speaker=self.speaker,
            tenant=self.tenant,
            consent=self._given if self._said is None else self._said,
        )

    def said(self, final: Final) -> Record | None:
        """The record of an utterance, None when it has been published already.

        The same version that expects the same finds the same utterances again, so their numbers
        tell; another one may cut elsewhere, so what was said before the last published end tells.
        """
        found = final.transcript
        if self._published.heard_by == (self._model_version, self._phrases):
            if final.utterance < self._published.utterances:
                return None
        else:
            new = [word for word in found.words if word.start_s >= self._published.until_s]
            if not new:
                return None
            found = transcript(new) if len(new) < len(found.words) else found
        record = replace(self._record("final", final.start_s, final.end_s), transcript=found)
        self._number += 1
        return record

    def ended(self) -> Record:
        """The record of its end."""
        return self._record("ended", 0.0, self.recording.total_s)

    def _record(self, kind: Literal["final", "ended"], start_s: float, end_s: float) -> Record:
        return Record(
            call=self.name,
            tenant=self.tenant,
            began=self.began,
            kind=kind,
            number=self._number,
            model_version=self._model_version,
            phrases=self._phrases,
            start_s=start_s,
            end_s=end_s,
            until=self._until,
        )

    def _came_before(self, piece: Piece) -> bool:
        if piece.sequence is None:
            return False
        if piece.sequence < self._expected:
            return True
        if piece.sequence > self._expected and self._expected:
            log.warning("Call %s lacks pieces before %d", self.name, piece.sequence)
        self._expected = piece.sequence + 1
        return False

    def _accept(self, samples: Samples) -> None:
        if len(samples):
            self.recording.add(samples, self.heard_at)
            self.stream.accept(samples)
