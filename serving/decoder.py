"""The process that decodes what strangers send: `python -m serving.decoder FD`, see `decoders`.

What a damaged or hostile recording can make a codec do stays in here: memory, processor time and
files are limited by the kernel, the environment holds no secret, and the process is replaced when
it dies.

A job is an encoded recording. Its answer begins with one byte: `+`, then the sample rate of the
source in Hz (4 bytes) and the samples as float32; or `-` and the sentence that says what is wrong,
`>` in place of `-` where all that is wrong is that it is too long.

A job of no bytes says that the descriptor of an open file follows: a long recording, whose samples
come block by block, each behind a `+`, and an empty message after the last.
"""

import mmap
import os
import resource
import struct
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle

from hearloop.audio import Limits, TooLong, decode, decode_long
from hearloop.errors import InvalidAudio

__all__ = ["CPU_SECONDS", "LONG", "LONG_CPU_SECONDS", "RATE", "limit_cpu", "limit_rest", "main"]

RATE = struct.Struct(">I")

MEMORY = 768 * 2**20
"""Bytes of address space beside what the libraries have taken: the largest recording, resampled,
takes a third of it."""

CPU_SECONDS = 20
"""For one recording: the longest of 60 s takes two on a busy core."""

LONG = Limits(bytes=128 * 2**20, seconds=2 * 3600.0)
"""Of a long recording: more than an hour as 16-bit WAV at 16 kHz, two hours as anything else."""

LONG_CPU_SECONDS = 120
"""For a long recording: an hour of MP3 or Opus takes about ten."""


def main() -> None:
    """Answer jobs until the other side hangs up."""
    jobs = Connection(int(sys.argv[1]))
    limit_rest()
    while True:
        try:
            body = jobs.recv_bytes(Limits().bytes)
        except (EOFError, OSError):
            return
        limit_cpu(CPU_SECONDS if body else LONG_CPU_SECONDS)
        for part in _answer(body) if body else _long_answer(recv_handle(jobs)):
            jobs.send_bytes(part)


def _answer(body: bytes) -> tuple[bytes, ...]:
    try:
        audio = decode(body)
    except (InvalidAudio, MemoryError) as error:
        return (_refusal(error),)
    return b"+" + RATE.pack(audio.source_rate), audio.samples.tobytes()


def _long_answer(descriptor: int) -> Iterator[bytes]:
    try:
        with open(descriptor, "rb") as file, _mapped(file.fileno()) as body:
            for block in decode_long(body, LONG):
                if len(block):
                    yield b"+" + block.tobytes()
    except (InvalidAudio, MemoryError) as error:
        yield _refusal(error)
    else:
        yield b""


def _mapped(descriptor: int) -> mmap.mmap:
    try:
        return mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    except (OSError, ValueError) as error:
        raise InvalidAudio(f"The recording cannot be read: {error}.") from error


def _refusal(error: InvalidAudio | MemoryError) -> bytes:
    if isinstance(error, MemoryError):
        return b"-The recording needs more memory than decoding may take; send it in parts."
    return (b">" if isinstance(error, TooLong) else b"-") + str(error).encode()


def limit_cpu(seconds: int) -> None:
    """Let the next job take so long; the kernel ends the process after that."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def limit_rest() -> None:
    """No more memory than MEMORY, nothing written, no core dump."""
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
