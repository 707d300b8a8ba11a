"""The registry against a real MLflow server whose artifacts are in SeaweedFS."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from hearloop import cli, composition
from hearloop.bundle import verify
from hearloop.config import Settings
from hearloop.datasets import audio_uri, open_snapshot, write_snapshot
from hearloop.errors import IntegrityError, NotFound, ServiceUnavailable
from hearloop.lineage import CorrectionRange, DatasetUse
from hearloop.registry import Registry
from tests.bundles import write_random_bundle
from tests.unit.test_datasets import ROW

pytestmark = pytest.mark.stack


@pytest.fixture
def settings(tracking: Settings) -> Settings:
    """Settings with a model of the test's own."""
    return tracking.model_copy(update={"model_name": f"model-{uuid4().hex[:8]}"})


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return composition.registry(settings)


def use(context: str, snapshot: str, **more: object) -> DatasetUse:
    return DatasetUse(
        context=context,
        snapshot=snapshot * 64,
        uri=f"s3://hearloop-snapshots/snapshots/{snapshot * 64}",
        utterances=100,
        seconds=250.0,
        **more,  # type: ignore[arg-type]
    )


def register(registry: Registry, bundle: Path, **more: object) -> str:
    run_id = registry.run(uuid4().hex)
    more = {"datasets": [use("train", "a")], **more}
    return registry.register(bundle, run_id=run_id, **more)  # type: ignore[arg-type]


def test_a_registered_bundle_comes_back_verified(registry: Registry, tmp_path: Path) -> None:
    bundle = write_random_bundle(tmp_path / "bundle", 1)
    version = register(registry, bundle, attachments={"reference.json": b"{}"})

    fetched = registry.fetch(version, tmp_path / "cache")

    assert version == "1"
    assert registry.versions() == ["1"]
    assert verify(fetched).digest == verify(bundle).digest
    assert registry.attachment(version, "reference.json") == b"{}"
    with pytest.raises(NotFound, match=r"other\.json"):
        registry.attachment(version, "other.json")


def test_a_bundle_has_one_version_however_often_it_is_registered(
    registry: Registry, tmp_path: Path
) -> None:
    bundle = write_random_bundle(tmp_path / "bundle", 1)
    other = write_random_bundle(tmp_path / "other", 2)
    first = register(registry, bundle)

    with ThreadPoolExecutor(3) as pool:
        again = list(pool.map(lambda _: register(registry, bundle), range(3)))

    assert again == [first] * 3
    assert register(registry, other) != first


def test_a_bundle_that_another_run_made_again_tells_its_latest_verdict(
    registry: Registry, settings: Settings, tmp_path: Path
) -> None:
    bundle = write_random_bundle(tmp_path / "bundle", 1)
    version = register(registry, bundle, tags={"hearloop.verdict": "inconclusive"})
    run_id = registry.run("again")
    registry.register(bundle, run_id=run_id, datasets=[], tags={"hearloop.verdict": "pass"})
    client = MlflowClient(settings.mlflow_tracking_uri, settings.mlflow_tracking_uri)
    found = client.get_model_version(settings.model_name, version)
    assert found.tags["hearloop.verdict"] == "pass"
    assert client.get_run(run_id).info.status == "FINISHED"


@pytest.mark.parametrize(
    "step", ["log_model_artifacts", "log_batch", "finalize_logged_model", "create_model_version"]
)
def test_a_registration_that_was_cut_off_is_finished_by_the_next(
    registry: Registry,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    bundle = write_random_bundle(tmp_path / "bundle", 1)
    run_id = registry.run("a run")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, killed)
        with pytest.raises(KeyboardInterrupt):
            registry.register(bundle, run_id=run_id, datasets=[use("train", "a")])
    assert registry.champion() is None
    client = MlflowClient(settings.mlflow_tracking_uri)
    assert client.search_model_versions(f"name = '{settings.model_name}'") == []

    version = registry.register(bundle, run_id=run_id, datasets=[use("train", "a")])

    assert verify(registry.fetch(version, tmp_path / "cache")).digest == verify(bundle).digest
    assert len(client.search_model_versions(f"name = '{settings.model_name}'")) == 1


def test_the_run_of_a_key_is_found_again(registry: Registry, settings: Settings) -> None:
    run_id = registry.run("key", {"recipe": "base"})
    assert composition.registry(settings).run("key") == run_id
    assert registry.run("other") != run_id


def test_datasets_and_metrics_are_tied_to_run_and_model(
    registry: Registry, settings: Settings, tmp_path: Path
) -> None:
    bundle = write_random_bundle(tmp_path / "bundle", 1)
    version = register(
        registry,
        bundle,
        datasets=[use("train", "a"), use("golden", "b", metrics={"wer": 0.25})],
        metrics={"megabytes": 10.5},
        tags={"recipe": "base"},
    )

    client = MlflowClient(settings.mlflow_tracking_uri)
    registered = client.get_model_version(settings.model_name, version)
    run = client.get_run(registered.run_id)
    model = client.get_logged_model(registered.source.removeprefix("models:/"))
    inputs = {data.tags[0].value: data.dataset.digest for data in run.inputs.dataset_inputs}
    assert inputs == {"train": "a" * 32, "golden": "b" * 32}
    assert run.data.metrics == {"golden_wer": 0.25, "megabytes": 10.5}
    measured = {metric.key: (metric.value, metric.dataset_digest) for metric in model.metrics}
    assert measured == {"golden_wer": (0.25, "b" * 32), "megabytes": (10.5, None)}
    assert registered.tags["recipe"] == "base"
    assert run.info.status == "FINISHED"


def test_two_judged_snapshots_of_one_context_keep_their_metrics_apart(
    registry: Registry, settings: Settings, tmp_path: Path
) -> None:
    bundle = write_random_bundle(tmp_path / "bundle", 9)
    judged = [use("golden", "d", metrics={"wer": 0.03}), use("golden", "e", metrics={"wer": 0.2})]
    version = register(registry, bundle, datasets=judged)

    client = MlflowClient(settings.mlflow_tracking_uri)
    registered = client.get_model_version(settings.model_name, version)
    model = client.get_logged_model(registered.source.removeprefix("models:/"))
    measured = {metric.dataset_digest: metric.value for metric in model.metrics}
    assert measured == {"d" * 32: 0.03, "e" * 32: 0.2}


def test_aliases_move_and_every_move_is_kept(registry: Registry, tmp_path: Path) -> None:
    assert registry.champion() is None
    assert registry.challenger() is None
    first = register(registry, write_random_bundle(tmp_path / "one", 1))
    second = register(registry, write_random_bundle(tmp_path / "two", 2))

    registry.promote(first)
    registry.challenge(second)
    assert (registry.champion(), registry.challenger()) == (first, second)
    registry.promote(second)
    registry.promote(second)
    assert (registry.champion(), registry.challenger()) == (second, None)
    registry.promote(first)

    with pytest.raises(NotFound, match="no version 77"):
        registry.promote("77")
    moves = [move for move in registry.history() if move.subject.startswith(registry._name)]
    assert [move.decision for move in moves] == [
        "champion is version 1",
        "challenger is version 2",
        "champion is version 2",
        "challenger is nobody",
        "champion is version 1",
    ]


def test_a_version_is_as_old_as_its_registration(registry: Registry, tmp_path: Path) -> None:
    began = datetime.now(UTC) - timedelta(milliseconds=1)  # MLflow keeps whole milliseconds
    version = register(registry, write_random_bundle(tmp_path / "one", 1))
    assert began <= registry.registered_at(version) <= datetime.now(UTC)
    with pytest.raises(NotFound, match="no version 77"):
        registry.registered_at("77")


def test_an_alias_move_that_was_cut_off_before_its_log_is_logged_by_the_next(
    registry: Registry, settings: Settings, tmp_path: Path
) -> None:
    version = register(registry, write_random_bundle(tmp_path / "one", 1))
    MlflowClient(settings.mlflow_tracking_uri).set_registered_model_alias(
        settings.model_name, "champion", version
    )
    registry.promote(version)
    moves = [move for move in registry.history() if move.subject.startswith(registry._name)]
    assert [move.evidence["version"] for move in moves] == [version]


def test_lineage_reaches_back_to_the_first_model(registry: Registry, tmp_path: Path) -> None:
    corrections = CorrectionRange(first=1, last=40, ids=("c1", "c7"))
    base = register(registry, write_random_bundle(tmp_path / "one", 1))
    adapted = register(
        registry,
        write_random_bundle(tmp_path / "two", 2),
        datasets=[
            use("corrections", "c", corrections=corrections),
            use("replay", "a"),
            use("golden", "b", metrics={"wer": 0.1}),
        ],
        parent=base,
    )

    lineage = registry.lineage(adapted)

    assert [each.version for each in lineage.ancestors()] == [adapted, base]
    assert [data.snapshot[0] for data in lineage.learnt_from] == ["c", "a"]
    assert lineage.datasets[0].corrections == corrections
    assert lineage.parent is not None
    assert lineage.parent.learnt_from == (use("train", "a"),)


def test_a_damaged_copy_is_fetched_again_and_a_damaged_original_refused(
    registry: Registry, settings: Settings, tmp_path: Path
) -> None:
    bundle = write_random_bundle(tmp_path / "bundle", 1)
    version = register(registry, bundle)
    cache = tmp_path / "cache"
    weights = registry.fetch(version, cache) / "model.safetensors"
    sound = weights.read_bytes()

    weights.write_bytes(sound[:-1] + b"\0")
    assert registry.fetch(version, cache) / "model.safetensors" == weights
    assert weights.read_bytes() == sound

    client = MlflowClient(settings.mlflow_tracking_uri)
    source = client.get_model_version(settings.model_name, version).source
    (tmp_path / "model.onnx").write_bytes(b"changed")
    client.log_model_artifact(
        source.removeprefix("models:/"), str(tmp_path / "model.onnx"), "bundle"
    )
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        registry.fetch(version, tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_version_that_is_missing_is_named(registry: Registry, tmp_path: Path) -> None:
    for ask in (registry.lineage, lambda version: registry.fetch(version, tmp_path)):
        with pytest.raises(NotFound, match="no version 3 of the model"):
            ask("3")


def test_a_bundle_that_is_damaged_is_not_registered(registry: Registry, tmp_path: Path) -> None:
    bundle = write_random_bundle(tmp_path / "bundle", 1)
    (bundle / "tokens.txt").write_text("other")
    with pytest.raises(IntegrityError, match=r"tokens\.txt"):
        register(registry, bundle)


def test_a_server_that_is_away_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nowhere = settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
    away = composition.registry(nowhere)
    with pytest.raises(ServiceUnavailable, match=r"http://127\.0\.0\.1:9"):
        away.champion()


def test_an_erased_speaker_is_gone_from_object_storage_and_named_with_what_learnt(
    settings: Settings, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, features = f"sqlite:///{tmp_path}/hearloop.db", str(tmp_path / "feast")
    given = settings.to_environment() | {"HEARLOOP_DATABASE_URL": database}
    for variable, value in (given | {"HEARLOOP_FEATURE_REPOSITORY": features}).items():
        monkeypatch.setenv(variable, value)
    objects, bucket = composition.objects(settings), settings.buckets.snapshots
    speaker, uri = f"anna-{uuid4().hex}", audio_uri(bucket, uuid4().hex)
    objects.put(uri, b"speech")
    row = replace(ROW, speaker=speaker, audio_uri=uri)
    snapshot = write_snapshot([row], [], recipe=[], objects=objects, bucket=bucket)
    learnt = replace(use("train", "a"), snapshot=snapshot.digest)
    register(registry, write_random_bundle(tmp_path / "bundle", 9), datasets=[learnt])

    done = CliRunner().invoke(
        cli.app, ["erase", "--speaker", speaker, "--delete"], catch_exceptions=False
    )

    assert "learnt from it: version 1\n" in done.stdout
    assert not objects.exists(uri)
    assert open_snapshot(snapshot.digest, objects, bucket).rows() == []
