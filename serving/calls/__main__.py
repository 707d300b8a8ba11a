"""`python -m serving.calls`: transcribe live audio of calls from Kafka. Run one a core, or fewer.

The model is the registry's champion at the start, or HEARLOOP_MODEL_VERSION.
"""

import argparse
import logging
import signal
import threading

from hearloop import composition
from hearloop.config import Settings
from hearloop.errors import ConfigurationError
from hearloop.recogniser import Recogniser
from hearloop.telemetry import set_up_logging
from serving.calls.worker import Worker
from serving.request_log import RequestLog
from serving.settings import ServerSettings

__all__ = ["main"]

LOG_SECONDS = 10.0
"""For the answers that are not on record yet when we are told to stop."""

log = logging.getLogger(__name__)


def main() -> None:
    """Work until SIGTERM or SIGINT; live calls go on with another member of the group."""
    argparse.ArgumentParser(prog="python -m serving.calls", description=__doc__).parse_args()
    set_up_logging()
    settings = Settings()
    version, recogniser = _model(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    request_log = RequestLog(settings, composition.objects(settings), composition.events(settings))
    try:
        worker = Worker(settings, version, recogniser, request_log)
        log.info("Version %s hears calls", version)
        worker.run(stop)
    finally:
        request_log.close(LOG_SECONDS)


def _model(settings: Settings) -> tuple[str, Recogniser]:
    registry = composition.registry(settings)
    version = settings.model_version or registry.champion()
    if not version:
        raise ConfigurationError("No version is champion yet; run a pipeline first.")
    bundle = registry.fetch(version, settings.cache / "models")
    return version, Recogniser.load(bundle, ServerSettings().precision)


if __name__ == "__main__":
    main()
