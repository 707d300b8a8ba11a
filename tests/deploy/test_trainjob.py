"""The TrainJob that we create is one that Kubeflow Trainer accepts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hearloop.config import TrainJobSettings
from hearloop.training.trainjob import TrainJob

SCHEMA = Path(__file__).parents[3] / "shared/schemas/trainjob_trainer.kubeflow.org_v1alpha1.json"
JOB = TrainJob(
    name="hearloop-0123456789abcdef",
    settings=TrainJobSettings(image="registry.example/hearloop:1", nodes=2),
    folder="s3://hearloop-artifacts/trainings/0123",
)


@pytest.fixture(scope="module")
def schema() -> Any:
    if not SCHEMA.exists():
        pytest.skip(f"no Kubeflow Trainer schemas at {SCHEMA.parent}")
    return json.loads(SCHEMA.read_text())


def test_the_schema_accepts_it(schema: Any) -> None:
    jsonschema.validate(JOB.manifest(), schema)


def test_the_schema_would_refuse_a_wrong_one(schema: Any) -> None:
    wrong = replace(JOB, settings=replace_nodes("two"))
    with pytest.raises(jsonschema.ValidationError, match="two"):
        jsonschema.validate(wrong.manifest(), schema)


def replace_nodes(nodes: Any) -> TrainJobSettings:
    return JOB.settings.model_copy(update={"nodes": nodes})
