"""The gate."""

from components import component

__all__ = ["judge"]


@component
def judge(recipe: str, run_id: str, evaluation: str) -> str:
    """Judge the challenger; returns `roll_out` or `hold`."""
    from hearloop import steps

    return steps.judge(recipe=recipe, run_id=run_id, evaluation=evaluation)
