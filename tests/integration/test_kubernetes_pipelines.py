"""Launching and scheduling pipelines on a KFP server that fails: one of a name, in the end."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hearloop.errors import ServiceUnavailable
from hearloop.launchers import KfpLauncher
from tests.integration.kfp_api import Kfp, kfp_api

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:kfp", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # kfp leaves its connections open
]


@pytest.fixture
def kfp() -> Iterator[Kfp]:
    with kfp_api() as server:
        yield server


@pytest.fixture(scope="module")
def package() -> Path:
    """The pipeline as it is compiled and reviewed."""
    return Path(__file__).parents[1] / "contract" / "golden" / "continuous_learning.yaml"


@pytest.mark.parametrize("fault", ["500", "503", "lost"])
def test_a_launch_that_fails_may_be_repeated(kfp: Kfp, package: Path, fault: str) -> None:
    launcher = KfpLauncher(kfp.url, package, service_account="hearloop-pipeline")
    assert launcher.status("retrain-1") == "unknown"
    kfp.runs.clear()
    kfp.faults.extend(["", fault])
    with pytest.raises(ServiceUnavailable, match="create_run_from_pipeline_package"):
        launcher.launch("retrain-1", "{}")
    launcher.launch("retrain-1", "{}")
    (run,) = kfp.runs
    assert (run["display_name"], run["service_account"]) == ("retrain-1", "hearloop-pipeline")
    assert launcher.status("retrain-1") == "running"


def test_a_server_that_cannot_list_starts_nothing(kfp: Kfp, package: Path) -> None:
    launcher = KfpLauncher(kfp.url, package)
    kfp.faults.append("500")
    with pytest.raises(ServiceUnavailable, match="list_runs"):
        launcher.launch("retrain-1", "{}")
    assert kfp.runs == []


@pytest.fixture(scope="module")
def scheduled() -> Path:
    """The pipeline of a schedule."""
    return Path(__file__).parents[1] / "contract" / "golden" / "scheduled_learning.yaml"


@pytest.mark.parametrize("fault", ["409", "500", "lost"])
@pytest.mark.parametrize("call", ["list", "create", "delete"])
def test_a_schedule_that_fails_may_be_repeated(
    kfp: Kfp, scheduled: Path, call: str, fault: str
) -> None:
    """One stands at every moment, and one alone in the end: the new one."""
    launcher = KfpLauncher(kfp.url, scheduled, service_account="hearloop-pipeline")
    launcher.schedule("weekly", '{"name": "x"}', "0 0 3 * * 1")
    kfp.faults.extend([""] * ["list", "create", "delete"].index(call) + [fault])
    with suppress(ServiceUnavailable):  # what is safe to ask again is, where the answer was lost
        launcher.schedule("weekly", '{"name": "y"}', "0 0 4 * * 1")
    assert not kfp.faults
    assert kfp.schedules
    launcher.schedule("weekly", '{"name": "y"}', "0 0 4 * * 1")
    (one,) = kfp.schedules
    assert one["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * 1"
    assert one["runtime_config"]["parameters"] == {"recipe": '{"name": "y"}'}


def test_steps_on_gpus_run_in_an_image_of_their_own(kfp: Kfp, scheduled: Path) -> None:
    launcher = KfpLauncher(kfp.url, scheduled, image="ours@sha256:1", gpu_image="cuda@sha256:2")
    launcher.schedule("weekly", "{}", "0 0 3 * * 1")
    (one,) = kfp.schedules
    executors = one["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    images = {name: each["container"]["image"] for name, each in executors.items()}
    assert images.pop("exec-train") == "cuda@sha256:2"
    assert set(images.values()) == {"ours@sha256:1"}
