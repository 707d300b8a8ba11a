"""What the demo leaves behind: the figures of `summary.json` and the details of the report."""

from datetime import datetime
from typing import Any

from demo.charts import Detector, Request
from demo.report import Comparison, Decision, Details, Link, Sample
from demo.stage import summary_of_run
from demo.story import BASE_RUN, POISON_RUN, Story

__all__ = ["details_of", "summary_of"]

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
    base, challenger = story.judged[story.base], story.judged[story.challenger]
    run, watched = story.seen["runs"][0], story.watched
    versions = [answer.model_version for answer in story.answers if not answer.failure]
    return {
        "wer": {
            name: {
                "base": getattr(base, name).value,
                "challenger": getattr(challenger, name).value,
            }
            for name in ("base_voices", "changed_calls")
        },
        "alarm": {
            "calls_before_change": watched["calls"],
            "alarms_before_change": len(watched["alarms"]),
            "calls_until_alarm": story.alarm["call_number"] - story.scenario.usual.calls,
        },
        "retrain": {
            "trigger": run["reason"],
            "started_by": "monitor" if story.retrain == run["run_id"] else "somebody else",
            "corrections": run["corrections"],
        },
        "serving": {
            "requests": len(story.answers),
            "failed": len(story.answers) - len(versions),
            "version_before": versions[0],
            "version_after": versions[-1],
        },
        "poison": {
            "corrections": story.poison.corrections,
            "stopped_by": story.poison.stopped_by,
            "champion_unchanged": story.poison.champion_unchanged,
            "wer_if_trained": story.judged[story.poisoned].changed_calls.value,
            "gate_if_trained": summary_of_run(POISON_RUN)["judge"]["verdict"],
            "trigger_if_believed": story.poison.trigger_if_believed,
        },
        "seconds": _seconds(story),
    }


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
        stages=tuple(story.stages.done),
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


def _seconds(story: Story) -> dict[str, float]:
    """Wall time: in all, in training (summed over the runs), and by stage."""
    runs = (BASE_RUN, story.retrain, POISON_RUN)
    return {
        "total": story.stages.now_s,
        "training": sum(summary_of_run(run)["seconds"]["train"] for run in runs),
        **{stage.name.replace(" ", "_"): stage.seconds for stage in story.stages.done},
    }


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
