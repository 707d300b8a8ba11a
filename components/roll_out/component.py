"""The challenger takes the traffic, step by step."""

from components import component

__all__ = ["roll_out"]


@component
def roll_out(recipe: str, run_id: str, version: str) -> str:
    """Move the traffic by the recipe's policy; returns how the rollout ended."""
    from hearloop import steps

    return steps.roll_out(recipe=recipe, run_id=run_id, version=version)
