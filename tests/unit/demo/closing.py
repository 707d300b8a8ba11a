"""A made-up run of the demo, for tests of its closing report."""

from typing import Any

import numpy as np

from demo.charts import Detector, DetectorPoint, Mark, Request
from demo.report import Comparison, Decision, Details, Link, Sample, Stage
from hearloop.audio import encode_flac
from hearloop.gate import gate
from hearloop.recipe import GatePolicy
from hearloop.scores import Rate
from tests.unit.judged import errors, evaluation, judged_set


def rate(value: float) -> Rate:
    return Rate(
        value=value, low=value * 0.85, high=value * 1.15, utterances=288, words=2000, blocks=48
    )


def summary() -> dict[str, Any]:
    return {
        "wer": {
            "base_voices": {"base": 0.038, "challenger": 0.044},
            "changed_calls": {"base": 0.605, "challenger": 0.192},
        },
        "alarm": {"calls_before_change": 220, "alarms_before_change": 0, "calls_until_alarm": 9},
        "retrain": {"trigger": "harm", "started_by": "monitor", "corrections": 378},
        "serving": {"requests": 1520, "failed": 0, "version_before": "1", "version_after": "2"},
        "poison": {
            "corrections": 300,
            "stopped": 300,
            "stopped_by": "the checks on corrections",
            "champion_unchanged": True,
            "trigger_if_believed": "start: harm. WER on 142 corrected calls lies above 40 %.",
            "wer_if_trained": {"base_voices": 0.115, "changed_calls": 0.987},
        },
        "seconds": {"total": 512.0, "training": 201.0, "ingest": 40.0},
    }


def detector() -> Detector:
    generator = np.random.default_rng(0)
    statistic, points = 1.0, []
    for call in range(1, 241):
        bet = np.exp(generator.normal(1.8 if call > 220 else -0.08, 0.35))
        statistic = (statistic + 1) * float(bet)
        points.append(DetectorPoint(call=call, statistic=statistic))
    return Detector(points=tuple(points), threshold=10_000.0, change_call=220, alarm_call=226)


def traffic() -> tuple[Request, ...]:
    generator = np.random.default_rng(1)
    found = []
    for at in np.sort(generator.uniform(190, 505, 1520)):
        share = float(np.clip((at - 400) / 60, 0, 1))
        found.append(Request(at_s=float(at), version="2" if generator.random() < share else "1"))
    return tuple(found)


def details() -> Details:
    old, worse, better = errors(0.04), errors(0.6, seed=1), errors(0.19, seed=2)
    samples = encode_flac(np.zeros(8000, np.float32))
    return Details(
        wer=(
            Comparison(name="base voices", before=rate(0.038), after=rate(0.044)),
            Comparison(name="changed calls", before=rate(0.605), after=rate(0.192)),
        ),
        detector=detector(),
        traffic=traffic(),
        marks=(
            Mark(at_s=240.0, text="callers change"),
            Mark(at_s=252.0, text="alarm"),
            Mark(at_s=300.0, text="retrain starts"),
            Mark(at_s=402.0, text="canary at 10 %"),
            Mark(at_s=460.0, text="version 2 takes all calls"),
        ),
        decisions=(
            Decision(at_s=250.0, by="monitor", decision="watch", reason="No alarm yet."),
            Decision(
                at_s=252.0,
                by="monitor",
                decision="ask for labels",
                reason="The statistic 12,311 passed 10,000; bandwidth carries 71 % of it.",
            ),
            Decision(at_s=299.0, by="monitor", decision="retrain", reason="WER of calls rose."),
        ),
        stages=(
            Stage(name="start the stack", began_s=0.0, seconds=14.0),
            Stage(name="base model", began_s=14.0, seconds=160.0, training_s=120.0),
            Stage(name="usual calls", began_s=190.0, seconds=50.0),
            Stage(name="changed calls", began_s=240.0, seconds=60.0),
            Stage(name="challenger", began_s=305.0, seconds=60.0, training_s=45.0),
        ),
        verdict=gate(
            evaluation(judged_set(old, old), judged_set(worse, better)),
            GatePolicy(resamples=200),
        ),
        poisoned=(
            Comparison(name="base voices", before=rate(0.044), after=rate(0.115)),
            Comparison(name="changed calls", before=rate(0.192), after=rate(0.987)),
        ),
        samples=(
            Sample(
                accent="en-gb-scotland",
                reference="order two zentro chargers please",
                before="or the two send for charge place",
                after="order two zentro charger please",
                audio=samples,
            ),
        ),
        links=(
            Link(title="Evaluation", href="retrain/evaluation.html", about="champion, challenger"),
        ),
    )
