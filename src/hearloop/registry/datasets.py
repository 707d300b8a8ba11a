"""What a version learnt from and was judged on, as MLflow keeps it."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hearloop.lineage import DatasetUse

if TYPE_CHECKING:
    from mlflow.entities import Dataset, DatasetInput, Metric

__all__ = ["inputs", "measured"]

DIGEST_CHARACTERS = 32
"""Of a dataset's SHA-256: MLflow keeps 36. The whole digest is in the dataset's source."""


def inputs(uses: Sequence[DatasetUse]) -> "list[DatasetInput]":
    """Datasets as inputs of a run."""
    from mlflow.entities import DatasetInput, InputTag

    return [
        DatasetInput(_dataset(use), [InputTag("mlflow.data.context", use.context)]) for use in uses
    ]


def measured(
    model_id: str, of_model: Mapping[str, float], uses: Sequence[DatasetUse]
) -> "list[Metric]":
    """Metrics of a logged model, and those of each dataset, tied to both."""
    from mlflow.entities import Metric

    common: dict[str, Any] = {"timestamp": int(time.time() * 1000), "model_id": model_id}
    metrics = [Metric(key=name, value=value, step=0, **common) for name, value in of_model.items()]
    # MLflow tells metrics of one name apart by time and step, not by dataset: two judged
    # snapshots of one context need two steps.
    for place, use in enumerate(uses):
        data = _dataset(use)
        metrics += [
            Metric(
                key=f"{use.context}_{name}",
                value=value,
                step=place,
                dataset_name=data.name,
                dataset_digest=data.digest,
                **common,
            )
            for name, value in use.metrics.items()
        ]
    return metrics


def _dataset(use: DatasetUse) -> "Dataset":
    """The dataset as MLflow keeps it: a snapshot's part is known by its context and digest."""
    from mlflow.entities import Dataset

    profile = {"utterances": use.utterances, "seconds": use.seconds}
    if use.corrections is not None:
        profile |= {
            "corrections": len(use.corrections.ids),
            "first_correction": use.corrections.first,
            "last_correction": use.corrections.last,
            "contributors": use.corrections.contributors,
        }
    return Dataset(
        name=use.context,
        digest=use.snapshot[:DIGEST_CHARACTERS],
        source_type="s3",
        source=json.dumps({"uri": use.uri, "sha256": use.snapshot}),
        profile=json.dumps(profile),
    )
