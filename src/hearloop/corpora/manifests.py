"""Manifests of other toolkits: NeMo's JSON lines, lhotse's cuts and supervisions, lhotse Shar.

https://docs.nvidia.com/nemo-framework/user-guide/latest/nemotoolkit/asr/datasets.html
https://lhotse.readthedocs.io/en/latest/cuts.html

What they say of a recording is read as data: no command is run, and audio is decoded as any
other that strangers send.
"""

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, get_args

from hearloop.corpora.places import Place
from hearloop.corpora.recordings import Recordings, Span
from hearloop.corpora.splits import split_of
from hearloop.corpora.utterance import UNDATED, Rejected, Utterance
from hearloop.errors import InvalidInput, NotFound
from hearloop.recipe import Split

__all__ = ["is_lhotse", "lhotse", "nemo", "shar", "shards", "unpacked"]

_MOST: Final = 2**30
"""Bytes that a compressed manifest may become: two million cuts."""

_SHAR_CUTS, _SHAR_AUDIO = "cuts.{:06d}.jsonl.gz", "recording.{:06d}.tar"

_Shares = tuple[float, float]


def nemo(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of NeMo's as one of ours: `audio`, and `span` where the row is a part of it.

    Raises InvalidInput where offset and duration are no numbers.
    """
    ours = {key: value for key, value in row.items() if key not in _NEMO}
    ours |= {_NEMO[key]: value for key, value in row.items() if _NEMO.get(key)}
    if row.get("offset"):
        ours["span"] = _span(row["offset"], row.get("duration"))
    return ours


_NEMO: Final = {
    "audio_filepath": "audio", "lang": "language", "target_lang": "language",
    "offset": "", "duration": "",
}  # fmt: skip


def is_lhotse(name: str) -> bool:
    """Whether a file is one of lhotse's by its name."""
    return "cuts" in name or "supervisions" in name


def lhotse(
    place: Place, name: str, *, split: Split | None, shares: _Shares
) -> Iterator[Utterance | Rejected]:
    """Every supervision of `cuts….jsonl.gz`, or of `…supervisions….jsonl.gz`.

    The recordings of the latter are in the file whose name has `recordings` instead. split: of
    those whose cut names none; None splits by a hash of the speaker.
    """
    recordings = Recordings(place)
    for cut in _cuts(place, name):
        yield from _utterances(cut, recordings, split, shares)


def shards(place: Place) -> int:
    """How many shards of lhotse Shar there are, counted from 0."""
    count = 0
    while place.exists(_SHAR_CUTS.format(count)):
        count += 1
    return count


def shar(place: Place, *, split: Split | None, shares: _Shares) -> Iterator[Utterance | Rejected]:
    """Every utterance of lhotse Shar, a shard after the other."""
    for shard in range(shards(place)):
        audio = _members(place, _SHAR_AUDIO.format(shard))
        for cut in _lines(place, _SHAR_CUTS.format(shard)):
            name = str(cut.get("id"))
            found = _Held(audio, name)
            yield from _utterances(cut, found, split, shares)


class _Held:
    """The audio of one cut of a shard, read when its turn has come."""

    def __init__(self, members: Iterator[tuple[str, bytes]], name: str) -> None:
        self._name = name
        self._member = next(members, ("", b""))

    def cut(self, location: str, span: Span | None) -> bytes:
        name, body = self._member
        if name.rpartition(".")[0] != self._name:
            raise NotFound(
                f"The shard holds {name or 'nothing'} where the audio of {self._name} should be; "
                "write it again."
            )
        return body


def _members(place: Place, name: str) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the recordings in a tar file; their manifests are left out."""
    try:
        with tarfile.open(fileobj=io.BytesIO(place.read_bytes(name))) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None and not member.name.endswith((".json", ".nometa")):
                    yield member.name, file.read()
    except tarfile.TarError as error:
        raise InvalidInput(f"{name} is no tar file ({error}); write the shard again.") from error


def _cuts(place: Place, name: str) -> Iterator[Mapping[str, Any]]:
    if "supervisions" not in name:
        yield from _lines(place, name)
        return
    sources = _lines(place, name.replace("supervisions", "recordings"))
    recordings = {str(one.get("id")): one for one in sources}
    for said in _lines(place, name):
        span = {"start": said.get("start", 0), "duration": said.get("duration")}
        recording = recordings.get(str(said.get("recording_id")))
        supervision = {**said, "start": 0}
        cut = {"id": said.get("id"), **span, "channel": said.get("channel", 0)}
        yield cut | {"recording": recording, "supervisions": [supervision]}


def _lines(place: Place, name: str) -> Iterator[Mapping[str, Any]]:
    """The objects of JSON lines, compressed or not; a line that is none is an empty object."""
    body = place.read_bytes(name)
    if name.endswith(".gz"):
        body = unpacked(body, name)
    for line in body.decode("utf-8", errors="replace").split("\n"):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = {}
            yield row if isinstance(row, dict) else {}


def unpacked(body: bytes, name: str) -> bytes:
    """What a gzip file holds, up to 1 GB. Raises InvalidInput."""
    try:
        with gzip.open(io.BytesIO(body)) as file:
            unpacked = file.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{name} is no gzip file ({error}); write it again.") from error
    if len(unpacked) > _MOST:
        raise InvalidInput(f"{name} becomes more than {_MOST} bytes; split it.")
    return unpacked


def _utterances(
    cut: Mapping[str, Any], recordings: "Recordings | _Held", split: Split | None, shares: _Shares
) -> Iterator[Utterance | Rejected]:
    name = str(cut.get("id") or "a cut without an id")
    supervisions = cut.get("supervisions") or []
    if not isinstance(supervisions, list) or not all(isinstance(s, dict) for s in supervisions):
        yield Rejected(id=name, reason=f"Cut {name} is none of lhotse's: its supervisions are odd.")
        return
    if not supervisions:
        yield Rejected(id=name, reason=f"Cut {name} has no supervision, so nothing is said in it.")
    for said in supervisions:
        own = name if len(supervisions) == 1 else str(said.get("id"))
        try:
            yield _utterance(cut, said, own, recordings, split, shares)
        except (InvalidInput, NotFound) as error:
            yield Rejected(id=own, reason=str(error))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            yield Rejected(id=own, reason=f"Cut {name} is none of lhotse's ({error!r}).")


def _utterance(
    cut: Mapping[str, Any],
    said: Mapping[str, Any],
    name: str,
    recordings: "Recordings | _Held",
    split: Split | None,
    shares: _Shares,
) -> Utterance:
    location, whole = _source(cut, name)
    start = float(cut.get("start", 0)) + float(said.get("start", 0))
    span = _span(start, said.get("duration", cut["duration"]))
    same = start == 0 and abs(span[1] - whole) < 0.5 / 16_000
    custom = {**(cut.get("custom") or {}), **(said.get("custom") or {})}
    speaker = said.get("speaker") or name
    moment = custom.get("recorded_at")
    text = said.get("text")
    if not isinstance(text, str):
        raise InvalidInput(f"Cut {name} has no text; write what is said in it.")
    return Utterance(
        id=name.replace("/", "-"),
        audio=recordings.cut(location, None if same else span),
        text=text,
        speaker=str(speaker),
        split=_named(custom.get("split")) or split or _drawn(str(speaker), shares),
        recorded_at=datetime.fromisoformat(moment) if moment else UNDATED,
        call=custom.get("call"),
        accent=custom.get("accent"),
        language=said.get("language"),
    )


def _named(split: object) -> Split | None:
    return next((one for one in get_args(Split) if one == split), None)


def _drawn(speaker: str, shares: _Shares) -> Split:
    return split_of(f"folder/{speaker}", dev=shares[0], test=shares[1])


def _source(cut: Mapping[str, Any], name: str) -> tuple[str, float]:
    """Where the recording of a cut is, and its length in seconds."""
    recording = cut.get("recording")
    if not recording:
        raise NotFound(f"Cut {name} has no recording; write its manifest beside it.")
    (source,) = recording["sources"]
    if len(recording.get("channel_ids") or source["channels"]) > 1:
        raise InvalidInput(
            f"The recording of {name} has several channels; store each speaker's by itself."
        )
    if source["type"] not in ("file", "url", "memory", "shar"):
        raise InvalidInput(
            f"The recording of {name} is of the type {source['type']!r}, and only files are read."
        )
    return str(source["source"]), float(recording["duration"])


def _span(start: Any, duration: Any) -> Span:
    try:
        begins, lasts = float(start), float(duration)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"The offset {start!r} and the duration {duration!r} are no numbers; write seconds."
        ) from None
    if not (begins >= 0 and 0 < lasts < float("inf")):
        raise InvalidInput(f"A part from {begins:g} s that lasts {lasts:g} s is none.")
    return begins, begins + lasts
