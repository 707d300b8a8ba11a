"""What each overlay needs underneath: pinned, installed in order, complete."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s import check
from tests.deploy import hcl
from tests.deploy.exported import PLATFORM
from tests.deploy.objects import Overlay

PLATFORMS = check.K8S / "platforms"
INSTALL = PLATFORMS / "install.sh"


def versions() -> dict[str, str]:
    lines = (PLATFORMS / "versions.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def wanted(overlay: str) -> list[str]:
    return (check.K8S / "overlays" / overlay / "platforms").read_text().split()


def functions() -> list[str]:
    """Platforms in the order in which install.sh defines how they are installed."""
    return re.findall(r"^install_([\w-]+)\(\)", INSTALL.read_text(), re.MULTILINE)


def values(chart: str) -> dict[str, Any]:
    """What a chart is told."""
    told: dict[str, Any] = yaml.safe_load((PLATFORMS / "values" / f"{chart}.yaml").read_text())
    return told


def groups() -> dict[str, str]:
    """The platform of each API group."""
    lines = (PLATFORMS / "groups").read_text().splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("overlay", check.OVERLAYS)
def test_an_overlay_names_platforms_that_are_pinned_in_the_right_order(overlay: str) -> None:
    order = functions()
    places = [order.index(platform) for platform in wanted(overlay)]
    assert places == sorted(places), "a platform comes before one that it needs"


def test_every_version_is_pinned_once_and_used() -> None:
    pinned = versions()
    assert {name.lower().replace("_", "-") for name in pinned} == set(functions())
    script = INSTALL.read_text()
    for name, version in pinned.items():
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", version), f"{name}={version}"
        assert f"${name}" in script
    assert check.KUBERNETES in (PLATFORMS / "versions.env").read_text(), "the autoscaler's"
    assert not re.search(r"\bv?\d+\.\d+\.\d+\b", script), "versions belong into versions.env"


def test_every_kind_belongs_to_a_platform_that_the_overlay_names(overlay: Overlay) -> None:
    known = groups()
    for one in overlay.objects:
        if check.is_custom(one):
            group = one["apiVersion"].split("/")[0]
            assert known[group] in wanted(overlay.name), one["kind"]
    annotations = overlay.one("InferenceService")["metadata"]["annotations"]
    keda = annotations["serving.kserve.io/autoscalerClass"] == "keda"
    assert keda is ("keda" in wanted(overlay.name))
    assert overlay.name == "local" or set(groups().values()) <= set(wanted(overlay.name))


def test_what_rules_and_dashboards_ask_of_platforms_is_scraped(overlay: Overlay) -> None:
    scraped = {"prometheus"}  # its chart's own exporters
    if values("kueue")["enablePrometheus"]:
        scraped.add("kueue")
    if values("keda")["prometheus"]["operator"]["serviceMonitor"]["enabled"]:
        scraped.add("keda")
    if values("dcgm-exporter")["serviceMonitor"]["enabled"]:
        scraped.add("dcgm-exporter")
    if any(
        one["spec"]["selector"]["matchLabels"] == {"app": "ml-pipeline"}
        for one in overlay.all("PodMonitor", "kubeflow")
    ):
        scraped.add("kfp")
    assert set(PLATFORM.values()) == scraped
    used = set(PLATFORM.values()) & set(wanted(overlay.name))
    assert used == scraped or overlay.name == "local"
    prometheus = values("prometheus")["prometheus"]["prometheusSpec"]
    assert prometheus["serviceMonitorSelectorNilUsesHelmValues"] is False
    assert prometheus["podMonitorSelectorNilUsesHelmValues"] is False


@pytest.mark.parametrize("chart", ["external-secrets", "cluster-autoscaler"])
def test_platforms_run_as_the_accounts_that_terraform_gives_roles_to(chart: str) -> None:
    accounts = str(hcl.local("modules/workloads/main.tf", "service_accounts"))
    namespace, name = re.search(  # type: ignore[union-attr]
        rf'{chart} = {{namespace = "([\w-]+)", name = "([\w-]+)"}}', accounts
    ).groups()
    assert f"chart {namespace} {chart} " in INSTALL.read_text()
    if chart == "cluster-autoscaler":
        assert values(chart)["rbac"]["serviceAccount"]["name"] == name
    else:
        assert name == chart, "what the chart calls it unless it is told otherwise"


@pytest.mark.parametrize("name", ["staging", "production"])
def test_gpus_of_our_nodes_are_a_resource_and_are_watched(
    name: str, request: pytest.FixtureRequest
) -> None:
    training = request.getfixturevalue(name).training().spec
    for chart in ("nvidia-device-plugin", "dcgm-exporter"):
        assert values(chart)["tolerations"] == training["tolerations"]
        assert values(chart)["nodeSelector"] == training["nodeSelector"]
    assert values("nvidia-device-plugin")["affinity"] is None
    order = wanted(name)
    assert order[0] == "cluster-autoscaler", "what follows may need more nodes than there are"


def test_local_brings_its_stores_and_needs_no_cloud(local: Overlay) -> None:
    services = {one["metadata"]["name"] for one in local.all("Service")}
    assert {"seaweedfs", "kafka", "postgres"} <= services
    assert not {"external-secrets", "strimzi"} & set(wanted("local"))
    text = yaml.safe_dump_all(local.objects)
    assert "amazonaws" not in text
    assert "example.com" not in text


def test_kserve_hangs_its_routes_on_our_gateway(overlay: Overlay) -> None:
    controller = values("kserve")["kserve"]["controller"]
    gateway = overlay.one("Gateway", "hearloop")["metadata"]
    place = controller["gateway"]["ingressGateway"]["kserveGateway"]
    assert place == f"{gateway['namespace']}/{gateway['name']}"
    assert controller["deploymentMode"] == "Standard"
    service = overlay.one("InferenceService")["metadata"]
    assert service["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"


@pytest.mark.parametrize("script", [INSTALL], ids=["install.sh"])
def test_scripts_are_sound(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.defpath}")
    assert shellcheck, "pip install -e .[dev] brings it"
    command = [shellcheck, "--external-sources", f"--source-path={script.parent}", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


RECORDING = """#!/usr/bin/env bash
# Stands in for kubectl and helm: notes what it is told, and takes what is piped to it.
printf '%s %s\\n' "$(basename "$0")" "$*" >>"$NOTES"
[[ $* == *-f\\ - ]] && cat >/dev/null
exit 0
"""


@pytest.mark.parametrize("overlay", check.OVERLAYS)
def test_the_installer_asks_for_each_platform_once_and_in_order(
    overlay: str, tmp_path: Path
) -> None:
    for tool in ("kubectl", "helm"):
        (tmp_path / tool).write_text(RECORDING)
        (tmp_path / tool).chmod(0o755)
    notes = tmp_path / "notes"
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "NOTES": str(notes)}
    done = subprocess.run(
        [str(INSTALL), overlay], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^== (.+)$", done.stdout, re.MULTILINE) == wanted(overlay)
    told, pinned = notes.read_text(), versions()
    for platform in wanted(overlay):
        assert pinned[platform.upper().replace("-", "_")] in told, platform
    environment = overlay.removesuffix("-standby")
    domain = {"local": "localhost", "staging": "staging.example.com", "production": "example.com"}
    assert f"kserve.controller.gateway.domain={domain[environment]}\n" in told
    assert (f"kubectl apply -f {PLATFORMS}/storage.yaml" in told) is (overlay != "local")
    if overlay != "local":
        assert told.startswith("kubectl apply -f "), "volumes before who asks for them"
        for role in ("external-secrets", "cluster-autoscaler"):
            assert f"role/hearloop-{overlay}-{role}" in told
        assert f"autoDiscovery.clusterName=hearloop-{environment} " in told
        region = "eu-west-1" if overlay == "production-standby" else "eu-central-1"
        assert f"awsRegion={region} " in told


def test_prometheus_remembers_the_weeks_that_the_bands_look_back() -> None:
    (storage,) = yaml.safe_load_all((PLATFORMS / "storage.yaml").read_text())
    assert list(check.problems(storage, None)) == []
    assert storage["provisioner"] == "ebs.csi.aws.com"
    spec = values("prometheus")["prometheus"]["prometheusSpec"]
    bands = (check.K8S.parent / "monitoring" / "rules" / "anomalies.yaml").read_text()
    oldest = max(int(days) for days in re.findall(r"offset (\d+)d", bands)) + 2
    assert int(spec["retention"].removesuffix("d")) >= oldest
    assert spec["storageSpec"]["volumeClaimTemplate"]["spec"]["resources"]["requests"]["storage"]


def test_an_unknown_overlay_is_refused() -> None:
    done = subprocess.run([str(INSTALL), "moon"], capture_output=True, text=True, check=False)
    assert (done.returncode, "There is no overlay moon" in done.stderr) == (2, True)
