"""Who may do what: every route and its role, the three kinds of tokens, rates."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route, WebSocketRoute

from hearloop.errors import NotFound
from hearloop.recogniser import Recogniser
from hearloop.rollout import Traffic
from serving.access import Gate, needed
from serving.refusals import Forbidden, TooFast, Unauthorised
from serving.settings import Grant, ServerSettings, TenantSettings
from tests.unit.serving.assembled import (
    FILE,
    FLAC,
    TRAFFIC,
    V1,
    Server,
    Shelf,
    assembled,
    instance,
    refusal,
    served,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated"),
]

ISSUER = "https://identity.example.com/"

EXPECTED = {
    "GET /": "anyone",
    "GET /docs": "transcribe",
    "GET /docs/oauth2-redirect": None,
    "GET /feedback/openapi.json": "transcribe",
    "GET /feedback/v1/corrections": "review",
    "GET /feedback/v1/corrections/{correction_id}": "review",
    "GET /feedback/v1/queue": "review",
    "GET /feedback/v1/queue/{request_id}/audio": "review",
    "GET /metrics": "anyone",
    "GET /openapi.json": "transcribe",
    "GET /page": "anyone",
    "GET /page/": "anyone",
    "GET /page/{name}": "anyone",
    "GET /redoc": None,
    "GET /rollout/v1/traffic": "admin",
    "GET /v1/models": "transcribe",
    "GET /v1/models/{model_name}": "transcribe",
    "GET /v2": "transcribe",
    "GET /v2/health/live": "anyone",
    "GET /v2/health/ready": "anyone",
    "GET /v2/models": "transcribe",
    "GET /v2/models/{model_name}": "transcribe",
    "GET /v2/models/{model_name}/ready": "transcribe",
    "GET /v2/models/{model_name}/versions/{model_version}": "transcribe",
    "GET /v2/models/{model_name}/versions/{model_version}/ready": "transcribe",
    "POST /feedback/v1/corrections": "correct",
    "POST /feedback/v1/queue/{request_id}/claim": "review",
    "POST /feedback/v1/queue/{request_id}/skip": "review",
    "POST /openai/v1/audio/transcriptions": "transcribe",
    "POST /openai/v1/realtime/client_secrets": "transcribe",
    "POST /openai/v1/realtime/transcription_sessions": "transcribe",
    "POST /v1/models/{model_name}:explain": "transcribe",
    "POST /v1/models/{model_name}:predict": "transcribe",
    "POST /v2/models/{model_name}/infer": "transcribe",
    "POST /v2/models/{model_name}/versions/{model_version}/infer": "transcribe",
    "POST /v2/repository/models/{model_name}/load": "admin",
    "POST /v2/repository/models/{model_name}/unload": "admin",
    "PUT /rollout/v1/traffic": "admin",
    "WEBSOCKET /openai/v1/realtime": "transcribe",
}
"""Every route of the server and who may use it; None: nobody, it is answered with 404."""


def flat(routes: list[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of each route, those of included routers too."""
    for route in routes:
        inner = getattr(getattr(route, "original_router", None), "routes", None)
        if inner is not None:
            yield from flat(inner, prefix + route.include_context.prefix)
        elif isinstance(route, WebSocketRoute) or type(route).__name__ == "APIWebSocketRoute":
            yield "WEBSOCKET", prefix + route.path
        elif isinstance(route, Route | APIRoute):
            for method in sorted(set(route.methods or ()) - {"HEAD"}):
                yield method, prefix + route.path
        else:
            raise AssertionError(f"a route of a kind that this test does not know: {route!r}")


def role(method: str, path: str) -> str | None:
    try:
        return needed(method, path.replace("{", "").replace("}", ""))
    except NotFound:
        return None


def test_every_route_has_the_role_that_is_written_here(server: Server) -> None:
    found = {f"{method} {path}": role(method, path) for method, path in flat(server.app.routes)}
    assert found == EXPECTED


@pytest.mark.parametrize("path", ["/rollout/v1/traffic/", "//metrics", "/v1/models/a/b:predict"])
def test_what_is_no_route_is_found_nowhere(path: str) -> None:
    with pytest.raises(NotFound):
        needed("PUT", path)


TOKENS = {
    "caller-token": Grant(tenant="acme", roles=frozenset({"transcribe"})),
    "boss-token": Grant(tenant="home", roles=frozenset({"admin"})),
}


def settings(**values: Any) -> ServerSettings:
    return ServerSettings(_env_file=None, **values)  # type: ignore[call-arg]


@pytest.fixture
def guarded(tmp_path: Path, shelf: Shelf, recognisers: dict[str, Recogniser]) -> Iterator[Server]:
    slow = TenantSettings(rate="3/minute")
    with assembled(tmp_path, shelf, settings(tokens=TOKENS, tenants={"acme": slow})) as server:
        server.versions.swap(Traffic(stable="1"), recognisers)
        yield server


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_without_a_token_only_probes_are_answered(guarded: Server) -> None:
    assert guarded.client.get("/v2/health/live").status_code == 200
    answer = guarded.client.post(V1, json={"instances": [instance()]})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in refusal(answer)
    assert guarded.client.get(TRAFFIC, headers=bearer("wrong")).status_code == 401


def test_a_role_opens_its_routes_and_no_other(guarded: Server) -> None:
    transcribed = guarded.client.post(FILE, files={"file": FLAC}, headers=bearer("caller-token"))
    assert transcribed.status_code == 200
    forbidden = guarded.client.get(TRAFFIC, headers=bearer("caller-token"))
    assert forbidden.status_code == 403
    assert "'admin'" in refusal(forbidden)
    assert guarded.client.get(TRAFFIC, headers=bearer("boss-token")).status_code == 200


def test_a_tenant_that_is_too_fast_is_told_when_to_come_back(guarded: Server) -> None:
    ask = {"json": {"instances": [instance()]}, "headers": bearer("caller-token")}
    assert [guarded.client.post(V1, **ask).status_code for _ in range(3)] == [200, 200, 200]
    answer = guarded.client.post(V1, **ask)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60
    refusal(answer)
    assert guarded.client.get(TRAFFIC, headers=bearer("boss-token")).status_code == 200


def test_a_path_of_nobody_s_is_closed(guarded: Server) -> None:
    assert guarded.client.get("/redoc", headers=bearer("boss-token")).status_code == 404


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def provider(key: rsa.RSAPrivateKey) -> Iterator[str]:
    """The keys of an identity provider, over HTTP."""
    app = FastAPI()
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))

    @app.get("/jwks.json")
    def keys() -> dict[str, object]:
        return {"keys": [{**public, "kid": "one", "use": "sig", "alg": "RS256"}]}

    with served(app) as client:
        yield f"{client.base_url}/jwks.json"


def signed(key: rsa.RSAPrivateKey, **claims: object) -> dict[str, str]:
    usual = {
        "iss": ISSUER,
        "aud": "hearloop",
        "exp": time.time() + 60,
        "sub": "acme-app",
        "roles": ["transcribe", "unheard-of"],
    }
    token = jwt.encode({**usual, **claims}, key, algorithm="RS256", headers={"kid": "one"})
    return bearer(token)


async def test_a_token_of_the_provider_has_its_roles(provider: str, key: rsa.RSAPrivateKey) -> None:
    gate = Gate(settings(jwks_url=provider, issuer=ISSUER))
    admitted = await gate.admit("POST", FILE, signed(key))
    assert (admitted.tenant, admitted.roles) == ("acme-app", {"transcribe"})
    assert (await gate.admit("POST", FILE, signed(key, tenant="acme"))).tenant == "acme"
    with pytest.raises(Forbidden):
        await gate.admit("PUT", TRAFFIC, signed(key))


@pytest.mark.parametrize(
    "claims",
    [{"exp": 1.0}, {"aud": "else"}, {"iss": "https://else.example/"}, {"exp": None}],
    ids=["expired", "for others", "of others", "without an end"],
)
async def test_a_token_that_is_not_for_us_is_refused(
    provider: str, key: rsa.RSAPrivateKey, claims: dict[str, object]
) -> None:
    gate = Gate(settings(jwks_url=provider, issuer=ISSUER))
    with pytest.raises(Unauthorised, match="not valid"):
        await gate.admit("POST", FILE, signed(key, **claims))


async def test_a_token_signed_with_another_key_is_refused(provider: str) -> None:
    gate = Gate(settings(jwks_url=provider, issuer=ISSUER))
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(Unauthorised):
        await gate.admit("POST", FILE, signed(other))
    claims = {"aud": "hearloop", "exp": time.time() + 60, "roles": ["admin"]}
    for forged in (jwt.encode(claims, None, algorithm="none"), "a.b.c", "é"):
        with pytest.raises(Unauthorised):
            await gate.admit("PUT", TRAFFIC, bearer(forged))


async def test_a_short_lived_token_transcribes_and_nothing_else() -> None:
    gate = Gate(settings(tokens=TOKENS))
    caller = await gate.identify(bearer("caller-token"))
    token, ends = gate.short_lived(caller, 60)
    assert 50 < ends - time.time() <= 60
    protocols = {"sec-websocket-protocol": f"realtime, openai-insecure-api-key.{token}"}
    admitted = await gate.admit("WEBSOCKET", "/openai/v1/realtime", protocols)
    assert (admitted.tenant, admitted.roles) == ("acme", {"transcribe"})
    with pytest.raises(Forbidden):
        await gate.admit("PUT", TRAFFIC, bearer(token))
    late, _ = gate.short_lived(caller, -60)
    with pytest.raises(Unauthorised, match="expired"):
        await gate.admit("POST", FILE, bearer(late))


def test_a_tenant_has_no_more_streams_than_it_may() -> None:
    gate = Gate(settings(default_tenant=TenantSettings(streams=1)))
    with gate.stream("acme"):
        with pytest.raises(TooFast, match="1 live streams"), gate.stream("acme"):
            pass
        with gate.stream("other"):
            pass
    with gate.stream("acme"):
        pass


def test_tokens_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"a-token": {"tenant": "home", "roles": ["admin"]}}
    monkeypatch.setenv("HEARLOOP_SERVER_TOKENS", json.dumps(given))
    found = settings()
    assert found.tokens == {"a-token": Grant(tenant="home", roles=frozenset({"admin"}))}
    assert "a-token" not in repr(found)
