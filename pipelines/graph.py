"""The one graph: the same here, with KFP's local runner, and on a KFP server."""

from kfp import dsl

from components.evaluate.component import evaluate
from components.extract.component import extract
from components.hold.component import hold
from components.ingest.component import ingest
from components.judge.component import judge
from components.register.component import register
from components.roll_out.component import roll_out
from components.train.component import train
from components.validate.component import validate

__all__ = ["RETRIES", "continuous_learning"]

RETRIES = 1
"""Training whose pod dies begins again once, and goes on from its last checkpoint."""


@dsl.pipeline(
    name="hearloop-continuous-learning",
    description="Speech in, a judged and rolled out recogniser out.",
)
def continuous_learning(recipe: str, run_id: str) -> None:
    """Build a challenger by the recipe (JSON of `hearloop.recipe.Recipe`) and judge it.

    `run_id` names the run: the same id and recipe again find what was already done.
    """
    run = {"recipe": recipe, "run_id": run_id}
    snapshot = ingest(**run).output
    checked = validate(**run, snapshot=snapshot)
    features = extract(**run, snapshot=snapshot).after(checked).output
    bundle = train(**run, snapshot=snapshot, features=features).set_retry(RETRIES).output
    evaluated = evaluate(**run, snapshot=snapshot, bundle=bundle)
    evaluation = evaluated.outputs["Output"]
    decision = judge(**run, evaluation=evaluation).output
    registered = register(
        **run, snapshot=snapshot, bundle=bundle, evaluation=evaluation, decision=decision
    )
    version = registered.output
    # Both branches stand: the local runner skips a lone If in silence (LIBRARIES, KFP 2.17).
    with dsl.If(decision == "roll_out"):
        rollout = roll_out(**run, version=version)
        rollout.set_caching_options(False)  # a paused rollout goes on when it is asked again
    with dsl.Else():
        hold(**run, version=version)
