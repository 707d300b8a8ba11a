"""Who may do what: bearer tokens, roles, tenants and their rates.

Every request passes the gate. Its path and method find the first row of ROUTES; what no row names
is answered with 404 before any code of ours sees it, so that no route is open by mistake.

Three kinds of tokens are taken: static ones, JSON Web Tokens of the identity provider (claims
`roles` and `tenant`, else `sub`), and short-lived ones that this server signs for browsers. A
server that was given neither tokens nor a provider asks nobody: it is for one machine, or stands
behind a gateway that asks. In browsers, its own page alone may call such a server. Of the others no
page can read an answer (there are no CORS headers); live streams are open to pages with a token.
"""

import asyncio
import hmac
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

import jwt
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from hearloop.errors import NotFound, ServiceUnavailable
from serving.caller import CONSENT, TENANT
from serving.refusals import Forbidden, TooFast, Unauthorised
from serving.settings import Grant, Role, ServerSettings

__all__ = ["ROUTES", "Gate", "Pass", "bearer", "needed"]

ROUTES: Final[tuple[tuple[str, str, Role | Literal["anyone"]], ...]] = (
    ("GET|HEAD", r"/|/metrics|/v2/health/(live|ready)|/healthz", "anyone"),
    ("GET|HEAD", r"/page(/.*)?", "anyone"),
    (
        "GET|HEAD",
        r"/v[12]/models(/.*)?|/v2|/docs|/openapi\.json|/feedback/openapi\.json",
        "transcribe",
    ),
    ("POST", r"/v1/models/[^/]+:(predict|explain)", "transcribe"),
    ("POST", r"/v2/models/[^/]+(/versions/[^/]+)?/infer", "transcribe"),
    ("POST", r"/openai/v1/audio/transcriptions", "transcribe"),
    ("POST", r"/openai/v1/realtime/(client_secrets|transcription_sessions)", "transcribe"),
    ("WEBSOCKET", r"/openai/v1/realtime", "transcribe"),
    ("GET|HEAD", r"/openai/v1/models(/.*)?", "transcribe"),
    ("GET|HEAD", r"/feedback/openapi\.json", "correct"),
    ("POST", r"/feedback/v1/corrections", "correct"),
    ("GET|POST|PUT|DELETE", r"/feedback/v1/.*", "review"),
    ("GET|PUT", r"/rollout/v1/traffic", "admin"),
    ("POST", r"/v2/repository/models/[^/]+/(load|unload)", "admin"),
)
"""Method, path and the role that it asks for, the first match counts. The probes of Kubernetes
and Prometheus carry no tokens; the gateway lets nobody else reach `/metrics`."""

_ROWS: Final = tuple((set(row[0].split("|")), re.compile(row[1]), row[2]) for row in ROUTES)

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA", "PS256")
"""Of the provider: none that a public key could be mistaken for the secret of."""

SHORT_LIVED: Final = "hearloop-realtime"
"""Audience of the tokens that this server signs."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Who asks."""

    tenant: str = ""
    roles: frozenset[Role] = frozenset()
    session: Mapping[str, Any] = field(default_factory=dict)
    """How the live streams of a short-lived token begin, as it was asked for."""


_NOBODY_ASKED: Final = Pass(roles=frozenset(get_args(Role)))


def needed(method: str, path: str) -> Role | Literal["anyone"]:
    """The role that a route asks for. Raises NotFound for what is no route."""
    for methods, pattern, role in _ROWS:
        if method in methods and pattern.fullmatch(path):
            return role
    raise NotFound(f"There is no {method} {path[:100]}; the routes are in the manual.")


def bearer(headers: Mapping[str, str]) -> str:
    """The token of a request; a browser sends it as a subprotocol of its WebSocket."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    for offered in headers.get("sec-websocket-protocol", "").split(","):
        name, _, key = offered.strip().partition("openai-insecure-api-key.")
        if not name and key:
            return key
    return ""


class Gate:
    """Reads tokens and counts what tenants do. All of it in memory, in the event loop's thread."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self._jwks = jwt.PyJWKClient(settings.jwks_url, timeout=5) if settings.jwks_url else None
        given = settings.signing_key.get_secret_value()
        self._signing_key = given or secrets.token_urlsafe(32)
        self._rates = MovingWindowRateLimiter(MemoryStorage())
        self._parsed: dict[str, RateLimitItem] = {}
        self._streams: Counter[str] = Counter()

    @property
    def asks(self) -> bool:
        """Whether a token is asked for at all."""
        return bool(self.settings.tokens or self._jwks)

    async def admit(self, method: str, path: str, headers: Mapping[str, str]) -> Pass:
        """Let a request in. Raises NotFound, Unauthorised, Forbidden or TooFast."""
        role = needed(method, path)
        if role == "anyone":
            return Pass()
        found = await self.identify(headers)
        if role not in found.roles:
            raise Forbidden(
                f"The token has the roles {sorted(found.roles)} where {method} {path[:100]} asks "
                f"for {role!r}; use a token that has it."
            )
        self._count(found.tenant)
        return found

    def written(self, admitted: Pass, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers that the gate writes: the tenant, and what it said of keeping recordings
        where the caller says nothing."""
        given = self.settings.tenant(admitted.tenant).consent == "given"
        consent = headers.get(CONSENT) or ("yes" if given else "no")
        return {TENANT: admitted.tenant, CONSENT: consent}

    async def identify(self, headers: Mapping[str, str]) -> Pass:
        """Who sent the token of a request. Raises Unauthorised, or Forbidden for a page."""
        token = bearer(headers)
        if token and (own := self._own(token)):
            return own
        if not self.asks:
            _check_origin(headers)
            return _NOBODY_ASKED
        if not token:
            raise Unauthorised(
                "The request has no token; send the header Authorization: Bearer followed by one."
            )
        return self._static(token) or await self._foreign(token)

    def short_lived(
        self, caller: Pass, seconds: int, session: Mapping[str, Any] | None = None
    ) -> tuple[str, int]:
        """A token with which a browser may transcribe as `caller`, and its end in Unix seconds.

        `session`: how its live streams begin.
        """
        ends = math.floor(time.time()) + seconds
        claims = {
            "tenant": caller.tenant,
            "aud": SHORT_LIVED,
            "exp": ends,
            "roles": ["transcribe"],
            "session": dict(session or {}),
        }
        return jwt.encode(claims, self._signing_key, algorithm="HS256"), ends

    @contextmanager
    def stream(self, tenant: str) -> Iterator[None]:
        """One live stream of a tenant. Raises TooFast when there are as many as it may have."""
        most = self.settings.tenant(tenant).streams
        if most and self._streams[tenant] >= most:
            raise TooFast(
                f"The tenant {tenant!r} has {most} live streams and may have no more; end one.",
                retry_after_s=1.0,
            )
        self._streams[tenant] += 1
        try:
            yield
        finally:
            self._streams[tenant] -= 1
            self._streams += Counter()  # forgets the zeros

    def _count(self, tenant: str) -> None:
        rate = self.settings.tenant(tenant).rate
        if not rate:
            return
        limit = self._parsed.setdefault(rate, parse(rate))
        if not self._rates.hit(limit, tenant):
            wait = max(0.0, self._rates.get_window_stats(limit, tenant).reset_time - time.time())
            raise TooFast(
                f"The tenant {tenant!r} has made its {rate} requests; try again in {wait:.0f} s.",
                retry_after_s=wait,
            )

    def _static(self, token: str) -> Pass | None:
        """The grant of a static token; compared in a time that tells nothing about it."""
        found: Grant | None = None
        for known, grant in self.settings.tokens.items():
            if hmac.compare_digest(known.encode(), token.encode()):
                found = grant
        return Pass(tenant=found.tenant, roles=found.roles) if found else None

    def _own(self, token: str) -> Pass | None:
        try:
            claims = jwt.decode(
                token,
                self._signing_key,
                algorithms=["HS256"],
                audience=SHORT_LIVED,
                options={"require": ["exp", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorised("The token has expired; ask for another one.") from None
        except jwt.InvalidTokenError:
            return None
        return replace(_pass(claims), session=claims.get("session", {}))

    async def _foreign(self, token: str) -> Pass:
        if self._jwks is None:
            raise Unauthorised("The token is not known here; use one that is.")
        try:
            claims = await asyncio.to_thread(self._verified, self._jwks, token)
        except jwt.PyJWKClientConnectionError as error:
            raise ServiceUnavailable(
                "The identity provider does not answer, so tokens cannot be checked; try again."
            ) from error
        except jwt.PyJWTError as error:
            raise Unauthorised(f"The token is not valid ({error}); ask for another one.") from error
        return _pass(claims)

    def _verified(self, jwks: jwt.PyJWKClient, token: str) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            jwks.get_signing_key_from_jwt(token),
            algorithms=list(ALGORITHMS),
            audience=self.settings.audience,
            issuer=self.settings.issuer or None,
            options={"require": ["exp", "aud"]},
        )
        return claims


def _check_origin(headers: Mapping[str, str]) -> None:
    """Where nobody is asked for a token, any page of the web could call us from a browser.

    Browsers say whose page asks. Raises Forbidden where it is not one of this host's.
    """
    origin = headers.get("origin")
    if origin and origin.partition("://")[2] != headers.get("host"):
        raise Forbidden(
            f"The page of {origin[:60]!r} may not call a server that asks for no token; set "
            "HEARLOOP_SERVER_TOKENS and send one."
        )


def _pass(claims: Mapping[str, Any]) -> Pass:
    """What the claims of a verified token say; claims of another shape give nothing."""
    roles = claims.get("roles")
    held = set(roles) if isinstance(roles, list) and all(isinstance(r, str) for r in roles) else ()
    tenant = claims.get("tenant") or claims.get("sub") or ""
    return Pass(
        tenant=str(tenant)[:128], roles=frozenset(one for one in get_args(Role) if one in held)
    )
