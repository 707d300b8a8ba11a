"""What the demo leaves behind: the figures of `summary.json` and the details of the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from demo.charts import Detector, Request
from demo.report import Comparison, Decision, Details, Link, Sample, Stage
from demo.stage import summary_of_run
from demo.story import BASE_RUN, BASE_STAGE, POISON_RUN, POISON_STAGE, RETRAIN_STAGE, Story

__all__ = ["details_of", "summary_of", "summary_so_far"]

BY = {
    "gate": "gate",
    "reference": "monitor",
    "retrain": "monitor",
    "review": "monitor",
    "rollout": "rollout",
    "shift": "monitor",
}
"""Who takes decisions of a kind."""

SAMPLES = 6
"""Changed calls to listen to in the report: those that the retrain helped most."""


def summary_of(story: Story) -> dict[str, Any]:
    """The figures of the run as JSON values; rates are fractions, times are seconds."""
    return {name: measure(story) for name, (_, measure) in FIGURES.items()}


def summary_so_far(story: Story, error: Exception) -> dict[str, Any]:
    """What was measured until an error ended the demo, and which stage it ended, and why."""
    measured = {
        name: measure(story)
        for name, (needed, measure) in FIGURES.items()
        if all(getattr(story, each, None) for each in needed)
    }
    return {"failed": {"stage": story.stages.failed, "reason": str(error)}, **measured}


def details_of(story: Story) -> Details:
    """What the report shows besides the summary."""
    base, challenger = story.judged[story.base], story.judged[story.challenger]
    poisoned = story.judged[story.poisoned]
    return Details(
        wer=(
            Comparison(name="base voices", before=base.base_voices, after=challenger.base_voices),
            Comparison(
                name="changed calls", before=base.changed_calls, after=challenger.changed_calls
            ),
        ),
        detector=Detector(
            points=tuple(story.monitor.trace),
            threshold=story.scenario.policy.arl_calls,
            change_call=story.scenario.usual.calls,
            alarm_call=story.alarm["call_number"],
        ),
        traffic=tuple(
            Request(at_s=_since(story, answer.at), version=answer.model_version)
            for answer in story.answers
        ),
        marks=tuple(story.marks),
        decisions=tuple(
            Decision(
                at_s=_since(story, datetime.fromisoformat(one["at"])),
                by=BY.get(one["kind"], one["kind"]),
                decision=one["decision"],
                reason=one["reason"],
            )
            for one in story.decided
        ),
        stages=_stages(story),
        verdict=story.verdict,
        poisoned=(
            Comparison(
                name="base voices", before=challenger.base_voices, after=poisoned.base_voices
            ),
            Comparison(
                name="changed calls", before=challenger.changed_calls, after=poisoned.changed_calls
            ),
        ),
        samples=_samples(story),
        links=_links(story),
    )


def _wer(story: Story) -> dict[str, Any]:
    """Of the versions that were judged."""
    named = {"base": story.base, "challenger": getattr(story, "challenger", None)}
    judged = {
        name: story.judged[version] for name, version in named.items() if version in story.judged
    }
    return {
        voices: {name: getattr(one, voices).value for name, one in judged.items()}
        for voices in ("base_voices", "changed_calls")
    }


def _alarm(story: Story) -> dict[str, Any]:
    """Calls are watched in the order in which they end: the usual ones are the first."""
    usual, seen = story.scenario.usual.calls, story.monitor.seen
    return {
        "calls_before_change": min(seen["calls"], usual),
        "alarms_before_change": sum(one["call_number"] <= usual for one in seen["alarms"]),
        "calls_until_alarm": story.alarm["call_number"] - usual,
    }


def _retrain(story: Story) -> dict[str, Any]:
    run = story.monitor.seen["runs"][0]
    return {
        "trigger": run["reason"],
        "started_by": "monitor" if story.retrain == run["run_id"] else "somebody else",
        "corrections": run["corrections"],
    }


def _serving(story: Story) -> dict[str, Any]:
    versions = [answer.model_version for answer in story.answers if not answer.failure]
    return {
        "requests": len(story.answers),
        "failed": len(story.answers) - len(versions),
        "version_before": versions[0] if versions else "",
        "version_after": versions[-1] if versions else "",
    }


def _poison(story: Story) -> dict[str, Any]:
    return {
        "corrections": story.poison.corrections,
        "stopped": story.poison.stopped,
        "stopped_by": story.poison.stopped_by,
        "champion_unchanged": story.champion == story.challenger,
        "wer_if_trained": story.judged[story.poisoned].changed_calls.value,
        "gate_if_trained": summary_of_run(POISON_RUN)["judge"]["verdict"],
        "trigger_if_believed": story.poison.trigger_if_believed,
    }


def _seconds(story: Story) -> dict[str, float]:
    """Wall time: in all, in training (summed over the runs), and by stage."""
    return {
        "total": story.stages.now_s,
        "training": sum(stage.training_s for stage in _stages(story)),
        **{stage.name.replace(" ", "_"): stage.seconds for stage in story.stages.done},
    }


def _stages(story: Story) -> tuple[Stage, ...]:
    """The stages that have ended, with the time that their pipeline runs spent training."""
    runs = {
        BASE_STAGE: BASE_RUN,
        RETRAIN_STAGE: getattr(story, "retrain", ""),
        POISON_STAGE: POISON_RUN,
    }
    return tuple(
        replace(stage, training_s=summary_of_run(runs[stage.name])["seconds"]["train"])
        if stage.name in runs
        else stage
        for stage in story.stages.done
    )


Measure = Callable[[Story], dict[str, Any]]

FIGURES: Mapping[str, tuple[Sequence[str], Measure]] = {
    "wer": (("judged",), _wer),
    "alarm": (("alarm",), _alarm),
    "retrain": (("retrain",), _retrain),
    "serving": (("answers",), _serving),
    "poison": (("poison", "poisoned", "champion"), _poison),
    "seconds": ((), _seconds),
}
"""The parts of the summary: what each needs of the story, and how it is measured."""


def _samples(story: Story) -> tuple[Sample, ...]:
    """The changed calls that the retrain helped most."""
    said = [one for call in story.groups["judged_changed"] for one in call]
    before = story.judged[story.base].answers
    after = story.judged[story.challenger].answers
    heard = [
        (one, old.answers[story.base], new.answers[story.challenger])
        for one, old, new in zip(said, before, after, strict=True)
    ]
    heard.sort(key=lambda pair: pair[2].words.errors - pair[1].words.errors)
    return tuple(
        Sample(
            accent=one.accent,
            reference=one.reference,
            before=old.text,
            after=new.text,
            audio=one.audio,
        )
        for one, old, new in heard[:SAMPLES]
    )


def _links(story: Story) -> tuple[Link, ...]:
    """The evaluation report of each run, copied beside the page."""
    return tuple(
        Link(title=f"Evaluation of run {run}", href=f"evaluations/{run}.html", about=about)
        for run, about in (
            (BASE_RUN, "the base model on its own test speech"),
            (story.retrain, "champion and challenger, with the gate's checks"),
            (POISON_RUN, "a model that learnt from poisoned corrections"),
        )
    )


def _since(story: Story, at: datetime) -> float:
    """Seconds since the demo began."""
    return (at - story.stages.began_at).total_seconds()
