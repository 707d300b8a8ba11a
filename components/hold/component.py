"""The challenger does not take the traffic."""

from components import component

__all__ = ["hold"]


@component
def hold(recipe: str, run_id: str, version: str) -> str:
    """Record that the version stays out of service, and why; returns `held`."""
    from hearloop import steps

    return steps.hold(recipe=recipe, run_id=run_id, version=version)
