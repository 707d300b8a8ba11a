"""How well champion and challenger hear."""

from kfp.dsl import HTML, Metrics, Output

from components import component

__all__ = ["evaluate"]


@component
def evaluate(
    recipe: str,
    run_id: str,
    snapshot: str,
    bundle: str,
    report: Output[HTML],
    metrics: Output[Metrics],
) -> str:
    """Score both on the same cuts; returns the digest of the evaluation."""
    from hearloop import steps

    evaluation, figures = steps.evaluate(
        recipe=recipe, run_id=run_id, snapshot=snapshot, bundle=bundle, report=report.path
    )
    for name, value in figures.items():
        metrics.log_metric(name, value)
    return evaluation
