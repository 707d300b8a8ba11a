"""The process that decodes what strangers send: `python -m serving.decoder FD`, see `decoders`.

What a damaged or hostile recording can make a codec do stays in here: memory, processor time and
files are limited by the kernel, the environment holds no secret, and the process is replaced when
it dies.

A job is the encoded recording. Its answer begins with one byte: `+`, then the sample rate of the
source in Hz (4 bytes) and the samples as float32; or `-` and the sentence that says what is wrong.
"""

import os
import resource
import struct
import sys
from multiprocessing.connection import Connection

from hearloop.audio import Limits, decode
from hearloop.errors import InvalidAudio

__all__ = ["CPU_SECONDS", "RATE", "limit_cpu", "limit_rest", "main"]

RATE = struct.Struct(">I")

MEMORY = 768 * 2**20
"""Bytes of address space beside what the libraries have taken: the largest recording, resampled,
takes a third of it."""

CPU_SECONDS = 20
"""For one recording: the longest of 60 s takes two on a busy core."""


def main() -> None:
    """Answer jobs until the other side hangs up."""
    jobs = Connection(int(sys.argv[1]))
    limit_rest()
    while True:
        try:
            body = jobs.recv_bytes(Limits().bytes)
        except (EOFError, OSError):
            return
        limit_cpu()
        for part in _answer(body):
            jobs.send_bytes(part)


def _answer(body: bytes) -> tuple[bytes, ...]:
    try:
        audio = decode(body)
    except InvalidAudio as error:
        return (b"-" + str(error).encode(),)
    except MemoryError:
        return (b"-The recording needs more memory than decoding may take; send it in parts.",)
    return b"+" + RATE.pack(audio.source_rate), audio.samples.tobytes()


def limit_cpu() -> None:
    """Let the next job take CPU_SECONDS; the kernel ends the process after that."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + CPU_SECONDS
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
