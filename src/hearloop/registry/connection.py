"""The connection to one MLflow server, whose errors become Hearloop's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hearloop.errors import Conflict, HearloopError, NotFound, ServiceUnavailable
from hearloop.hidden_imports import load_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Connection", "already_there"]

CLIENT_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # of 7: a caller should hear within half a minute
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds, of 120
}


class Connection:
    """One model in one MLflow server. MLflow is loaded with the first: it takes two seconds."""

    def __init__(self, tracking_uri: str, name: str) -> None:
        self.uri = tracking_uri
        self.name = name
        for variable, value in CLIENT_ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        load_mlflow()

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's own client."""
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @cached_property
    def experiment_id(self) -> str:
        """The experiment of all runs of this model, made when it is missing."""
        found = self.client.get_experiment_by_name(self.name)
        if found is None:
            with already_there():
                self.client.create_experiment(self.name)
            found = self.client.get_experiment_by_name(self.name)
        assert found is not None, "an experiment that was just made is found"
        return found.experiment_id

    @contextmanager
    def errors(self, missing: str = "") -> Iterator[None]:
        """Turn MLflow's errors into Hearloop's; `missing` is said when something is not there."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            raise self._translated(error, missing) from error

    def _translated(self, error: Any, missing: str) -> HearloopError:
        code = error.error_code
        if missing and code in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE"}:
            return NotFound(missing)
        if code == "RESOURCE_ALREADY_EXISTS":
            return Conflict(f"MLflow already has it: {error.message}; read again before you retry.")
        return ServiceUnavailable(
            f"MLflow at {self.uri} failed ({code}): {error.message}; "
            "check that it runs (`hearloop status`)."
        )


@contextmanager
def already_there() -> Iterator[None]:
    """Somebody else made it first: that is as good."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
