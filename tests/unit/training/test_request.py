from dataclasses import replace
from pathlib import Path

from hearloop.recipe import TrainingConfig
from hearloop.training.request import (
    Candidate,
    FeatureSet,
    StagedTraining,
    TrainingRequest,
    TrainingSummary,
)

REQUEST = TrainingRequest(
    config=TrainingConfig(steps=3, average_with_base=(0.5, 1.0)),
    sets=(FeatureSet(role="new", archive="s3://b/one"),),
    base="digest",
    run_id="run",
)


def test_travels_as_json() -> None:
    assert TrainingRequest.from_json(REQUEST.to_json()) == REQUEST
    staged = StagedTraining(
        request=REQUEST, shards=((Path("a"),),), base=None, work=Path("w"), output=Path("o")
    )
    assert StagedTraining.from_json(staged.to_json()) == staged


def test_its_digest_names_the_weights_not_the_run() -> None:
    assert replace(REQUEST, run_id=None).digest == REQUEST.digest
    others = [
        replace(REQUEST, base=None),
        replace(REQUEST, config=replace(REQUEST.config, seed=1)),
        replace(REQUEST, sets=(FeatureSet(role="replay", archive="s3://b/one"),)),
    ]
    assert len({REQUEST.digest, *(other.digest for other in others)}) == 4


def test_the_summary_tells_what_was_learnt_and_forgotten() -> None:
    summary = TrainingSummary(
        steps=3,
        seconds=1.0,
        audio_seconds_per_second=200.0,
        dev_wer=0.2,
        share=0.5,
        candidates=(
            Candidate(share=0.5, new_wer=0.2, old_wer=0.05),
            Candidate(share=1.0, new_wer=0.1, old_wer=0.09),
        ),
        before=Candidate(share=0.0, new_wer=0.6, old_wer=0.04),
        checkpoints_failed=0,
        curve_points_lost=0,
    )
    assert (round(summary.learnt or 0, 9), round(summary.forgot or 0, 9)) == (0.4, 0.01)
    assert TrainingSummary.from_json(summary.to_json()) == summary
    first = replace(summary, before=None)
    assert (first.learnt, first.forgot) == (None, None)
