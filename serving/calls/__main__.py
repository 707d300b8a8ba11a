"""`python -m serving.calls`: transcribe live audio of calls from Kafka. Run one a core, or fewer.

The model is the one that the model server serves, or HEARLOOP_MODEL_VERSION; when another one is
promoted, new calls are heard by it.
"""

import argparse
import signal
import threading

from prometheus_client import start_http_server

from hearloop import composition
from hearloop.config import Settings
from hearloop.telemetry import set_up_logging
from serving import tracing
from serving.calls.models import Models
from serving.calls.worker import Worker
from serving.loading import loader
from serving.metrics import expose_log
from serving.phrases import Phrases
from serving.request_log import RequestLog
from serving.settings import ServerSettings

__all__ = ["main"]

LOG_SECONDS = 10.0
"""For the answers that are not on record yet when we are told to stop."""


def main() -> None:
    """Work until SIGTERM or SIGINT; live calls go on with another member of the group."""
    parser = argparse.ArgumentParser(prog="python -m serving.calls", description=__doc__)
    parser.add_argument("--metrics_port", type=int, help="answer Prometheus there")
    chosen = parser.parse_args()
    set_up_logging()
    tracing.set_up("hearloop-calls")
    settings, own = Settings(), ServerSettings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    models = Models(
        loader(settings, own),
        composition.traffic_store(settings),
        pinned=settings.model_version,
    )
    request_log = RequestLog(
        settings,
        composition.objects(settings),
        composition.events(settings),
        lambda tenant: own.tenant(tenant).kept_days,
    )
    phrases = Phrases(own.tenant, composition.phrase_store(settings))
    expose_log(request_log)
    if chosen.metrics_port is not None:
        start_http_server(chosen.metrics_port)
    try:
        if models.follow(stop):
            Worker(settings, own, models, phrases, request_log).run(stop)
    finally:
        request_log.close(LOG_SECONDS)


if __name__ == "__main__":
    main()
