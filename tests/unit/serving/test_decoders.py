"""Decoding in limited processes: real ones, and what becomes of those that fail."""

import os
import signal
import threading
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from hearloop.audio import Limits, decode
from hearloop.errors import InvalidAudio
from serving import decoder, decoders
from serving.decoders import Decoders
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
