"""The model registry in MLflow: versions, what they learnt from, and which one is champion.

    >>> registry = composition.registry(settings)
    >>> run_id = registry.run("2031-retrain")           # before training, for its curves
    >>> version = registry.register(bundle, run_id=run_id, datasets=[…], metrics={"size_mb": 10.6})
    >>> registry.promote(version)
    >>> registry.fetch(registry.champion(), settings.cache / "models")
    PosixPath('runs/cache/models/3f6b…')

A version is created last, after its files, datasets and metrics: what is visible is complete.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hearloop.bundle import Bundle, verify
from hearloop.config import Settings
from hearloop.errors import IntegrityError, NotFound
from hearloop.lineage import ARTIFACT, DatasetUse, Lineage
from hearloop.registry.aliases import Aliases
from hearloop.registry.connection import Connection, already_there
from hearloop.registry.datasets import inputs, measured
from hearloop.storage.tables import Decision, Decisions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["CHALLENGER", "CHAMPION", "Registry"]

CHAMPION = "champion"
CHALLENGER = "challenger"

BUNDLE = "bundle"
ATTACHMENTS = "attachments"
"""Folders of a logged model's artifacts."""

SOURCE = "models:/"
"""Before the id of its logged model, the source of a version: MLflow answers no other link."""

BUNDLE_TAG = "hearloop.bundle"
ATTACHMENTS_TAG = "hearloop.attachments"
PARENT_TAG = "hearloop.parent"
RUN_TAG = "hearloop.run"


class Registry:
    """The versions of one model."""

    def __init__(self, settings: Settings, decisions: Callable[[], Decisions]) -> None:
        """`decisions` reaches the log of decisions; asked once, when an alias first moves."""
        self._name = settings.model_name
        self._mlflow = Connection(settings.mlflow_tracking_uri, self._name)
        self._aliases = Aliases(self._mlflow, decisions)

    def run(self, key: str, tags: Mapping[str, str] | None = None) -> str:
        """The MLflow run of one pipeline run: the same id whenever it is asked for the same key."""
        with self._mlflow.errors():
            found = self._client.search_runs(
                [self._mlflow.experiment_id], f"tags.`{RUN_TAG}` = '{key}'", max_results=1
            )
            if found:
                return found[0].info.run_id
            all_tags = {RUN_TAG: key, **(tags or {})}
            made = self._client.create_run(self._mlflow.experiment_id, run_name=key, tags=all_tags)
            return made.info.run_id

    def log_datasets(self, run_id: str, datasets: Sequence[DatasetUse]) -> None:
        """Make datasets inputs of a run; those that are already are left alone."""
        with self._mlflow.errors():
            self._client.log_inputs(run_id, inputs(datasets))

    def register(
        self,
        bundle: Path,
        *,
        run_id: str,
        datasets: Sequence[DatasetUse],
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        parent: str | None = None,
        attachments: Mapping[str, bytes] | None = None,
    ) -> str:
        """Register a bundle; returns its version, the same one for the same bundle.

        metrics: of the model itself; those measured on a dataset are in its `metrics`. parent:
        version whose weights it began from. attachments: small files kept beside the model.
        Killed anywhere and run again, it leaves one version. Raises IntegrityError.
        """
        verified = verify(bundle)
        version = self._version_of(verified.digest)
        if version is not None:
            self._judged_again(version, run_id, tags or {})
            return version
        record = Lineage(
            version="", bundle=verified.digest, run_id=run_id, datasets=tuple(datasets)
        ).record()
        attached = {ARTIFACT: record, **(attachments or {})}
        all_tags = {
            BUNDLE_TAG: verified.digest,
            PARENT_TAG: parent or "",
            ATTACHMENTS_TAG: ",".join(sorted(attached)),
            **(tags or {}),
        }
        with self._mlflow.errors():
            model_id = self._logged_model(verified.digest, run_id)
            self._upload(model_id, verified, attached)
            self.log_datasets(run_id, datasets)
            self._client.log_batch(run_id, metrics=measured(model_id, metrics or {}, datasets))
            self._client.finalize_logged_model(model_id, "READY")
            self._create_version(model_id, run_id, all_tags)
            self._client.set_terminated(run_id)
        version = self._version_of(verified.digest)
        assert version is not None, "a version that was just created is found"
        return version

    def _judged_again(self, version: str, run_id: str, tags: Mapping[str, str]) -> None:
        """Another run made the same bundle: what it found of it counts now."""
        with self._mlflow.errors():
            for name, value in tags.items():
                self._client.set_model_version_tag(self._name, version, name, value)
            self._client.set_terminated(run_id)

    def champion(self) -> str | None:
        """Version that carries the alias champion, or None."""
        return self._aliases.holder(CHAMPION)

    def challenger(self) -> str | None:
        """Version that carries the alias challenger, or None."""
        return self._aliases.holder(CHALLENGER)

    def challenge(self, version: str) -> None:
        """Give `version` the alias challenger. Raises NotFound."""
        self._get(version)
        self._aliases.move(CHALLENGER, version)

    def promote(self, version: str) -> None:
        """Give `version` the alias champion; it is no challenger any more. Raises NotFound."""
        self._get(version)
        self._aliases.move(CHAMPION, version)
        if self.challenger() == version:
            self._aliases.clear(CHALLENGER)

    def history(self) -> Sequence[Decision]:
        """Every move of an alias, oldest first: what was in production when."""
        return self._aliases.history()

    def fetch(self, version: str, cache: Path) -> Path:
        """A local copy of a version's bundle, verified against its manifest.

        Copies are kept under `cache` by digest and verified again each time. Raises NotFound and
        IntegrityError.
        """
        digest = self._get(version).tags[BUNDLE_TAG]
        place = cache / digest
        if place.exists():
            try:
                return _verified(place, digest, version)
            except IntegrityError:  # the copy was damaged here; the original may be whole
                shutil.rmtree(place, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as unfinished:
            copy = self._download(version, BUNDLE, Path(unfinished))
            _verified(copy, digest, version)
            with suppress(OSError):  # somebody else was faster; theirs is verified below
                copy.rename(place)
        return _verified(place, digest, version)

    def versions(self) -> list[str]:
        """Every version that is registered, oldest first."""
        with self._mlflow.errors():
            found = self._client.search_model_versions(f"name = '{self._name}'")
            versions = list(found)
            while found.token:
                found = self._client.search_model_versions(
                    f"name = '{self._name}'", page_token=found.token
                )
                versions += found
        return sorted((version.version for version in versions), key=int)

    def registered_at(self, version: str) -> datetime:
        """When a version was registered (UTC): the age of what it knows. Raises NotFound."""
        milliseconds: int = self._get(version).creation_timestamp
        return datetime.fromtimestamp(milliseconds / 1000, UTC)

    def attachment(self, version: str, name: str) -> bytes:
        """A file that was attached to a version. Raises NotFound."""
        names = self._get(version).tags[ATTACHMENTS_TAG].split(",")
        if name not in names:
            raise NotFound(f"Version {version} of {self._name} has no {name}, only {names}.")
        with tempfile.TemporaryDirectory() as folder:
            return self._download(version, f"{ATTACHMENTS}/{name}", Path(folder)).read_bytes()

    def lineage(self, version: str) -> Lineage:
        """What a version learnt from, and its parents. Raises NotFound and IntegrityError."""
        parent = self._get(version).tags.get(PARENT_TAG)
        return Lineage.from_record(
            self.attachment(version, ARTIFACT),
            version=version,
            parent=self.lineage(parent) if parent else None,
        )

    @property
    def _client(self) -> "MlflowClient":
        return self._mlflow.client

    def _get(self, version: str) -> "ModelVersion":
        with self._mlflow.errors(
            f"There is no version {version} of the model {self._name}; "
            f"those that there are stand at {self._mlflow.uri}."
        ):
            return self._client.get_model_version(self._name, version)

    def _version_of(self, digest: str) -> str | None:
        """The oldest version with this bundle: two that registered it at once agree on it."""
        with self._mlflow.errors():
            found = self._client.search_model_versions(
                f"name = '{self._name}' and tags.`{BUNDLE_TAG}` = '{digest}'"
            )
        numbers = sorted(int(version.version) for version in found)
        return str(numbers[0]) if numbers else None

    def _logged_model(self, digest: str, run_id: str) -> str:
        """The logged model of this bundle, as an earlier try left it or made now."""
        found = self._client.search_logged_models(
            [self._mlflow.experiment_id], f"tags.`{BUNDLE_TAG}` = '{digest}'", max_results=1
        )
        if found:
            return found[0].model_id
        made = self._client.create_logged_model(
            self._mlflow.experiment_id,
            name=self._name,
            source_run_id=run_id,
            tags={BUNDLE_TAG: digest},
            model_type="speech recogniser",
        )
        return made.model_id

    def _upload(self, model_id: str, bundle: Bundle, attachments: Mapping[str, bytes]) -> None:
        self._client.log_model_artifacts(model_id, str(bundle.directory), BUNDLE)
        with tempfile.TemporaryDirectory() as folder:
            for name, body in attachments.items():
                Path(folder, name).write_bytes(body)
            self._client.log_model_artifacts(model_id, folder, ATTACHMENTS)

    def _create_version(self, model_id: str, run_id: str, tags: dict[str, str]) -> None:
        with already_there():
            self._client.create_registered_model(self._name)
        self._client.create_model_version(
            self._name,
            source=f"{SOURCE}{model_id}",
            run_id=run_id,
            tags=tags,
            model_id=model_id,
            await_creation_for=0,  # nothing is built: it is ready at once
        )

    def _download(self, version: str, path: str, folder: Path) -> Path:
        source = self._get(version).source or ""
        with self._mlflow.errors(f"Version {version} of {self._name} has lost its {path}."):
            from mlflow.artifacts import download_artifacts

            location = self._client.get_logged_model(source.removeprefix(SOURCE)).artifact_location
            return Path(
                download_artifacts(
                    artifact_uri=f"{location}/{path}",
                    dst_path=str(folder),
                    tracking_uri=self._mlflow.uri,
                )
            )


def _verified(place: Path, digest: str, version: str) -> Path:
    found = verify(place)
    if found.digest != digest:
        raise IntegrityError(
            f"Version {version} was registered with the bundle {digest[:12]} and holds "
            f"{found.digest[:12]}; restore its artifacts from a backup."
        )
    return place
