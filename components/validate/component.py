"""Expectations that a snapshot has to meet."""

from kfp.dsl import Artifact, Output

from components import component

__all__ = ["validate"]


@component
def validate(recipe: str, run_id: str, snapshot: str, data_docs: Output[Artifact]) -> None:
    """Check the snapshot; a critical failure ends the run. Data Docs are kept either way."""
    from hearloop import steps

    data_docs.metadata.update(
        steps.validate(recipe=recipe, run_id=run_id, snapshot=snapshot, data_docs=data_docs.path)
    )
