"""`python -m serving`: the model server. Stores and model come from HEARLOOP_* settings."""

import argparse
import logging
import warnings
from collections.abc import Sequence
from urllib.parse import urlsplit

from kserve.constants.constants import DEFAULT_HTTP_PORT

from hearloop.config import Settings
from hearloop.telemetry import set_up_logging
from serving.server import Listening, serve
from serving.settings import ServerSettings

__all__ = ["main"]

QUIET = ("kserve.trace", "uvicorn.access", "uvicorn.error")
"""Loggers that write lines for each request or connection: the metrics count them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the server until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    parser.add_argument("--http_port", type=int, help="default: the port of HEARLOOP_SERVING_URL")
    parser.add_argument(
        "--http_host",
        default="127.0.0.1",
        help="without tokens or an identity provider only a container listens on 0.0.0.0",
    )
    parser.add_argument("--grpc_port", type=int, help="speak gRPC too, on all addresses")
    chosen = parser.parse_args(arguments)
    set_up_logging()
    warnings.filterwarnings("ignore", "ORJSONResponse is deprecated")  # KServe 0.21 answers by it
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_no_refusal)
    settings = Settings()
    http_port = chosen.http_port or urlsplit(settings.serving_url).port or DEFAULT_HTTP_PORT
    serve(
        settings,
        ServerSettings(),
        Listening(http_host=chosen.http_host, http_port=http_port, grpc_port=chosen.grpc_port),
    )


def _no_refusal(record: logging.LogRecord) -> bool:
    """uvicorn calls each stream that was refused with a status an error of ours."""
    return "without completing handshake" not in record.getMessage()


if __name__ == "__main__":
    main()
