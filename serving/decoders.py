"""A pool of processes that decode what strangers send (`serving.decoder` is what they run)."""

import contextlib
import logging
import os
import queue
import socket
import subprocess
import sys
from multiprocessing.connection import Connection

import numpy as np

from hearloop.audio import Audio, Limits
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
        answer = self._receive()
        if answer[:1] == b"-":
            raise InvalidAudio(answer[1:].decode())
        (rate,) = RATE.unpack(answer[1:])
        samples = np.frombuffer(self._receive(), np.float32)
        return Audio(samples=samples, source_rate=rate)

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
        if len(body) > Limits().bytes:  # the process would not read it
            raise InvalidAudio(
                f"The recording has {len(body)} bytes where {Limits().bytes} are the most; "
                "send it in parts or in a compressed format."
            )
        decoder = self._idle.get()
        try:
            return decoder.decode(body)
        except (EOFError, OSError) as error:  # a TimeoutError is one
            decoder.end()
            log.warning("A recording of %d bytes ended its decoder: %r", len(body), error)
            decoder = _Decoder()
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
