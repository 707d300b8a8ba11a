"""The one place that picks adapters from the settings; use cases see only the ports.

Each function builds one adapter, the database apart, of which there is one; the heavy libraries
behind them are loaded when they are called.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hearloop.config import Settings
from hearloop.ports import EventLog, EventReader, ObjectStore, PipelineLauncher
from hearloop.run_records import RunRecords

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from hearloop.erasure import Places
    from hearloop.feature_store import FeatureStore
    from hearloop.phrase_store import PhraseStore
    from hearloop.registry import Registry
    from hearloop.rollout import Router
    from hearloop.storage.corrections import SqlCorrectionStore
    from hearloop.storage.reviews import SqlReviewStore
    from hearloop.storage.rollouts import SqlRolloutStore, SqlTrafficStore
    from hearloop.storage.tables import Decisions
    from hearloop.training import Launcher

__all__ = [
    "audited_calls",
    "correction_store",
    "database",
    "decisions",
    "event_reader",
    "events",
    "feature_store",
    "launcher",
    "objects",
    "phrase_store",
    "places",
    "registry",
    "review_store",
    "rollout_outcome",
    "rollout_store",
    "router",
    "run_records",
    "traffic_store",
    "trainer",
]


_databases: "dict[str, Engine]" = {}


def objects(settings: Settings) -> ObjectStore:
    """Object storage over S3."""
    from hearloop.storage.objects import S3Objects

    return S3Objects(settings)


def run_records(settings: Settings, run_id: str) -> RunRecords:
    """What the steps of one pipeline run have done."""
    return RunRecords(objects(settings), settings.buckets.artifacts, run_id)


def rollout_outcome(settings: Settings, run_id: str) -> str | None:
    """Where the rollout of a pipeline run's version stands; None when it rolls nothing out."""
    registered = run_records(settings, run_id).read("register")
    state = rollout_store(settings).read(registered.output) if registered else None
    return state.status if state else None


def feature_store(settings: Settings) -> "FeatureStore":
    """Feast over the settings' repository, its rows in object storage."""
    from hearloop.feature_store import FeatureStore

    return FeatureStore(settings.feature_repository, objects(settings), settings.buckets.artifacts)


def phrase_store(settings: Settings) -> "PhraseStore | None":
    """Phrases of tenants and speakers in Feast's online store; None where there is none."""
    from hearloop.phrase_store import PhraseStore

    return PhraseStore(settings.feast_url) if settings.feast_url else None


def registry(settings: Settings) -> "Registry":
    """Models and what they learnt from, in MLflow."""
    from hearloop.registry import Registry

    return Registry(settings, lambda: decisions(settings))


def events(settings: Settings) -> EventLog:
    """A producer of the event log over Kafka."""
    from hearloop.storage.events import KafkaEventLog

    return KafkaEventLog(settings)


def database(settings: Settings) -> "Engine":
    """The settings' database: one pool of connections for each URL in a process."""
    from hearloop.storage.tables import engine

    url = settings.database_url
    return _databases.get(url) or _databases.setdefault(url, engine(settings))


def correction_store(settings: Settings) -> "SqlCorrectionStore":
    """Human corrections, in the settings' database."""
    from hearloop.storage.corrections import SqlCorrectionStore

    return SqlCorrectionStore(database(settings))


def review_store(settings: Settings) -> "SqlReviewStore":
    """Utterances that wait for review, in the settings' database."""
    from hearloop.storage.reviews import SqlReviewStore

    return SqlReviewStore(database(settings))


def event_reader(settings: Settings, *, group: str, topics: Sequence[str]) -> EventReader:
    """A consumer of the event log over Kafka."""
    from hearloop.storage.events import KafkaEventReader

    return KafkaEventReader(settings, group=group, topics=topics)


def decisions(settings: Settings) -> "Decisions":
    """The log of decisions, in the settings' database."""
    from hearloop.storage.tables import Decisions

    return Decisions(database(settings))


def places(settings: Settings) -> "Places":
    """Everywhere where people's speech and words are kept."""
    from hearloop.erasure import Places

    buckets = settings.buckets
    return Places(
        objects=objects(settings),
        audio=buckets.audio,
        snapshots=buckets.snapshots,
        artifacts=buckets.artifacts,
        corrections=correction_store(settings),
        reviews=review_store(settings),
        models=registry(settings),
        features=feature_store(settings),
        words=phrase_store(settings),
        decisions=decisions(settings),
    )


def audited_calls(decisions: "Decisions") -> float:
    """Share of calls that the monitor last put up for review."""
    from hearloop.review import AUDITED_CALLS

    asked = decisions.list(kind="review")
    return float(asked[-1].evidence["after"]) if asked else AUDITED_CALLS


def rollout_store(settings: Settings) -> "SqlRolloutStore":
    """Where each rollout of the served model stands."""
    from hearloop.storage.rollouts import SqlRolloutStore

    return SqlRolloutStore(database(settings), settings.model_name)


def router(settings: Settings) -> "Router":
    """The traffic: of the InferenceService of the settings, else of the running model server."""
    place = settings.rollout
    if not place.inference_service:
        from hearloop.rollout.http import HttpRouter

        return HttpRouter(settings.serving_url, settings.serving_headers)
    from hearloop.cluster import Resources
    from hearloop.rollout.inference_service import SCALERS, SERVICES, InferenceServiceRouter
    from hearloop.rollout.tallies import PrometheusTallies

    return InferenceServiceRouter(
        place.inference_service,
        services=Resources(SERVICES, place.namespace),
        scalers=Resources(SCALERS, place.namespace),
        tallies=PrometheusTallies(place.prometheus_url, place.namespace),
    )


def traffic_store(settings: Settings) -> "SqlTrafficStore":
    """The traffic that the model server last accepted."""
    from hearloop.storage.rollouts import SqlTrafficStore

    return SqlTrafficStore(database(settings), settings.model_name)


def trainer(settings: Settings, objects: ObjectStore) -> "Launcher":
    """Where workers train: in a TrainJob when the settings name its runtime, else here."""
    from hearloop.training import TorchrunLauncher, TrainJobLauncher

    if settings.trainjob.runtime:
        return TrainJobLauncher(
            settings.trainjob, objects, bucket=settings.buckets.artifacts, cache=settings.cache
        )
    return TorchrunLauncher(objects, settings.cache)


def launcher(settings: Settings) -> PipelineLauncher:
    """Where pipeline runs are started: the KFP server of the settings, else this machine."""
    from hearloop.launchers import KfpLauncher, SubprocessLauncher

    if settings.kfp_host:
        return KfpLauncher(
            settings.kfp_host,
            settings.kfp_package,
            image=settings.kfp_image,
            gpu_image=settings.kfp_gpu_image,
            service_account=settings.kfp_service_account,
        )
    return SubprocessLauncher(settings.pipeline_runs)
