"""How often the drift monitor is wrong and how soon it is right, beside what is usually done.

    python -m benchmarks.drift

Simulated calls of three utterances (intraclass correlation 0.3) with ten signals, half of them
lognormal; a reference of 48 speakers who never call. After 200 quiet calls a shift moves one
signal of every call.
ADWIN (Bifet and Gavaldà 2007) watches each signal with the delta that River ships, 0.002.
"""

import numpy as np
from numpy.typing import NDArray

from hearloop.drift import detectors
from hearloop.drift.detectors import Comparison
from hearloop.drift.reference import Condition, Reference

SIGNALS = tuple(f"signal {number}" for number in range(10))
REFERENCE_SPEAKERS, REFERENCE_UTTERANCES = 48, 6
UTTERANCES = 3
ICC = 0.3
ARL = 10_000.0
NULL_CALLS = 1000
QUIET_CALLS = 200
"""Before a shift."""
LONG_CALL = 20
"""Utterances of the calls whose utterances are tested one by one, as is usually done."""
REFERENCES, STREAMS = 10, 20
SHIFTS = (0.5, 1.0, 2.0, 6.0)
"""In standard deviations of an utterance."""
CHANGED_CALLS = 400

ADWIN_DELTA = 0.002
ADWIN_EVERY = 8
"""Observations between two checks: a quarter of River's 32, for streams of calls are short."""
ADWIN_SMALLEST = 5

Array = NDArray[np.float64]


def speech(rng: np.random.Generator, calls: tuple[int, ...], utterances: int) -> Array:
    """Signals (*calls, utterances, signal) of calls by as many speakers."""
    speakers = rng.standard_normal((*calls, 1, len(SIGNALS)))
    noise = rng.standard_normal((*calls, utterances, len(SIGNALS)))
    return np.sqrt(ICC) * speakers + np.sqrt(1 - ICC) * noise


def shaped(values: Array) -> Array:
    """Make every other signal lognormal."""
    values = values.copy()
    values[..., ::2] = np.exp(values[..., ::2])
    return values


def comparison(rng: np.random.Generator) -> Comparison:
    """A reference drawn anew."""
    said = shaped(speech(rng, (REFERENCE_SPEAKERS,), REFERENCE_UTTERANCES))
    speakers = tuple(tuple(tuple(one) for one in speaker) for speaker in said.tolist())
    condition = Condition(name="known", speakers=speakers, wer=0.04)
    reference = Reference(signals=SIGNALS, conditions=(condition,))
    return Comparison(reference, signals=SIGNALS, error=0.01)


def first_alarms(known: Comparison, means: Array) -> NDArray[np.int64]:
    """Call of the first alarm in each stream (stream, call, signal), 0 for none."""
    bets = known.bets(means, UTTERANCES)
    statistic = np.zeros((len(means), *detectors.initial(len(SIGNALS)).shape))
    first = np.zeros(len(means), dtype=np.int64)
    for call in range(means.shape[1]):
        statistic = detectors.step(statistic, bets[:, call])
        first[(first == 0) & (detectors.combined(statistic) >= ARL)] = call + 1
    return first


def adwin(values: Array) -> int:
    """Observation at which ADWIN first finds a change in a stream (n,), 0 for none."""
    for end in range(2 * ADWIN_SMALLEST, len(values) + 1, ADWIN_EVERY):
        window = values[:end]
        left = np.arange(ADWIN_SMALLEST, end - ADWIN_SMALLEST + 1)
        sums = np.cumsum(window)
        gap = np.abs(sums[left - 1] / left - (sums[-1] - sums[left - 1]) / (end - left))
        harmonic = 1 / (1 / left + 1 / (end - left))
        penalty = np.log(2 * np.log(end) / ADWIN_DELTA)
        bound = np.sqrt(2 / harmonic * window.var() * penalty) + 2 / (3 * harmonic) * penalty
        if np.any(gap > bound):
            return end
    return 0


def adwin_alarms(streams: Array) -> NDArray[np.int64]:
    """Observation of the first alarm of any signal in streams (stream, n, signal), 0 for none."""
    low, high = streams.min(axis=(0, 1)), streams.max(axis=(0, 1))
    scaled = (streams - low) / (high - low)
    every = [[adwin(one[:, column]) for column in range(len(SIGNALS))] for one in scaled]
    return np.array([min((at for at in alarms if at), default=0) for alarms in every])


def told(first: NDArray[np.int64], shift: float) -> str:
    """Figures of streams that changed after `QUIET_CALLS`."""
    found = first[first > QUIET_CALLS] - QUIET_CALLS
    early = np.mean((first > 0) & (first <= QUIET_CALLS))
    delay = f"{np.median(found):.0f} calls (90 %: {np.quantile(found, 0.9):.0f})"
    return f"{shift:g} sd: {early:.0%} too early, {np.mean(first > QUIET_CALLS):.0%} after {delay}"


def main() -> None:
    """Print the figures."""
    rng = np.random.default_rng(1)
    known = [comparison(rng) for _ in range(REFERENCES)]

    def means(calls: int, utterances: int = UTTERANCES, shift: float = 0.0) -> Array:
        values = speech(rng, (STREAMS, calls), utterances)
        values[:, QUIET_CALLS:, :, 1] += shift
        return shaped(values).mean(axis=-2)

    false = np.concatenate([first_alarms(one, means(NULL_CALLS)) for one in known])
    print(
        f"unchanged: {np.sum(false > 0)} of {len(false)} streams of {NULL_CALLS} calls alarm "
        f"(an ARL of {ARL:.0f} lets {NULL_CALLS / ARL:.0%} do so)"
    )
    long_calls = shaped(speech(rng, (STREAMS, NULL_CALLS // 4), LONG_CALL))
    clustered = adwin_alarms(long_calls.reshape(STREAMS, -1, len(SIGNALS)))
    print(f"ADWIN on the utterances of calls of {LONG_CALL}: {np.mean(clustered > 0):.0%} alarm")
    print(f"ADWIN on their means: {np.mean(adwin_alarms(long_calls.mean(axis=2)) > 0):.0%} alarm")
    for shift in SHIFTS:
        changed = [means(QUIET_CALLS + CHANGED_CALLS, shift=shift) for _ in known]
        first = np.concatenate([first_alarms(*pair) for pair in zip(known, changed, strict=True)])
        print(f"shift of {told(first, shift)}")
        print(f"  ADWIN, {told(adwin_alarms(changed[0]), shift)}")


if __name__ == "__main__":
    main()
