"""Who may reach what: networks, rights, secrets, and the front door."""

import re
from typing import Any, get_args

import pytest

from hearloop.config import Settings
from serving.access import needed
from serving.realtime import REALTIME_ROUTE
from serving.settings import Role
from tests.deploy.objects import Manifest, Overlay, Pod, fits

STEPS = Pod("steps", "steps", "kubeflow", {"app.kubernetes.io/name": "hearloop-pipeline"}, {})
"""A step of a pipeline, in KFP's namespace."""


def pod(overlay: Overlay, name: str) -> Pod:
    (found,) = (one for one in overlay.pods() if one.name == name)
    return found


def reaches(overlay: Overlay, source: Pod, target: Pod, port: int) -> bool:
    """Whether the network policies of the platform's namespace let a connection through."""
    policies = [one["spec"] for one in overlay.all("NetworkPolicy", "hearloop")]
    out = source.namespace != "hearloop" or any(
        _allows(each, "egress", "to", source, target, port) for each in policies
    )
    return out and any(_allows(each, "ingress", "from", target, source, port) for each in policies)


def _allows(policy: Manifest, direction: str, side: str, own: Pod, other: Pod, port: int) -> bool:
    if not fits(own.labels, policy["podSelector"]):
        return False
    return any(
        (not rule.get("ports") or any(each["port"] == port for each in rule["ports"]))
        and any(_is(peer, other) for peer in rule[side])
        for rule in policy.get(direction, [])
    )


def _is(peer: Manifest, other: Pod) -> bool:
    if "ipBlock" in peer:
        return False
    namespace = {"kubernetes.io/metadata.name": other.namespace}
    here = {"matchLabels": {"kubernetes.io/metadata.name": "hearloop"}}
    return fits(namespace, peer.get("namespaceSelector", here)) and fits(
        other.labels, peer.get("podSelector", {})
    )


def test_nobody_talks_to_anybody_by_default(overlay: Overlay) -> None:
    deny = overlay.one("NetworkPolicy", "deny-by-default")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_who_has_to_talk_can(overlay: Overlay) -> None:
    serving, training = overlay.serving(), overlay.training()
    mlflow = pod(overlay, "mlflow")
    for asking in (serving, training, pod(overlay, "hearloop-monitor"), STEPS):
        assert reaches(overlay, asking, mlflow, 5000), asking
    assert reaches(overlay, pod(overlay, "hearloop-feedback"), mlflow, 5000)
    assert reaches(overlay, pod(overlay, "hearloop-calls"), mlflow, 5000)
    assert reaches(overlay, STEPS, serving, 8080)
    for asking in (serving, pod(overlay, "hearloop-feedback"), STEPS):
        assert reaches(overlay, asking, pod(overlay, "feast"), 6566), asking
    assert reaches(overlay, training, training, 29500)
    for namespace, target, port in (
        ("envoy-gateway-system", serving, 8080),
        ("envoy-gateway-system", pod(overlay, "hearloop-feedback"), 8082),
        ("monitoring", serving, 8080),
        ("monitoring", pod(overlay, "hearloop-monitor"), 8090),
        ("monitoring", pod(overlay, "hearloop-calls"), 8083),
    ):
        assert reaches(overlay, Pod("", "", namespace, {}, {}), target, port), (namespace, target)


def test_who_has_no_business_cannot(overlay: Overlay) -> None:
    serving, monitor = overlay.serving(), pod(overlay, "hearloop-monitor")
    stranger = Pod("", "", "default", {}, {})
    for target, port in ((serving, 8080), (monitor, 8090), (pod(overlay, "mlflow"), 5000)):
        assert not reaches(overlay, stranger, target, port), target
    assert not reaches(overlay, serving, monitor, 8090)
    assert not reaches(overlay, pod(overlay, "feast"), serving, 8080)
    assert not reaches(overlay, Pod("", "", "envoy-gateway-system", {}, {}), monitor, 8090)


def test_every_pod_reaches_its_stores(local: Overlay) -> None:
    for store, port in (("seaweedfs", 8333), ("kafka", 9092), ("postgres", 5432)):
        for asking in (*local.pods(), STEPS):
            assert reaches(local, asking, pod(local, store), port), (asking, store)


@pytest.mark.parametrize("name", ["staging", "production"])
def test_no_pod_reads_the_rights_of_its_node(name: str, request: pytest.FixtureRequest) -> None:
    blocks = [
        peer["ipBlock"]
        for policy in request.getfixturevalue(name).all("NetworkPolicy")
        for rule in policy["spec"].get("egress", [])
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    assert blocks
    for block in blocks:
        assert block["cidr"] != "0.0.0.0/0" or "169.254.169.254/32" in block["except"]


def test_rights_name_what_they_are_for(overlay: Overlay) -> None:
    assert not overlay.all("ClusterRole")
    for role in overlay.all("Role"):
        for rule in role["rules"]:
            assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert "secrets" not in rule["resources"]


def test_steps_may_do_what_the_adapters_do(overlay: Overlay) -> None:
    rules = overlay.one("Role", "hearloop-pipeline")["rules"]
    may = {
        (rule["apiGroups"][0], resource): set(rule["verbs"])
        for rule in rules
        for resource in rule["resources"]
    }
    assert may == {
        ("trainer.kubeflow.org", "trainjobs"): {"create", "get", "list", "watch", "delete"},
        ("serving.kserve.io", "inferenceservices"): {"get", "list", "watch", "update"},
        ("keda.sh", "scaledobjects"): {"list", "delete"},
    }
    binding = overlay.one("RoleBinding", "hearloop-pipeline", "hearloop")
    (subject,) = binding["subjects"]
    account = overlay.one("ServiceAccount", "hearloop-pipeline")["metadata"]
    assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])


def secret_keys(overlay: Overlay, name: str, namespace: str) -> set[str]:
    """Keys of a Secret: of the local one, or of the one that External Secrets makes."""
    for one in overlay.all("Secret", namespace):
        if one["metadata"]["name"] == name:
            return set(one["data"])
    for one in overlay.all("ExternalSecret", namespace):
        if one["spec"]["target"]["name"] == name:
            template = one["spec"]["target"].get("template", {})
            return set(template.get("data") or {each["secretKey"] for each in one["spec"]["data"]})
    raise AssertionError(f"nobody makes the Secret {namespace}/{name}")


def test_every_secret_that_is_read_is_made(overlay: Overlay) -> None:
    for one in overlay.pods():
        for container in one.containers:
            for source in container.get("envFrom", []):
                if "secretRef" in source:
                    assert secret_keys(overlay, source["secretRef"]["name"], one.namespace)
            for variable in container.get("env", []):
                key = variable.get("valueFrom", {}).get("secretKeyRef")
                if key:
                    assert key["key"] in secret_keys(overlay, key["name"], one.namespace), one
    assert secret_keys(overlay, "hearloop-secrets", "kubeflow") == secret_keys(
        overlay, "hearloop-secrets", "hearloop"
    ), "steps of pipelines have what the platform has"


@pytest.mark.parametrize("name", ["staging", "production"])
def test_secrets_come_by_reference(name: str, request: pytest.FixtureRequest) -> None:
    overlay = request.getfixturevalue(name)
    assert overlay.all("Secret") == []
    for one in overlay.all("ExternalSecret"):
        known = {each["secretKey"] for each in one["spec"]["data"]}
        text = str(one["spec"]["target"].get("template", {}).get("data", {}))
        used = set(re.findall(r"{{ \.(\w+) }}", text))
        assert used <= known
        assert not used or used == known


def test_settings_hold_no_secret(overlay: Overlay) -> None:
    secret = {
        variable
        for variable in Settings().to_environment()
        if re.search(r"SECRET|PASSWORD|ACCESS_KEY|DATABASE_URL|TOKEN", variable)
    }
    for namespace in ("hearloop", "kubeflow"):
        values = overlay.settings(namespace)
        assert dict.fromkeys(secret & values.keys(), "").items() <= values.items()


def policy_of(overlay: Overlay, route: str) -> Any:
    found = [
        one["spec"]
        for one in overlay.all("SecurityPolicy")
        if route in {each["name"] for each in one["spec"]["targetRefs"]}
    ]
    return found[0] if found else None


def lets_in(policy: Manifest, method: str, path: str, role: str | None) -> bool:
    """Whether the gateway lets a request through; `role` is that of its token, None without one."""
    for rule in policy["authorization"]["rules"]:
        operation, principal = rule["operation"], rule["principal"]
        asked = operation["path"]
        fits_path = {
            "Exact": asked["value"] == path,
            "RegularExpression": bool(re.fullmatch(asked["value"], path)),
        }[asked["type"]]
        if not fits_path or method not in operation.get("methods", [method]):
            continue
        if "jwt" not in principal:
            assert principal == {"clientCIDRs": ["0.0.0.0/0", "::/0"]}
            return True
        (claim,) = principal["jwt"]["claims"]
        assert claim["name"] == "roles"
        if role in claim["values"]:
            return True
    return False


def test_every_route_asks_for_a_token(cloud: Overlay) -> None:
    routes = {one["metadata"]["name"] for one in cloud.all("HTTPRoute")}
    kserve = {"hearloop", "hearloop-predictor"}
    for route in (routes | kserve) - {"hearloop-health"}:
        policy = policy_of(cloud, route)
        assert policy, f"route {route} is open"
        (provider,) = policy["jwt"]["providers"]
        assert provider["audiences"] == ["hearloop"]
        assert provider["remoteJWKS"]["uri"].startswith("https://")
        assert policy["authorization"]["defaultAction"] == "Deny"


ROUTES = {
    ("POST", "/openai/v1/audio/transcriptions"): "transcribe",
    ("POST", "/openai/v1/realtime/client_secrets"): "transcribe",
    ("POST", "/openai/v1/realtime/transcription_sessions"): "transcribe",
    ("GET", "/openai/v1/models"): "transcribe",
    ("POST", "/v2/models/hearloop/infer"): "transcribe",
    ("POST", "/v1/models/hearloop:predict"): "transcribe",
    ("GET", "/v2/models/hearloop"): "transcribe",
    ("GET", "/page/app.js"): "anyone",
    ("POST", "/feedback/v1/corrections"): "correct",
    ("GET", "/feedback/v1/corrections"): "review",
    ("GET", "/feedback/v1/corrections/1f2e"): "review",
    ("GET", "/feedback/v1/queue"): "review",
    ("GET", "/feedback/v1/queue/abc/audio"): "review",
    ("POST", "/feedback/v1/queue/abc/claim"): "review",
    ("POST", "/feedback/v1/queue/abc/skip"): "review",
}
"""What callers use, and the role that it asks for."""

INSIDE = [
    ("GET", "/rollout/v1/traffic"),
    ("PUT", "/rollout/v1/traffic"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("POST", "/v2/repository/models/hearloop/unload"),
]
"""What nobody reaches from outside, whoever asks."""


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=" ".join)
def test_the_gateway_asks_for_the_role_that_the_server_asks_for(
    staging: Overlay, method: str, path: str
) -> None:
    wanted = ROUTES[method, path]
    assert needed(method, path) == wanted
    route = "hearloop-feedback" if path.startswith("/feedback/") else "hearloop"
    policy = policy_of(staging, route)
    admitted = {role for role in get_args(Role) if lets_in(policy, method, path, role)}
    if wanted == "anyone":
        assert lets_in(policy, method, path, None)
    else:
        assert admitted == {wanted}
        assert not lets_in(policy, method, path, None)


def test_browsers_show_the_server_itself_their_token_for_a_stream(staging: Overlay) -> None:
    policy = policy_of(staging, "hearloop")
    assert policy["jwt"]["optional"] is True
    assert lets_in(policy, "GET", REALTIME_ROUTE, None)
    assert needed("WEBSOCKET", REALTIME_ROUTE) == "transcribe"
    assert staging.one("ConfigMap", "hearloop-server")["data"]["HEARLOOP_SERVER_JWKS_URL"]


@pytest.mark.parametrize(("method", "path"), INSIDE, ids=" ".join)
def test_what_is_for_the_inside_stays_there(staging: Overlay, method: str, path: str) -> None:
    for one in staging.all("SecurityPolicy"):
        for role in (None, *get_args(Role)):
            assert not lets_in(one["spec"], method, path, role), role


def test_only_the_health_check_is_open(cloud: Overlay) -> None:
    (rule,) = cloud.one("HTTPRoute", "hearloop-health")["spec"]["rules"]
    (match,) = rule["matches"]
    assert match == {"path": {"type": "Exact", "value": "/v2/health/ready"}, "method": "GET"}


def test_partners_show_a_certificate(cloud: Overlay) -> None:
    listeners = {one["name"]: one for one in cloud.one("Gateway", "hearloop")["spec"]["listeners"]}
    policies = {
        one["spec"]["targetRefs"][0]["sectionName"]: one["spec"]
        for one in cloud.all("ClientTrafficPolicy")
    }
    assert listeners.keys() == policies.keys() == {"tokens", "certificates"}
    validation = policies["certificates"]["tls"]["clientValidation"]
    assert validation["mode"] == "RequireAndVerify"
    (authority,) = validation["caCertificateRefs"]
    assert "ca.crt" in secret_keys(cloud, authority["name"], "hearloop")
    for name, listener in listeners.items():
        assert listener["protocol"] == "HTTPS"
        assert policies[name]["tls"]["minVersion"] in ("1.2", "1.3")
        (certificate,) = listener["tls"]["certificateRefs"]
        assert {"tls.crt", "tls.key"} <= secret_keys(cloud, certificate["name"], "hearloop")


def test_routes_lead_to_services_that_are_there(cloud: Overlay) -> None:
    services = {
        (one["metadata"]["name"], port["port"])
        for one in cloud.all("Service")
        for port in one["spec"]["ports"]
    }
    for route in cloud.all("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                assert (backend["name"], backend["port"]) in services
