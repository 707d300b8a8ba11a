"""The recogniser that the server runs: ONNX Runtime on verified bundles, without torch.

Whole recordings and live streams (`hearloop.streaming`) go through the same graph, the same
features and the same padding of the end: a recording streamed in pieces gives the text that it
gives as a whole.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from hearloop import beam, decoding
from hearloop.architecture import ConformerArchitecture
from hearloop.bundle import GRAPHS, Bundle, Precision, verify
from hearloop.decoding import Transcript
from hearloop.features import Matrix, Samples
from hearloop.graph import Graph
from hearloop.hotwords import Hotword, compiled
from hearloop.rescoring import Rescorer
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

    def __init__(
        self,
        bundle: Bundle,
        graph: Graph,
        tokenizer: Tokenizer,
        rescorer: Rescorer | None = None,
    ) -> None:
        self.bundle = bundle
        self.graph = graph
        self.tokenizer = tokenizer
        self.rescorer = rescorer

    @classmethod
    def load(cls, directory: Path, precision: Precision = "fp32") -> "Recogniser":
        """Load the bundle in `directory`. Raises IntegrityError when any byte is wrong."""
        bundle = verify(directory)
        shape = bundle.architecture
        graph = Graph(directory / GRAPHS[precision], shape)
        tokenizer = Tokenizer.load(directory / "tokens.txt", bundle.language)
        rescorer = None
        if isinstance(shape, ConformerArchitecture) and shape.decoder_layers:
            rescorer = Rescorer(directory / "decoder.onnx", shape, tokenizer)
        return cls(bundle, graph, tokenizer, rescorer)

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
        return self.transcribe_features(
            [self.features(one) for one in recordings], hotwords=hotwords
        )

    def features(self, samples: Samples) -> Matrix:
        """What the graph takes of (n,) samples: (t, bins)."""
        return self.bundle.architecture.features(samples)

    def transcribe_features(
        self, recordings: Sequence[Matrix], *, hotwords: Sequence[Hotword] = ()
    ) -> list[Transcript]:
        """As `transcribe_many`, of what `features` gives."""
        if self.rescorer:
            return self._rescored(recordings, self.rescorer, hotwords)
        log_probs = self.log_probs(recordings)
        if not hotwords:
            return [decoding.transcribe(matrix, self.tokenizer) for matrix in log_probs]
        automaton = compiled(hotwords, self.tokenizer)
        return [beam.transcribe(matrix, self.tokenizer, automaton) for matrix in log_probs]

    def _rescored(
        self, recordings: Sequence[Matrix], rescorer: Rescorer, hotwords: Sequence[Hotword]
    ) -> list[Transcript]:
        """The text of the beam that CTC and the attention decoder find most likely together."""
        automaton = compiled(hotwords, self.tokenizer)
        heard = self._heard(recordings, self.graph.encode_whole)
        return [
            decoding.transcript(rescorer.words(log_probs, encoded, automaton))
            for log_probs, encoded in heard
        ]

    def log_probs(self, recordings: Sequence[Matrix]) -> list[npt.NDArray[np.float32]]:
        """Log-probabilities (frames, V) of each of many feature matrices (t, bins)."""
        heard = self._heard(recordings, lambda x: (self.graph.run_whole(x),))
        return [log_probs for (log_probs,) in heard]

    def _heard(
        self,
        recordings: Sequence[Matrix],
        run: Callable[[Matrix], tuple[npt.NDArray[np.float32], ...]],
    ) -> list[tuple[npt.NDArray[np.float32], ...]]:
        """What `run` answers to each recording, (N, frames, …) to a batch of N."""
        shape = self.bundle.architecture
        found: dict[int, tuple[npt.NDArray[np.float32], ...]] = {}
        padded = [shape.padded_frames(len(matrix)) for matrix in recordings]
        for batch in _batches(padded, together=shape.streaming):
            # What follows an utterance in the batch cannot change it: the network is causal, or
            # the utterance is alone.
            x = np.full((len(batch), padded[batch[-1]], shape.bins), shape.silence, np.float32)
            for row, index in enumerate(batch):
                x[row, : len(recordings[index])] = recordings[index]
            answers = run(x)
            for row, index in enumerate(batch):
                span = shape.outputs(len(recordings[index]))
                found[index] = tuple(answer[row, span] for answer in answers)
        return [found[index] for index in range(len(recordings))]

    def plausibilities(self, samples: Samples, texts: Sequence[str]) -> list[float]:
        """How well each of several normalised texts fits (n,) samples; the graph runs once.

        In nats per character, about 0 at most. Raises InvalidTranscript for a character that the
        model cannot write.
        """
        (log_probs,) = self.log_probs([self.features(samples)])
        return decoding.plausibilities(log_probs, [self.tokenizer.encode(text) for text in texts])


def _batches(lengths: Sequence[int], *, together: bool) -> list[list[int]]:
    """Indices by rising length, cut where a batch padded to its longest gets too big."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if together and batches and (len(batches[-1]) + 1) * lengths[index] <= _BATCH_FRAMES:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
