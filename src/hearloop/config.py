"""Where the services are and how to reach them.

Every value is a setting, read in this order: environment variables (`HEARLOOP_…`, nested with
`__`, as in `HEARLOOP_S3__ENDPOINT_URL`), then the file that a running embedded stack leaves
behind (`runs/stack/stack.env`), then the defaults of the embedded stack. The same code reaches
AWS S3 (empty endpoint), a Kafka cluster or Postgres by settings alone.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = [
    "STACK_ENV",
    "Buckets",
    "KafkaSettings",
    "RolloutSettings",
    "S3Settings",
    "Settings",
    "TrainJobSettings",
]

STACK_ENV = Path("runs/stack/stack.env")


class S3Settings(BaseModel):
    """Object storage. An empty `endpoint_url` means AWS; empty keys mean boto3's own chain."""

    endpoint_url: str = "http://127.0.0.1:8333"
    region: str = "us-east-1"
    access_key_id: str = "hearloop"
    secret_access_key: SecretStr = SecretStr("hearloop-local")


class Buckets(BaseModel):
    """Names of the buckets."""

    audio: str = "hearloop-audio"
    snapshots: str = "hearloop-snapshots"
    artifacts: str = "hearloop-artifacts"
    events: str = "hearloop-events"


class KafkaSettings(BaseModel):
    """The event log. `security_protocol` and the SASL fields are librdkafka's own."""

    bootstrap_servers: str = "127.0.0.1:9092"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    sasl_username: str = ""
    sasl_password: SecretStr = SecretStr("")
    transcriptions_topic: str = "hearloop.transcriptions"
    corrections_topic: str = "hearloop.corrections"
    call_audio_topic: str = "hearloop.calls.audio"
    """Live audio of calls, keyed by call, as `serving.calls` reads it."""
    call_transcripts_topic: str = "hearloop.calls.transcripts"
    """What was said in them. It has as many partitions as the audio."""


class TrainJobSettings(BaseModel):
    """Where Kubeflow Trainer runs trainings; an empty `runtime` trains on this machine."""

    runtime: str = ""
    """TrainingRuntime of the namespace with our service account, settings and secrets."""
    image: str = ""
    """Empty: the runtime's."""
    namespace: str = "hearloop"
    nodes: int = 1
    cpu: str = "4"
    """Kubernetes quantities that each node requests."""
    memory: str = "8Gi"
    gpus: int = 0
    """GPUs of each node."""
    queue: str = ""
    """LocalQueue of Kueue that the jobs wait in; empty: they start at once."""
    priority: str = ""
    """WorkloadPriorityClass of Kueue."""


class RolloutSettings(BaseModel):
    """Where rollouts move the traffic; an empty `inference_service`: in the model server itself."""

    inference_service: str = ""
    """KServe InferenceService whose canary takes the challenger."""
    namespace: str = "hearloop"
    prometheus_url: str = ""
    """Prometheus that scrapes the model servers of the namespace: the evidence."""


class Settings(BaseSettings):
    """All endpoints and credentials of one deployment."""

    model_config = SettingsConfigDict(
        env_prefix="HEARLOOP_",
        env_nested_delimiter="__",
        env_file=STACK_ENV,
        extra="ignore",
        frozen=True,
    )

    s3: S3Settings = S3Settings()
    buckets: Buckets = Buckets()
    kafka: KafkaSettings = KafkaSettings()
    trainjob: TrainJobSettings = TrainJobSettings()
    rollout: RolloutSettings = RolloutSettings()
    language: str = "en"
    """Tag of the language that callers speak, and that corrections are normalised in: that of the
    recipes whose models are in service."""
    mlflow_tracking_uri: str = "http://127.0.0.1:5000"
    database_url: str = "sqlite:///runs/stack/hearloop.db"
    feature_repository: Path = Path("runs/stack/feast")
    feast_url: str = ""
    """Feast's feature server: phrases of tenants and speakers; empty: nobody is asked."""
    serving_url: str = "http://127.0.0.1:8080"
    serving_token: SecretStr = SecretStr("")
    """Bearer token for the model server, of whoever calls it; the embedded stack makes one."""
    monitor_url: str = "http://127.0.0.1:8090"
    model_name: str = "hearloop"
    """Name of the registered model in MLflow and of the served model in KServe."""
    model_version: str = ""
    """The one version that a model server serves, whatever the registry says; empty: the traffic
    that it was given last, else the champion."""
    monitor_policy: str = ""
    """Path of the drift monitor's policy (JSON of `hearloop.drift.policy.MonitorPolicy`); empty
    for its defaults."""
    kfp_host: str = ""
    """KFP API that retrains are submitted to; empty runs them as processes of this machine."""
    kfp_package: Path = Path("pipelines/continuous_learning.yaml")
    """The compiled pipeline that is submitted."""
    kfp_image: str = ""
    """Image of its steps; empty takes the one that it was compiled with."""
    kfp_gpu_image: str = ""
    """Image of the steps that ask for GPUs; empty takes the one that they were compiled with."""
    kfp_service_account: str = "hearloop-pipeline"
    """What its steps run as; empty takes KFP's own."""
    pipeline_runs: Path = Path("runs/pipelines")
    """Recipes, logs and exit statuses of the runs that are processes of this machine."""
    cache: Path = Path("runs/cache")
    """Local copies of content-addressed objects; safe to delete at any time."""

    @property
    def serving_headers(self) -> dict[str, str]:
        """Headers that tell the model server who calls it."""
        token = self.serving_token.get_secret_value()
        return {"authorization": f"Bearer {token}"} if token else {}

    def to_environment(self) -> dict[str, str]:
        """The settings as environment variables, secrets in the clear: for processes we start."""
        return dict(_variables("HEARLOOP", self))


def _variables(prefix: str, settings: BaseModel) -> Iterator[tuple[str, str]]:
    separator = "_" if isinstance(settings, Settings) else "__"
    for name, value in settings:
        variable = f"{prefix}{separator}{name.upper()}"
        if isinstance(value, BaseModel):
            yield from _variables(variable, value)
        else:
            yield variable, value.get_secret_value() if isinstance(value, SecretStr) else str(value)
