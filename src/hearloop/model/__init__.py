"""Networks of every family behind one interface (`Model`).

`build` makes one with random weights. `Network` is that of the default family, `rnn_ctc`.
"""

from hearloop.architecture import (
    Architecture,
    ConformerArchitecture,
    Shape,
    Wav2Vec2Architecture,
)
from hearloop.model.interface import Model
from hearloop.model.rnn import Network, StreamStates

__all__ = ["Model", "Network", "StreamStates", "build"]


def build(architecture: Shape) -> Model:
    """A network with random weights."""
    match architecture:
        case Architecture():
            return Network(architecture)
        case ConformerArchitecture():
            from hearloop.model.conformer import Conformer

            return Conformer(architecture)
        case Wav2Vec2Architecture():
            from hearloop.model.wav2vec2 import Wav2Vec2

            return Wav2Vec2(architecture)
    raise TypeError(f"There is no network for {architecture!r}.")
