"""The model that hears calls: the one that the model server serves, followed as it changes.

What the traffic names as stable, else the registry's champion, else nothing yet. A version is
loaded and checked beside the calls; one that fails its checks is refused and the last serves on.
Live calls stay on the version that they began with.
"""

import logging
import threading
from typing import Final

from hearloop.errors import HearloopError, VersionRefused
from hearloop.recogniser import Recogniser
from serving.loading import Loader
from serving.traffic import TrafficStore

__all__ = ["Model", "Models"]

LOOK_SECONDS: Final = 10.0
"""Between two looks at the traffic."""

Model = tuple[str, Recogniser]
"""A version and its recogniser."""

log = logging.getLogger(__name__)


class Models:
    """Follows the version in service in a thread. `pinned`: the one version, whatever is said."""

    def __init__(
        self, loader: Loader, store: TrafficStore, pinned: str = "", look_s: float = LOOK_SECONDS
    ) -> None:
        self._loader = loader
        self._store = store
        self._pinned = pinned
        self._look_s = look_s
        self._model: Model | None = None
        self._refused = ""
        self._found = threading.Event()

    def current(self) -> Model:
        """What a new call begins with; `follow` has to have found one."""
        assert self._model, "no model was waited for"
        return self._model

    def follow(self, stop: threading.Event) -> bool:
        """Look in a thread until `stop`; waits for the first model, and says whether it came."""
        threading.Thread(target=self._look, args=(stop,), name="models", daemon=True).start()
        while not self._found.wait(0.1):
            if stop.is_set():
                return False
        return True

    def _look(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._take()
            except HearloopError as error:  # what serves goes on; the first one is waited for
                log.warning("The model of calls is not changed: %s", error)
            except Exception:
                log.exception("The model of calls is not changed")
            stop.wait(self._look_s)

    def _take(self) -> None:
        version, digest = self._wanted()
        if not version or version == self._refused or (self._model and version == self._model[0]):
            return
        try:
            recogniser = self._loader.load(version, digest)
        except VersionRefused:
            self._refused = version  # said once, and not tried again before the traffic changes
            raise
        log.info("New calls are heard by version %s", version)
        self._model = version, recogniser
        self._found.set()

    def _wanted(self) -> tuple[str, str | None]:
        """The version that new calls should have, empty where there is none; and its digest."""
        if self._pinned:
            return self._pinned, None
        stored = self._store.read()
        if stored is not None:
            traffic, bundles = stored
            return traffic.stable, bundles.get(traffic.stable)
        return self._loader.registry().champion() or "", None
