"""What the adapters write into a cluster is what its operators take."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hearloop.cluster import Resources
from hearloop.config import TrainJobSettings
from hearloop.rollout import Traffic
from hearloop.rollout.inference_service import SCALERS, SERVICES, InferenceServiceRouter
from hearloop.training.trainjob import TrainJob
from k8s import check
from tests.deploy.objects import Overlay
from tests.integration.kserve_controller import SERVICE, Counted, KServe
from tests.integration.kubernetes_api import kubernetes_api

JOB = TrainJob(
    name="hearloop-0123456789abcdef",
    settings=TrainJobSettings(
        runtime="hearloop-training",
        image="registry.example/hearloop:1",
        nodes=2,
        gpus=1,
        queue="hearloop",
        priority="hearloop-training",
    ),
    folder="s3://hearloop-artifacts/trainings/0123",
)


def test_a_train_job_is_one_that_kubeflow_trainer_accepts(schemas: Path) -> None:
    assert list(check.problems(JOB.manifest(), schemas)) == []


def test_the_schema_would_refuse_a_wrong_one(schemas: Path) -> None:
    wrong = replace(JOB, settings=JOB.settings.model_copy(update={"nodes": "two"}))
    schema = json.loads((schemas / check.schema_name(wrong.manifest())).read_text())
    with pytest.raises(jsonschema.ValidationError, match="two"):
        jsonschema.Draft7Validator(schema).validate(wrong.manifest())


@pytest.fixture
def kserve(staging: Overlay) -> Iterator[KServe]:
    """KServe over the InferenceService of staging."""
    with kubernetes_api() as api:
        running = KServe(api)
        api.store.create(SERVICE, deepcopy(staging.one("InferenceService")))
        yield running
    running.stop()


def test_every_step_of_a_rollout_is_one_that_kserve_accepts(kserve: KServe, schemas: Path) -> None:
    api = kserve.api.client()
    router = InferenceServiceRouter(
        "hearloop",
        services=Resources(SERVICES, "hearloop", api=api),
        scalers=Resources(SCALERS, "hearloop", api=api),
        tallies=Counted(),
    )
    for traffic in (
        Traffic(stable="7"),
        Traffic(stable="7", canary="8", canary_percent=20),
        Traffic(stable="8"),
    ):
        router.write(traffic)
    written = [event.resource for event in kserve.api.store.history]
    assert any("canary" in one["spec"] for one in written)
    assert [problem for one in written for problem in check.problems(_stored(one), schemas)] == []


def _stored(resource: dict[str, Any]) -> dict[str, Any]:
    """Without what the API server itself adds."""
    metadata = {
        key: value
        for key, value in resource["metadata"].items()
        if key not in ("uid", "generation", "resourceVersion")
    }
    return {**resource, "metadata": metadata}
