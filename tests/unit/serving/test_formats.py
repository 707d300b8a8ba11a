"""Every format that product teams send, really encoded, through the file route.

Decoded by the processes that decode what strangers send.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

from hearloop.features import SAMPLE_RATE
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from serving.decoders import Decoders
from tests.bundles import noise
from tests.unit.serving.assembled import FILE, Server, Shelf, assembled

SECONDS = 2.0


def channels(rate: int, count: int) -> np.ndarray:
    """(n, count) samples: the speech in each channel."""
    mono = soxr.resample(noise(SECONDS), SAMPLE_RATE, rate)
    return np.stack([mono] * count, axis=1).astype(np.float32)


def written(rate: int, count: int, container: str, subtype: str) -> bytes:
    body = io.BytesIO()
    soundfile.write(body, channels(rate, count), rate, format=container, subtype=subtype)
    return body.getvalue()


def muxed(rate: int, count: int, container: str, codec: str) -> bytes:
    """As browsers record: FFmpeg's own encoder in its own container."""
    body = io.BytesIO()
    with av.open(body, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono" if count == 1 else "stereo")
        samples = np.ascontiguousarray(channels(rate, count).T)
        layout = "mono" if count == 1 else "stereo"
        for at in range(0, samples.shape[1], 960):
            piece = np.ascontiguousarray(samples[:, at : at + 960])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, at
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return body.getvalue()


FORMATS: dict[str, Callable[[], bytes]] = {
    "wav 16 kHz": lambda: written(16_000, 1, "WAV", "PCM_16"),
    "wav 48 kHz stereo": lambda: written(48_000, 2, "WAV", "PCM_24"),
    "wav float 22.05 kHz": lambda: written(22_050, 1, "WAV", "FLOAT"),
    "g.711 mu-law in wav": lambda: written(8_000, 1, "WAV", "ULAW"),
    "g.711 A-law in wav, stereo": lambda: written(8_000, 2, "WAV", "ALAW"),
    "g.711 mu-law in au": lambda: written(8_000, 1, "AU", "ULAW"),
    "flac 44.1 kHz stereo": lambda: written(44_100, 2, "FLAC", "PCM_16"),
    "ogg opus": lambda: written(48_000, 1, "OGG", "OPUS"),
    "ogg vorbis": lambda: written(32_000, 2, "OGG", "VORBIS"),
    "mp3": lambda: written(44_100, 2, "MP3", "MPEG_LAYER_III"),
    "webm opus": lambda: muxed(48_000, 1, "webm", "libopus"),
    "webm opus stereo": lambda: muxed(48_000, 2, "webm", "libopus"),
    "mp4 aac": lambda: muxed(48_000, 1, "mp4", "aac"),
}


@pytest.fixture(scope="module")
def limited(
    tmp_path_factory: pytest.TempPathFactory, recognisers: dict[str, Recogniser]
) -> Iterator[Server]:
    decoders = Decoders(1)
    home: Path = tmp_path_factory.mktemp("formats")
    with assembled(home, Shelf({}), decode=decoders.decode) as server:
        server.versions.swap(Traffic(stable="1"), recognisers)
        yield server
    decoders.close()


@pytest.fixture(scope="module")
def text(limited: Server) -> str:
    """What is heard in the plainest of them."""
    return str(sent(limited, "wav 16 kHz")["text"])


def sent(server: Server, name: str) -> dict[str, object]:
    form = {"response_format": "verbose_json"}
    answer = server.client.post(FILE, files={"file": FORMATS[name]()}, data=form)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_is_heard_whole(limited: Server, text: str, name: str) -> None:
    found = sent(limited, name)
    assert found["duration"] == pytest.approx(SECONDS, abs=0.1)
    assert found["text"]
    if name in ("wav 48 kHz stereo", "flac 44.1 kHz stereo"):  # nothing is lost in these
        assert found["text"] == text
