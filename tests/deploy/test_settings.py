"""Settings that overlays and Terraform give are those that the code reads, and all are there."""

import base64
import json
import re

import pytest
from limits import parse

from hearloop.config import Settings
from hearloop.rollout.inference_service import MODEL_VERSION
from pipelines import placement
from serving.settings import ServerSettings
from tests.deploy import hcl
from tests.deploy.objects import Manifest, Overlay

SERVER = {f"HEARLOOP_SERVER_{name.upper()}" for name in ServerSettings.model_fields}
"""Settings of the servers alone; those of tenants are nested below."""


def test_settings_are_those_of_the_code(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Settings().to_environment()
    for namespace in ("hearloop", "kubeflow"):
        values = overlay.settings(namespace)
        assert values.keys() <= known.keys()
    assert overlay.settings("hearloop") == overlay.settings("kubeflow")
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    given = Settings(_env_file=None).to_environment()  # type: ignore[call-arg]
    assert {variable: given[variable] for variable in values} == values


def test_secrets_and_variables_of_pods_are_those_of_the_code(overlay: Overlay) -> None:
    known = {*Settings().to_environment(), *SERVER}
    named = {key for one in overlay.all("Secret") for key in one["data"]}
    for secret in overlay.all("ExternalSecret"):
        named |= set(secret["spec"]["target"].get("template", {}).get("data", {}))
        named |= {item["secretKey"] for item in secret["spec"]["data"]}
    for pod in overlay.pods():
        for container in pod.containers:
            named |= {variable["name"] for variable in container.get("env", [])}
    assert {name for name in named if name.startswith("HEARLOOP_")} <= known


def test_the_servers_are_told_whom_to_believe(
    overlay: Overlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model server and the feedback service read from what an overlay sets."""
    values: dict[str, str] = overlay.one("ConfigMap", "hearloop-server")["data"]
    assert {name.split("__")[0] for name in values} <= SERVER
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    settings = ServerSettings(_env_file=None)  # type: ignore[call-arg]
    if overlay.name == "local":
        assert not settings.jwks_url, "one machine has no identity provider"
    else:
        place = overlay.endpoints()
        assert (settings.jwks_url, settings.issuer) == (
            place["IDENTITY_KEYS"],
            place["IDENTITY_ISSUER"],
        )
        assert settings.default_tenant.consent == "asked"
        assert settings.default_tenant.streams > 0
        parse(settings.default_tenant.rate)
    for policy in overlay.all("SecurityPolicy"):
        (provider,) = policy["spec"]["jwt"]["providers"]
        assert provider["audiences"] == [settings.audience]


def test_servers_that_take_tokens_have_them_and_their_key(overlay: Overlay) -> None:
    pods = [overlay.serving(), *(pod for pod in overlay.pods() if pod.name == "hearloop-feedback")]
    assert len(pods) == 2
    for pod in pods:
        (container,) = pod.spec["containers"]
        sources = {next(iter(each.values()))["name"] for each in container["envFrom"]}
        for wanted in (overlay.one("ConfigMap", "hearloop-server"), _servers_secret(overlay)):
            assert wanted["metadata"]["name"] in sources, pod
    secret = _servers_secret(overlay)
    keys = set(secret.get("data", {})) | {
        each["secretKey"] for each in secret.get("spec", {}).get("data", [])
    }
    assert "HEARLOOP_SERVER_SIGNING_KEY" in keys
    if overlay.name == "local":
        tokens = json.loads(base64.b64decode(secret["data"]["HEARLOOP_SERVER_TOKENS"]))
        assert ServerSettings(tokens=tokens).tokens
        assert len(base64.b64decode(secret["data"]["HEARLOOP_SERVER_SIGNING_KEY"])) >= 32


def _servers_secret(overlay: Overlay) -> Manifest:
    (found,) = (
        one
        for one in (*overlay.all("Secret"), *overlay.all("ExternalSecret"))
        if one["metadata"]["name"].startswith("hearloop-server")
    )
    return found


def test_a_rollout_pins_servers_by_a_setting() -> None:
    assert MODEL_VERSION in Settings().to_environment()


def test_terraform_passes_settings_of_the_code() -> None:
    text = (hcl.TERRAFORM / "platform" / "secrets.tf").read_text()
    named = set(re.findall(r"\bHEARLOOP_\w+", text)) - {"HEARLOOP_BUCKETS__"}
    assert named
    assert named <= Settings().to_environment().keys()


def test_steps_of_pipelines_find_their_settings(overlay: Overlay) -> None:
    settings = overlay.one("ConfigMap", placement.SETTINGS, "kubeflow")
    assert settings["metadata"]["name"] == placement.SETTINGS, "compiled pipelines know no hash"
    secrets = {
        one["metadata"]["name"]
        for kind in ("Secret", "ExternalSecret")
        for one in overlay.all(kind, "kubeflow")
    }
    assert placement.SECRETS in secrets
    account = overlay.one("ServiceAccount", "hearloop-pipeline")["metadata"]
    assert (account["name"], account["namespace"]) == (Settings().kfp_service_account, "kubeflow")
