"""Chooses the boost of a hotword: `python -m benchmarks.boost`.

Judged by other names and other speakers than the figures of `benchmarks.streaming`: the speakers
of the development split, fifty names of their own, and as unused hotwords those fifty and
`OTHERS`. Prints recall and what the boost costs elsewhere; the default of `Hotword.boost` is the
least that finds a third of the names.
"""

import argparse
from typing import Final

import numpy as np

from benchmarks.hotwords import DEVELOPMENT_NAMES, OTHERS, spoken
from benchmarks.streaming import word_error_rate
from benchmarks.trained import add_bundle, bundle
from hearloop import beam, decoding
from hearloop.corpora.synthetic import calls
from hearloop.features import log_mel
from hearloop.hotwords import Hotword, compiled
from hearloop.recogniser import Recogniser
from pipelines.recipes import CALLERS

BOOSTS: Final = (3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0)
"""Nats a character."""
SENTENCES, CALLS, UTTERANCES = 2, 48, 6


def main() -> None:
    """Print a line for each boost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.boost", description=__doc__)
    add_bundle(parser)
    recogniser = Recogniser.load(bundle(parser.parse_args().bundle), "int8")
    asked = list(spoken(CALLERS, SENTENCES, DEVELOPMENT_NAMES, "dev"))
    said = [one for call in calls(CALLERS, "dev", CALLS, UTTERANCES) for one in call.utterances]
    named = recogniser.log_probs([log_mel(samples) for *_, samples in asked])
    plain = recogniser.log_probs([log_mel(samples) for _, samples in said])
    greedy = word_error_rate(
        said, [decoding.transcribe(one, recogniser.tokenizer).text for one in plain]
    )
    for boost in BOOSTS:
        used, unused = (
            compiled([Hotword(phrase=name, boost=boost) for name in names], recogniser.tokenizer)
            for names in (DEVELOPMENT_NAMES, (*DEVELOPMENT_NAMES, *OTHERS))
        )
        texts = [beam.transcribe(one, recogniser.tokenizer, used).text for one in named]
        pairs = zip(asked, texts, strict=True)
        recall = np.mean([f" {name} " in f" {text} " for (name, *_), text in pairs])
        heard = [beam.transcribe(one, recogniser.tokenizer, unused).text for one in plain]
        cost = word_error_rate(said, heard) - greedy
        print(f"boost {boost:g}: recall {recall:.3f}, WER {greedy:.4f} {cost:+.4f}", flush=True)


if __name__ == "__main__":
    main()
