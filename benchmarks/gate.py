"""How often the gate errs: `python -m benchmarks.gate`.

A worthless challenger, better for some speakers and worse for others, should be called better in
5 % of evaluations. A challenger that lost less on the golden set than the margin allows should
pass, given enough speech: the tables say how much is enough.
"""

import time

import numpy as np
from numpy.typing import NDArray

from hearloop.recipe import GatePolicy
from hearloop.resampling import bootstrap

POLICY = GatePolicy()
WORDS = 6
"""Reference words in an utterance, as in calls to the assistant."""
TRIALS = 1000
RESAMPLES = 1000
SPEAKER_SPREAD = 0.12
UTTERANCE_SPREAD = 0.9
"""Standard deviations of the difference in errors an utterance: between speakers, within one."""
WON, LOSS_SPREAD = 0.015, 0.006
"""Share of the words that only the champion gets wrong, and how much the share that only the
challenger gets wrong differs between speakers."""
MARGINS = (0.01, 0.015, 0.02)

Differences = NDArray[np.float64]


def called_better(differences: Differences) -> float:
    """Share of trials (trials, blocks) in which the challenger is called better."""
    lengths = np.ones(differences.shape[1])
    resampled = bootstrap(differences, lengths, resamples=RESAMPLES, seed=0)
    return float(np.mean(resampled.bound(POLICY.confidence) < 0))


def worthless(rounds: int = 8, speakers: int = 40, utterances: int = 20) -> tuple[float, float]:
    """False passes when speakers are resampled, and when utterances are."""
    by_speaker, by_utterance = [], []
    for seed in range(rounds):
        generator = np.random.default_rng(seed)
        suits = generator.normal(0, SPEAKER_SPREAD, (TRIALS, speakers, 1))
        within = generator.normal(0, UTTERANCE_SPREAD, (TRIALS, speakers, utterances))
        by_speaker.append(called_better((suits + within).sum(axis=2)))
        by_utterance.append(called_better((suits + within).reshape(TRIALS, -1)))
    return float(np.mean(by_speaker)), float(np.mean(by_utterance))


def golden(speakers: int, utterances: int, loss: float) -> tuple[float, list[float]]:
    """Median detectable effect, and how often a loss passes the golden check at each margin."""
    generator = np.random.default_rng(0)
    words = utterances * WORDS
    losing = np.clip(WON + loss + generator.normal(0, LOSS_SPREAD, (TRIALS, speakers)), 0, 1)
    change = generator.binomial(words, losing) - generator.binomial(words, WON, losing.shape)
    lengths = np.full(speakers, float(words))
    resampled = bootstrap(change.astype(float), lengths, resamples=RESAMPLES, seed=0)
    detectable = resampled.detectable(1 - POLICY.confidence, POLICY.power)
    high = resampled.bound(POLICY.confidence)
    passed = [(high < 0) | ((high < margin) & (detectable <= margin)) for margin in MARGINS]
    return float(np.median(detectable)), [float(np.mean(each)) for each in passed]


def main() -> None:
    """Print the figures."""
    began = time.perf_counter()
    by_speaker, by_utterance = worthless()
    print(f"a worthless challenger is called better, nominal {1 - POLICY.confidence:.0%}:")
    print(f"  {by_speaker:.1%} resampling speakers, {by_utterance:.1%} resampling utterances")
    print("a challenger that lost some points on the golden set passes:")
    print("  speakers x utterances  lost  detectable  margin 1.0  margin 1.5  margin 2.0")
    for speakers, utterances in ((48, 8), (96, 8), (192, 8), (96, 24)):
        for loss in (0.0, 0.005, 0.01, 0.02):
            detectable, passed = golden(speakers, utterances, loss)
            shares = "".join(f"{share:12.0%}" for share in passed)
            print(
                f"  {speakers:8} x {utterances:<10} {100 * loss:4.1f}  "
                f"{100 * detectable:10.2f}{shares}"
            )
    print(f"took {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
