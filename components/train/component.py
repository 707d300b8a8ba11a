"""A challenger learns."""

from components import component

__all__ = ["train"]


@component
def train(recipe: str, run_id: str, snapshot: str, features: str) -> str:
    """Train a recogniser on the snapshot's features; returns the digest of its bundle."""
    from hearloop import steps

    return steps.train(recipe=recipe, run_id=run_id, snapshot=snapshot, features=features)
