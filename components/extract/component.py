"""What training and the feature store need to know of each utterance."""

from components import component

__all__ = ["extract"]


@component
def extract(recipe: str, run_id: str, snapshot: str) -> str:
    """Store log-mel features and quality features; returns the URI of the log-mel archive."""
    from hearloop import steps

    return steps.extract(recipe=recipe, run_id=run_id, snapshot=snapshot)
