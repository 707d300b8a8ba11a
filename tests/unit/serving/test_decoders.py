"""Decoding in limited processes: real ones, and what becomes of those that fail."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import soxr

from hearloop.audio import Limits, decode
from hearloop.errors import InvalidAudio
from serving import decoder, decoders
from serving.decoders import Decoders
from tests.bundles import noise
from tests.unit.serving.assembled import FLAC


@pytest.fixture(scope="module")
def pool() -> Iterator[Decoders]:
    made = Decoders(1)
    yield made
    made.close()


def process(pool: Decoders) -> psutil.Process:
    """Of the one decoder, which is idle."""
    one = pool._idle.get()
    pool._idle.put(one)
    return psutil.Process(one.process.pid)


def test_samples_are_those_of_this_process(pool: Decoders) -> None:
    here, there = decode(FLAC), pool.decode(FLAC)
    assert np.array_equal(here.samples, there.samples)
    assert here.source_rate == there.source_rate


def test_what_is_wrong_is_said_in_the_same_sentence(pool: Decoders) -> None:
    with pytest.raises(InvalidAudio) as here:
        decode(FLAC[:-500])
    with pytest.raises(InvalidAudio) as there:
        pool.decode(FLAC[:-500])
    assert str(here.value) == str(there.value)
    with pytest.raises(InvalidAudio, match="are the most"):
        pool.decode(bytes(Limits().bytes + 1))


def test_no_bytes_are_refused_and_announce_no_long_recording(pool: Decoders) -> None:
    before = process(pool)
    with pytest.raises(InvalidAudio, match="empty"):
        pool.decode(b"")
    assert process(pool) == before
    assert len(pool.decode(FLAC).samples)


def test_the_kernel_limits_a_decoder_and_it_holds_no_secret(
    pool: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.decode(FLAC)
    one = process(pool)
    assert one.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    assert one.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert 0 < one.rlimit(psutil.RLIMIT_AS)[1] < 4 * 2**30
    assert 0 < one.rlimit(psutil.RLIMIT_CPU)[0] <= decoder.CPU_SECONDS + 10
    monkeypatch.setenv("HEARLOOP_SECRET", "a secret")
    with_secret = Decoders(1)
    try:
        assert with_secret.decode(FLAC).seconds == 1.0
        assert "HEARLOOP_SECRET" not in process(with_secret).environ()
    finally:
        with_secret.close()


def test_a_long_recording_comes_in_blocks_whatever_its_format(
    pool: Decoders, tmp_path: Path
) -> None:
    rates = {"wav": 44_100, "flac": 8_000, "ogg": 48_000, "mp3": 22_050}
    samples = noise(3.0)
    for suffix, rate in rates.items():
        path = tmp_path / f"long.{suffix}"
        soundfile.write(path, soxr.resample(samples, 16_000, rate), rate)
        with path.open("rb") as file:
            blocks = list(pool.blocks(file))
        assert len(blocks) > 2
        whole, again = decode(path.read_bytes()).samples, np.concatenate(blocks)
        assert abs(len(again) - len(whole)) <= 1
        assert np.abs(again[: len(whole)] - whole[: len(again)]).max() < 1e-3
    (tmp_path / "cut.flac").write_bytes(FLAC[:-500])
    with (tmp_path / "cut.flac").open("rb") as file, pytest.raises(InvalidAudio, match="flac"):
        list(pool.blocks(file))
    with (tmp_path / "long.wav").open("rb") as file:
        left = pool.blocks(file)
        next(left)
        left.close()
    assert pool.decode(FLAC).seconds == 1.0


def test_a_decoder_that_dies_costs_one_answer(pool: Decoders) -> None:
    one = process(pool)
    one.suspend()
    ended = threading.Timer(0.2, os.kill, (one.pid, signal.SIGKILL))
    ended.start()
    with pytest.raises(InvalidAudio, match="within the limits"):
        pool.decode(FLAC)
    assert pool.decode(FLAC).seconds == 1.0
    assert process(pool).pid != one.pid


def test_a_decoder_that_hangs_is_replaced(pool: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "WALL_SECONDS", 0.2)
    one = process(pool)
    one.suspend()
    with pytest.raises(InvalidAudio, match="within the limits"):
        pool.decode(FLAC)
    monkeypatch.undo()
    assert pool.decode(FLAC).seconds == 1.0
    assert not one.is_running()
