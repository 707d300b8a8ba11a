"""Room responses for tests, by the image method: nothing that a training has heard.

pyroomacoustics computes the echoes of a box with walls that absorb as much as gives the RT60.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import pyroomacoustics
from scipy.signal import fftconvolve

from hearloop.audio import SAMPLE_RATE, Samples

SMALLEST: Final = (3.0, 3.0, 2.4)
LARGEST: Final = (8.0, 6.0, 3.5)
"""Sides of a room in metres."""
FROM_WALLS: Final = 0.5
DISTANCE: Final = (0.4, 3.0)
"""Of the microphone from the mouth, in metres."""

Response = npt.NDArray[np.float64]


def response(rt60: float, rng: np.random.Generator) -> Response:
    """A response (n,) at 16 kHz, of unit energy, that begins with the direct sound."""
    while True:
        size = rng.uniform(SMALLEST, LARGEST)
        mouth, microphone = (rng.uniform(FROM_WALLS, size - FROM_WALLS) for _ in range(2))
        if not DISTANCE[0] < np.linalg.norm(mouth - microphone) < DISTANCE[1]:
            continue
        try:
            absorption, order = pyroomacoustics.inverse_sabine(rt60, size)
        except ValueError:  # a room so large cannot be so dry
            continue
        room = pyroomacoustics.ShoeBox(
            size, fs=SAMPLE_RATE, materials=pyroomacoustics.Material(absorption), max_order=order
        )
        room.add_source(mouth)
        room.add_microphone(microphone)
        room.compute_rir()
        echoes = np.asarray(room.rir[0][0], np.float64)
        echoes = echoes[max(0, int(np.argmax(np.abs(echoes))) - 16) :]
        return echoes / np.sqrt(np.sum(echoes**2))


def in_room(samples: Samples, room: Response) -> Samples:
    """(n,) samples as they sound in a room, as loud and as long as before."""
    heard = fftconvolve(samples, room)[: len(samples)]
    return (heard * np.sqrt(np.mean(samples**2) / np.mean(heard**2))).astype(np.float32)
