"""Settings of the model server alone: who may call it, how much, and what it keeps.

Read like `hearloop.config.Settings`, from `HEARLOOP_SERVER_…` (dictionaries as JSON). Nobody else
needs them, and some are secret, so they are not among the settings of the whole house.
"""

from typing import Literal

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from hearloop.bundle import SERVED, Precision
from hearloop.config import STACK_ENV
from hearloop.retention import KEPT_DAYS

__all__ = ["Grant", "Role", "ServerSettings", "TenantSettings"]

Role = Literal["transcribe", "correct", "review", "admin"]
"""What a caller may do: have speech recognised, correct, review corrections, set the traffic."""


class Grant(BaseModel):
    """What the bearer of a static token is."""

    tenant: str
    roles: frozenset[Role]


class TenantSettings(BaseModel):
    """What a tenant is given. Limits are each replica's own; empty or 0: none."""

    rate: str = ""
    """Requests and streams that may begin, in the notation of the library limits: `600/minute`."""
    streams: int = 0
    """Live streams at once."""
    consent: Literal["given", "asked"] = "given"
    """`given`: the tenant's contract covers keeping audio, until a caller says no. `asked`:
    nothing is kept unless the caller says yes (the header x-hearloop-consent)."""
    kept_days: int = KEPT_DAYS
    """How long recordings and what was answered are kept, where they may be kept at all."""
    hotwords: dict[str, float] = {}
    """Phrases that every stream listens for, and how much each is favoured."""


class ServerSettings(BaseSettings):
    """All of them."""

    model_config = SettingsConfigDict(
        env_prefix="HEARLOOP_SERVER_",
        env_nested_delimiter="__",
        env_file=STACK_ENV,
        extra="ignore",
        frozen=True,
    )

    tokens: dict[str, Grant] = Field(default={}, repr=False)
    """Static bearer tokens, for the embedded stack and for services without an identity."""
    jwks_url: str = ""
    """Keys of the identity provider, whose JSON Web Tokens are taken; empty takes none."""
    issuer: str = ""
    audience: str = "hearloop"
    signing_key: SecretStr = SecretStr("")
    """Signs the short-lived tokens of browsers, 32 bytes or more, the same in every replica.
    Empty: drawn at the start, which is enough for one replica."""
    default_tenant: TenantSettings = TenantSettings()
    tenants: dict[str, TenantSettings] = {}
    """Tenants that are given something else than the default."""
    most_streams: int = 256
    """Live streams of one version; the recogniser takes fewer when it cannot keep up."""
    drain_seconds: float = 5.0
    """How long live streams and long files may go on when the server is told to stop, before the
    streams are finished and the files refused: in a cluster as long as its grace period allows."""
    precision: Precision = SERVED

    def tenant(self, name: str) -> TenantSettings:
        """What the tenant of that name is given."""
        return self.tenants.get(name, self.default_tenant)
