"""What each overlay needs underneath: pinned, installed in order, complete."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from k8s import check
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


def test_local_brings_its_stores_and_needs_no_cloud(local: Overlay) -> None:
    services = {one["metadata"]["name"] for one in local.all("Service")}
    assert {"seaweedfs", "kafka", "postgres"} <= services
    assert not {"external-secrets", "strimzi"} & set(wanted("local"))
    text = yaml.safe_dump_all(local.objects)
    assert "amazonaws" not in text
    assert "example.com" not in text


def test_kserve_hangs_its_routes_on_our_gateway(overlay: Overlay) -> None:
    values = yaml.safe_load((PLATFORMS / "values" / "kserve.yaml").read_text())
    controller = values["kserve"]["controller"]
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
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "NOTES": str(notes)}
    done = subprocess.run(
        [str(INSTALL), overlay], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^== (.+)$", done.stdout, re.MULTILINE) == wanted(overlay)
    told, pinned = notes.read_text(), versions()
    for platform in wanted(overlay):
        assert pinned[platform.upper().replace("-", "_")] in told, platform
    domain = {"local": "localhost", "staging": "staging.example.com", "production": "example.com"}
    assert f"kserve.controller.gateway.domain={domain[overlay]}\n" in told
    if "external-secrets" in wanted(overlay):
        assert f"role/hearloop-{overlay}-external-secrets" in told


def test_an_unknown_overlay_is_refused() -> None:
    done = subprocess.run([str(INSTALL), "moon"], capture_output=True, text=True, check=False)
    assert (done.returncode, "There is no overlay moon" in done.stderr) == (2, True)
