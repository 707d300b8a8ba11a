"""Speech into an immutable snapshot."""

from components import component

__all__ = ["ingest"]


@component
def ingest(recipe: str, run_id: str) -> str:
    """Gather the recipe's speech into a snapshot in object storage; returns its digest."""
    from hearloop import steps

    return steps.ingest(recipe=recipe, run_id=run_id)
