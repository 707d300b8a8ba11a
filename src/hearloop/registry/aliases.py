"""Who is champion and who challenger, now and before.

MLflow keeps no history of aliases, so each move is also written to the log of decisions.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

from hearloop.errors import NotFound
from hearloop.registry.connection import Connection
from hearloop.storage.tables import Decision, Decisions

__all__ = ["Aliases"]

ALIAS_MOVED = "alias"
"""Kind of the decisions that are our history of aliases."""


class Aliases:
    """The aliases of one model. The log is reached when it is first needed."""

    def __init__(self, mlflow: Connection, decisions: Callable[[], Decisions]) -> None:
        self._mlflow = mlflow
        self._reach = decisions

    @cached_property
    def _decisions(self) -> Decisions:
        return self._reach()

    def holder(self, alias: str) -> str | None:
        """The version that carries an alias, or None."""
        try:
            with self._mlflow.errors("nobody"):
                return self._mlflow.client.get_model_version_by_alias(
                    self._mlflow.name, alias
                ).version
        except NotFound:
            return None

    def move(self, alias: str, version: str) -> None:
        """Set an alias and note it; a call that was cut off in between is mended by the next."""
        if self.holder(alias) != version:
            with self._mlflow.errors():
                self._mlflow.client.set_registered_model_alias(self._mlflow.name, alias, version)
        self._note(alias, version)

    def clear(self, alias: str) -> None:
        """Take an alias from whoever has it, and note it."""
        with self._mlflow.errors():
            self._mlflow.client.delete_registered_model_alias(self._mlflow.name, alias)
        self._note(alias, None)

    def history(self) -> Sequence[Decision]:
        """Every move of an alias, oldest first: what was in production when."""
        return self._decisions.list(kind=ALIAS_MOVED)

    def _note(self, alias: str, version: str | None) -> None:
        """Write where an alias points now to the log, unless its last entry says so."""
        subject = f"{self._mlflow.name}@{alias}"
        moves = self._decisions.list(kind=ALIAS_MOVED, subject=subject)
        before = moves[-1].evidence["version"] if moves else None
        if before == version:
            return
        self._decisions.append(
            kind=ALIAS_MOVED,
            subject=subject,
            decision=f"{alias} is {'nobody' if version is None else f'version {version}'}",
            reason=f"moved from {'nobody' if before is None else f'version {before}'}",
            evidence={"version": version, "before": before},
            identity=f"{subject}/{len(moves) + 1}",
        )
