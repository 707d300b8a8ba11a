"""The one graph: the same here, with KFP's local runner, and on a KFP server."""

from functools import partial
from typing import Protocol

from kfp import dsl
from kfp.dsl import PipelineTask
from kfp.dsl.base_component import BaseComponent

from components.evaluate.component import evaluate
from components.extract.component import extract
from components.hold.component import hold
from components.ingest.component import ingest
from components.judge.component import judge
from components.register.component import register
from components.roll_out.component import roll_out
from components.train.component import train
from components.validate.component import validate
from pipelines.placement import place

__all__ = ["continuous_learning", "in_a_cluster", "on_a_schedule"]

RETRIES = 1
"""Training whose process dies begins again once, and goes on from its last checkpoint."""


class Placing(Protocol):
    """Gives a task what it needs where it runs."""

    def __call__(self, task: PipelineTask, *, gpus: int = 0) -> PipelineTask:
        """The same task. `gpus`: of its own."""


def _here(task: PipelineTask, *, gpus: int = 0) -> PipelineTask:
    """On this machine a step takes what there is, and fails at once."""
    return task.set_retry(RETRIES) if task.name == "train" else task


def _learn(recipe: str, run_id: str, placing: Placing, gpus: int = 0) -> None:
    """Build a challenger by the recipe and judge it: the steps and what they hand each other."""
    run = {"recipe": recipe, "run_id": run_id}
    snapshot = placing(ingest(**run)).output
    checked = placing(validate(**run, snapshot=snapshot))
    features = placing(extract(**run, snapshot=snapshot).after(checked)).output
    bundle = placing(train(**run, snapshot=snapshot, features=features), gpus=gpus).output
    evaluated = placing(evaluate(**run, snapshot=snapshot, bundle=bundle))
    evaluation = evaluated.outputs["Output"]
    decision = placing(judge(**run, evaluation=evaluation)).output
    registered = placing(
        register(**run, snapshot=snapshot, bundle=bundle, evaluation=evaluation, decision=decision)
    )
    version = registered.output
    # Both branches stand: the local runner skips a lone If in silence (LIBRARIES, KFP 2.17).
    with dsl.If(decision == "roll_out"):
        rollout = placing(roll_out(**run, version=version))
        rollout.set_caching_options(False)  # a paused rollout goes on when it is asked again
    with dsl.Else():
        placing(hold(**run, version=version))


def _graph(placing: Placing, gpus: int = 0) -> BaseComponent:
    @dsl.pipeline(
        name="hearloop-continuous-learning",
        description="Speech in, a judged and rolled out recogniser out.",
    )
    def continuous_learning(recipe: str, run_id: str) -> None:
        """Build a challenger by the recipe (JSON of `hearloop.recipe.Recipe`) and judge it.

        `run_id` names the run: the same id and recipe again find what was already done.
        """
        _learn(recipe, run_id, placing, gpus)

    return continuous_learning


continuous_learning = _graph(_here)
"""The pipeline for this machine."""

in_a_cluster = partial(_graph, place)
"""The pipeline with what a cluster needs. `gpus`: for training in the step itself; 0 where steps
create TrainJobs, which ask for their own."""


def on_a_schedule(gpus: int = 0) -> BaseComponent:
    """The pipeline for a recurring run: each run is named as KFP names it.

    KFP 2 does not fill `[[ScheduledTime]]` and its like into parameters (kubeflow/pipelines#12494).
    """

    @dsl.pipeline(
        name="hearloop-scheduled-learning",
        description="Speech in, a judged and rolled out recogniser out; again and again.",
    )
    def scheduled_learning(recipe: str) -> None:
        """Build a challenger by the recipe (JSON of `hearloop.recipe.Recipe`) and judge it."""
        _learn(recipe, dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER, place, gpus)

    return scheduled_learning
