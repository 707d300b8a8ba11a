"""The recogniser that the server runs: ONNX Runtime on verified bundles, without torch.

Whole recordings and live streams (`hearloop.streaming`) go through the same graph, the same
features and the same padding of the end: a recording streamed in pieces gives the text that it
gives as a whole.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from hearloop import beam, decoding
from hearloop.bundle import GRAPHS, Bundle, Precision, verify
from hearloop.decoding import Transcript
from hearloop.features import FLOOR, MEL_BINS, Matrix, Samples, log_mel
from hearloop.graph import Graph
from hearloop.hotwords import Hotword, compiled
from hearloop.tokenizer import Tokenizer

__all__ = ["Recogniser"]

_BATCH_FRAMES: Final = 6_000
"""Feature frames (a minute of audio) that are recognised together: bounds the memory."""


class Recogniser:
    """Speech to text. Safe to use from several threads at once.

    >>> recogniser = Recogniser.load(Path("bundle"))  # doctest: +SKIP
    >>> recogniser.transcribe(samples).text  # doctest: +SKIP
    'transfer twenty pounds to anna'
    """

    def __init__(self, bundle: Bundle, graph: Graph, tokenizer: Tokenizer) -> None:
        self.bundle = bundle
        self.graph = graph
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, directory: Path, precision: Precision = "fp32") -> "Recogniser":
        """Load the bundle in `directory`. Raises IntegrityError when any byte is wrong."""
        bundle = verify(directory)
        graph = Graph(directory / GRAPHS[precision], bundle.architecture)
        return cls(bundle, graph, Tokenizer.load(directory / "tokens.txt"))

    def transcribe(self, samples: Samples, *, hotwords: Sequence[Hotword] = ()) -> Transcript:
        """Text of one recording: (n,) samples at 16 kHz, -1 to 1."""
        return self.transcribe_many([samples], hotwords=hotwords)[0]

    def transcribe_many(
        self, recordings: Sequence[Samples], *, hotwords: Sequence[Hotword] = ()
    ) -> list[Transcript]:
        """Texts of many recordings, in their order; those of like length run together.

        Hotwords are searched for by a prefix beam, which takes longer than the best path. Raises
        InvalidInput for hotwords that the model cannot write.
        """
        return self.transcribe_features([log_mel(one) for one in recordings], hotwords=hotwords)

    def transcribe_features(
        self, recordings: Sequence[Matrix], *, hotwords: Sequence[Hotword] = ()
    ) -> list[Transcript]:
        """As `transcribe_many`, of log-mel features (t, 80)."""
        log_probs = self.log_probs(recordings)
        if not hotwords:
            return [decoding.transcribe(matrix, self.tokenizer) for matrix in log_probs]
        automaton = compiled(hotwords, self.tokenizer)
        return [beam.transcribe(matrix, self.tokenizer, automaton) for matrix in log_probs]

    def log_probs(self, recordings: Sequence[Matrix]) -> list[npt.NDArray[np.float32]]:
        """Log-probabilities (frames, V) of each of many feature matrices (t, 80)."""
        found: dict[int, npt.NDArray[np.float32]] = {}
        padded = [self.bundle.architecture.padded_frames(len(matrix)) for matrix in recordings]
        for batch in _batches(padded):
            # The network is causal: what follows an utterance in the batch cannot change it.
            x = np.full((len(batch), padded[batch[-1]], MEL_BINS), FLOOR, np.float32)
            for row, index in enumerate(batch):
                x[row, : len(recordings[index])] = recordings[index]
            answers = self.graph.run_whole(x)
            for row, index in enumerate(batch):
                span = self.bundle.architecture.outputs(len(recordings[index]))
                found[index] = answers[row, span]
        return [found[index] for index in range(len(recordings))]

    def plausibilities(self, samples: Samples, texts: Sequence[str]) -> list[float]:
        """How well each of several normalised texts fits (n,) samples; the graph runs once.

        In nats per character, about 0 at most. Raises InvalidTranscript for a character that the
        model cannot write.
        """
        (log_probs,) = self.log_probs([log_mel(samples)])
        return decoding.plausibilities(log_probs, [self.tokenizer.encode(text) for text in texts])


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indices by rising length, cut where a batch padded to its longest gets too big."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= _BATCH_FRAMES:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
