"""How fast log-mel features are: `python -m benchmarks.features`.

Hours of audio that a core analyses in an hour, over the fastest of librosa, torchaudio (Kaldi's
features and its own) and kaldi-native-fbank, all with 80 bins, 25 ms windows, 10 ms apart.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before the libraries below start their threads

import time
from collections.abc import Callable
from typing import Any, Final

import kaldi_native_fbank
import librosa
import numpy as np
import torch
import torchaudio

from benchmarks.results import record
from hearloop.features import HOP, MEL_BINS, SAMPLE_RATE, WINDOW, Samples, log_mel

UTTERANCES: Final = 20
SECONDS: Final = (2.0, 8.0)
ROUNDS: Final = 15
FLOOR: Final = 1e-10


def with_librosa(samples: Samples) -> Any:
    """Slaney's bins, as speech recognisers in Python have it."""
    powers = librosa.feature.melspectrogram(
        y=samples, sr=SAMPLE_RATE, n_fft=512, win_length=WINDOW, hop_length=HOP, n_mels=MEL_BINS
    )
    return np.log(np.maximum(powers, FLOOR))


def with_torchaudio_kaldi(samples: Samples) -> Any:
    """Kaldi's features in torch."""
    wave = torch.from_numpy(samples)[None]
    return torchaudio.compliance.kaldi.fbank(wave, num_mel_bins=MEL_BINS, snip_edges=False)


MELS: Final = torchaudio.transforms.MelSpectrogram(
    SAMPLE_RATE, n_fft=512, win_length=WINDOW, hop_length=HOP, n_mels=MEL_BINS
)


def with_torchaudio(samples: Samples) -> Any:
    """torchaudio's own spectrogram: neither pre-emphasis nor a mean to take away."""
    return MELS(torch.from_numpy(samples)).clamp_(min=FLOOR).log_()


OPTIONS: Final = kaldi_native_fbank.FbankOptions()
OPTIONS.mel_opts.num_bins = MEL_BINS
OPTIONS.frame_opts.dither = 0.0
OPTIONS.frame_opts.snip_edges = False


def with_kaldi(samples: Samples) -> Any:
    """kaldi-native-fbank, frame by frame as it gives them."""
    fbank = kaldi_native_fbank.OnlineFbank(OPTIONS)
    fbank.accept_waveform(SAMPLE_RATE, samples)
    fbank.input_finished()
    return np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)])


PEERS: Final[dict[str, Callable[[Samples], Any]]] = {
    "librosa": with_librosa,
    "torchaudio.compliance.kaldi": with_torchaudio_kaldi,
    "torchaudio.transforms": with_torchaudio,
    "kaldi-native-fbank": with_kaldi,
}


def main() -> None:
    """In turns; the best round of each counts, since other work only slows."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    lengths = (rng.uniform(*SECONDS, UTTERANCES) * SAMPLE_RATE).astype(int)
    speech = [0.05 * rng.standard_normal(length, np.float32) for length in lengths]
    hours: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, analyse in {"hearloop": log_mel, **PEERS}.items():
            began = time.process_time()
            for samples in speech:
                analyse(samples)
            speed = sum(lengths) / SAMPLE_RATE / (time.process_time() - began)
            hours[name] = max(hours.get(name, 0.0), speed)
    for name, speed in hours.items():
        print(f"{name}: {speed:.0f} hours an hour of a core")
    ratio = hours["hearloop"] / max(hours[name] for name in PEERS)
    record("speech", "feature_speed", ratio, "ratio", "python -m benchmarks.features")


if __name__ == "__main__":
    main()
