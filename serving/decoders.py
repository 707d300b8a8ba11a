"""A pool of processes that decode what strangers send (`serving.decoder` is what they run)."""

import contextlib
import logging
import os
import queue
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import BinaryIO

import numpy as np

from hearloop.audio import Audio, Limits, Samples, TooLong
from hearloop.errors import InvalidAudio
from serving.decoder import RATE

__all__ = ["Decoders"]

WALL_SECONDS = 30.0
"""For one recording, on a machine that is busy with others."""

KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG")
"""Variables that a decoder needs; the others may be secret."""

log = logging.getLogger(__name__)


class _Decoder:
    """One process, and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving.decoder", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # codecs chatter about what is damaged
                env={name: os.environ[name] for name in KEPT if name in os.environ}
                | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        self._jobs = Connection(ours.detach())

    def decode(self, body: bytes) -> Audio:
        """Raises InvalidAudio; EOFError, OSError or TimeoutError when the process fails."""
        self._jobs.send_bytes(body)
        (rate,) = RATE.unpack(self._heard())
        samples = np.frombuffer(self._receive(), np.float32)
        return Audio(samples=samples, source_rate=rate)

    def blocks(self, file: BinaryIO) -> Iterator[Samples]:
        """The samples of a long recording; raises as `decode`."""
        self._jobs.send_bytes(b"")
        send_handle(self._jobs, file.fileno(), self.process.pid)
        while block := self._heard():
            yield np.frombuffer(block, np.float32)

    def _heard(self) -> bytes:
        """What follows the `+` of an answer; empty at the end of a long one."""
        answer = self._receive()
        if answer[:1] in (b"-", b">"):
            kind = TooLong if answer[:1] == b">" else InvalidAudio
            raise kind(answer[1:].decode())
        return answer[1:]

    def _receive(self) -> bytes:
        if not self._jobs.poll(WALL_SECONDS):
            raise TimeoutError
        return self._jobs.recv_bytes()

    def end(self) -> None:
        self._jobs.close()
        self.process.kill()
        self.process.wait()


class Decoders:
    """`count` processes; safe to use from several threads, which wait when all are at work."""

    def __init__(self, count: int) -> None:
        self._idle: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
        self._count = count
        for _ in range(count):
            self._idle.put(_Decoder())

    def decode(self, body: bytes) -> Audio:
        """Samples of an encoded recording. Raises InvalidAudio."""
        if not body:  # to the process, it would announce a long one
            raise InvalidAudio("The recording is empty; record it again.")
        if len(body) > Limits().bytes:  # the process would not read it
            raise TooLong(
                f"The recording has {len(body)} bytes where {Limits().bytes} are the most; "
                "send it in parts or in a compressed format."
            )
        with self._one() as decoder:
            return decoder.decode(body)

    def blocks(self, file: BinaryIO) -> Generator[Samples]:
        """Samples (n,) of a long recording, block by block. Raises InvalidAudio.

        `file`: a real one, which the decoder reads where it lies.
        """
        with self._one() as decoder:
            yield from decoder.blocks(file)

    @contextmanager
    def _one(self) -> Iterator[_Decoder]:
        """An idle decoder; one that fails, or is left with work undone, is replaced."""
        decoder = self._idle.get()
        try:
            yield decoder
        except InvalidAudio:
            raise
        except BaseException as error:
            decoder.end()
            decoder = _Decoder()
            if not isinstance(error, EOFError | OSError):  # a TimeoutError is one
                raise
            log.warning("A recording ended its decoder: %r", error)
            raise InvalidAudio(
                "The recording cannot be decoded within the limits of time and memory; record it "
                "again, or send it in another format."
            ) from error
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """End the processes; whoever decodes still gets an InvalidAudio."""
        with contextlib.suppress(queue.Empty):
            for _ in range(self._count):
                self._idle.get(timeout=1.0).end()
