"""What a client of the realtime route may choose, as OpenAI's transcription sessions say it.

Both shapes are read: `session.update` with everything under `audio.input`, and the older
`transcription_session.update` with flat names. Fields that are absent stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from hearloop.errors import InvalidInput
from hearloop.hotwords import Hotword
from hearloop.streaming import Endpointing, StreamOptions
from serving.languages import check_asked
from serving.pcm import RATES, Pcm

__all__ = ["HEARD", "WORDS", "RealtimeSession"]

HEARD: Final = "hearloop.heard"
"""Of `include`: an event after each step says how much of the audio has been recognised."""
WORDS: Final = "hearloop.words"
"""Of `include`: partial results bring their words with times and confidences."""

INCLUDABLE: Final = (HEARD, WORDS, "item.input_audio_transcription.logprobs")
"""The last is OpenAI's; a CTC model has no log-probabilities of tokens, words have confidences."""

OLD_FORMATS: Final = {
    "pcm16": Pcm(),
    "g711_ulaw": Pcm(encoding="audio/pcmu", rate=8_000),
    "g711_alaw": Pcm(encoding="audio/pcma", rate=8_000),
}

_DEFAULT_PCM: Final = Pcm()
_DEFAULT_ENDPOINTING: Final = Endpointing()

SILENCE_MS: Final = (200, 5_000)


@dataclass(frozen=True, kw_only=True)
class RealtimeSession:
    """The choices in force."""

    model: str
    language: str
    """The model's: a session may name it, and choose no other."""
    pcm: Pcm = _DEFAULT_PCM
    endpointing: Endpointing | None = _DEFAULT_ENDPOINTING
    keywords: tuple[str, ...] = ()
    include: tuple[str, ...] = ()

    def updated(self, session: Any) -> Self:
        """With what `session` has. Raises InvalidInput."""
        given = _mapping(session, "session")
        if given.get("type", "transcription") != "transcription":
            raise InvalidInput(
                f"The session type is {str(given['type'])[:40]!r}; this server transcribes: send "
                "'transcription'."
            )
        source = _mapping(_mapping(given.get("audio") or {}, "audio").get("input") or {}, "input")
        old = {
            "format": _old_format(given["input_audio_format"])
            if "input_audio_format" in given
            else None,
            "transcription": given.get("input_audio_transcription"),
        }
        changed = self
        if (form := source.get("format") or old["format"]) is not None:
            changed = replace(changed, pcm=_pcm(form))
        if transcription := source.get("transcription") or old["transcription"]:
            changed = changed._transcription(_mapping(transcription, "transcription"))
        for place in (source, given):
            if "turn_detection" in place:
                changed = replace(changed, endpointing=_endpointing(place["turn_detection"]))
        if given.get("include") is not None:
            changed = replace(changed, include=_include(given["include"]))
        return changed

    def _transcription(self, given: Mapping[str, Any]) -> Self:
        if given.get("model") not in (None, self.model):
            raise InvalidInput(
                f"The model {str(given['model'])[:60]!r} is not served here; ask for "
                f"{self.model!r}."
            )
        check_asked([given.get("language")], self.language)
        check_asked(_strings(given.get("languages") or (), "languages"), self.language)
        if given.get("keywords") is None:
            return self
        return replace(self, keywords=_strings(given["keywords"], "keywords"))

    def options(self, hotwords: tuple[Hotword, ...]) -> StreamOptions:
        """For the recogniser, which is to expect these."""
        return StreamOptions(endpointing=self.endpointing, hotwords=hotwords)

    def to_json(self, session_id: str) -> dict[str, Any]:
        """The session object that clients are told."""
        rule = self.endpointing
        detection = rule and {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": round(rule.silence_s * 1000),
        }
        transcription = {
            "model": self.model,
            "language": self.language,
            "keywords": list(self.keywords),
        }
        return {
            "id": session_id,
            "object": "realtime.transcription_session",
            "type": "transcription",
            "audio": {
                "input": {
                    "format": self.pcm.to_json(),
                    "noise_reduction": None,
                    "transcription": transcription,
                    "turn_detection": detection,
                }
            },
            "include": list(self.include),
        }


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"The field {name} is no object; send one.")
    return value


def _strings(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise InvalidInput(f"The field {name} is no list of strings; send one.")
    return tuple(value)


def _old_format(name: Any) -> dict[str, object]:
    if not isinstance(name, str) or name not in OLD_FORMATS:
        raise InvalidInput(
            f"The input_audio_format is {str(name)[:40]!r}; send one of {sorted(OLD_FORMATS)}."
        )
    return OLD_FORMATS[name].to_json()


def _pcm(value: Any) -> Pcm:
    given = _mapping(value, "format")
    match given.get("type", "audio/pcm"):
        case "audio/pcm":
            rate = given.get("rate", Pcm.rate)
            if rate in RATES and not isinstance(rate, bool):
                return Pcm(rate=int(rate))
            raise InvalidInput(f"The rate is {str(rate)[:20]}; send one of {list(RATES)} (Hz).")
        case "audio/pcmu" | "audio/pcma" as encoding:
            return Pcm(encoding=encoding, rate=8_000)
        case other:
            raise InvalidInput(
                f"The format is {str(other)[:40]!r}; send audio/pcm, audio/pcmu or audio/pcma."
            )


def _endpointing(value: Any) -> Endpointing | None:
    if value is None:
        return None
    given = _mapping(value, "turn_detection")
    if given.get("type", "server_vad") != "server_vad":
        raise InvalidInput(
            f"The turn detection is {str(given['type'])[:40]!r}; send server_vad, or null to "
            "commit yourself."
        )
    silence = given.get("silence_duration_ms")
    if silence is None:
        return Endpointing()
    low, high = SILENCE_MS
    if (
        isinstance(silence, bool)
        or not isinstance(silence, int | float)
        or not (low <= silence <= high)
    ):
        raise InvalidInput(f"The silence_duration_ms is {str(silence)[:20]}; send {low} to {high}.")
    return Endpointing(silence_s=silence / 1000, blank_s=max(Endpointing.blank_s, silence / 1000))


def _include(value: Any) -> tuple[str, ...]:
    asked = _strings(value, "include")
    if unknown := set(asked) - set(INCLUDABLE):
        raise InvalidInput(
            f"{min(unknown)[:60]!r} cannot be included; choose among {list(INCLUDABLE)}."
        )
    return asked
