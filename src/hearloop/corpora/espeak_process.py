"""Speak sentences with libespeak-ng in a process of its own; run as a script by `espeak.speak`.

espeak-ng keeps state from one sentence to the next (flutter, the phase of the voice), is not
thread-safe, and may crash. A fresh process for each list of sentences makes the audio a function
of the arguments alone: a fork of this one, which has the library loaded. Only the standard
library is imported. Start-up takes about 20 ms, a fork 1 ms.

Reads one JSON object from standard input: library, data_folder, and tasks, each with voice, rate,
pitch, pitch_range and sentences. Writes to standard output, for each task, the sample rate
(4 bytes, little-endian) and, for each sentence, the number of bytes (4 bytes) and that many bytes
of signed 16-bit samples.
"""

import ctypes
import json
import os
import struct
import sys
from typing import Any, BinaryIO, NoReturn

# Values of espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback before Synth returns
_DO_NOT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report missing data instead of exit(1)
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_UTF8 = 1

_SEED = 1

_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_int16), ctypes.c_int, ctypes.c_void_p
)


def main(request: BinaryIO, answer: BinaryIO) -> int:
    """Speak each task of `request` into `answer`; returns the first exit status that is not 0."""
    tasks = json.load(request)
    library = ctypes.CDLL(tasks["library"])
    # A relative path, because espeak-ng cuts absolute ones off after 160 characters.
    os.chdir(os.path.dirname(tasks["data_folder"]))
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, b".", _DO_NOT_EXIT)
    if rate <= 0:
        raise RuntimeError(f"espeak_Initialize returned {rate} for {tasks['data_folder']}")
    library.espeak_ListVoices(None)  # reads the voices of its folder, once for all tasks
    for task in tasks["tasks"]:
        child = os.fork()
        if child == 0:
            _speak_and_exit(library, rate, task, answer)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            return abs(status)
    return 0


def _speak_and_exit(
    library: ctypes.CDLL, rate: int, task: dict[str, Any], answer: BinaryIO
) -> NoReturn:
    """The child's part: what espeak-ng remembers of it ends here."""
    try:
        answer.write(struct.pack("<I", rate) + _spoken(library, task))
        answer.flush()
    except BaseException as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def _spoken(library: ctypes.CDLL, task: dict[str, Any]) -> bytes:
    """The sentences of a task, each after its length. Raises RuntimeError with espeak's code."""
    # espeak-ng seeds its noise by the clock.
    library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
    spoken = bytearray()

    @_CALLBACK
    def keep(samples: "ctypes._Pointer[ctypes.c_int16]", count: int, _events: int) -> int:
        if samples and count > 0:
            spoken.extend(ctypes.string_at(samples, count * ctypes.sizeof(ctypes.c_int16)))
        return 0

    library.espeak_SetSynthCallback(keep)
    code = library.espeak_SetVoiceByName(task["voice"].encode())
    if code:
        raise RuntimeError(f"espeak_SetVoiceByName returned {code} for {task['voice']!r}")
    for parameter, value in (
        (_RATE, task["rate"]),
        (_PITCH, task["pitch"]),
        (_PITCH_RANGE, task["pitch_range"]),
    ):
        library.espeak_SetParameter(parameter, value, 0)
    answer = bytearray()
    for sentence in task["sentences"]:
        spoken.clear()
        text = sentence.encode() + b"\0"
        code = library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 0, 0, _UTF8, None, None)
        if code:
            raise RuntimeError(f"espeak_Synth returned {code} for {sentence!r}")
        answer += struct.pack("<I", len(spoken)) + spoken
    return bytes(answer)


if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer, sys.stdout.buffer))
