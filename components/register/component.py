"""The challenger gets its version."""

from components import component

__all__ = ["register"]


@component
def register(
    recipe: str, run_id: str, snapshot: str, bundle: str, evaluation: str, decision: str
) -> str:
    """Register the bundle with what it learnt from and how it scored; returns its version."""
    from hearloop import steps

    return steps.register(
        recipe=recipe,
        run_id=run_id,
        snapshot=snapshot,
        bundle=bundle,
        evaluation=evaluation,
        decision=decision,
    )
