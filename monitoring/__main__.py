"""`python -m monitoring --recipe FILE`: the drift monitor. Services come from HEARLOOP_* settings.

It reads the log of answered utterances, raises an alarm and asks for labels when the speech has
changed, and starts the recipe's run when corrections show that the champion does harm.
"""

import argparse
import logging
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from hearloop import composition
from hearloop.config import Settings
from hearloop.drift.policy import MonitorPolicy
from hearloop.drift.watch import Outside, Watch
from hearloop.errors import ConfigurationError
from hearloop.recipe import Recipe
from hearloop.telemetry import set_up_logging
from monitoring.service import DecisionReader, Loop, create_app

__all__ = ["main"]

GROUP = "hearloop-monitor"
"""Consumer group: one monitor reads each partition, however many are started."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch until told to stop. Returns the exit status: 1 after a crash."""
    chosen = _arguments(arguments)
    set_up_logging()
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    settings = Settings()
    recipe = Recipe.from_json(_read(chosen.recipe, "recipe"))
    policy = _policy(chosen.policy or settings.monitor_policy)
    outside, decisions = _outside(settings)
    watch = Watch(outside, recipe=recipe, policy=policy)
    loop = Loop(watch, crashed=lambda: _end(server))
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(loop, decisions),
            host=chosen.host,
            port=chosen.port or urlsplit(settings.monitor_url).port or 8090,
            log_config=None,
        )
    )
    for ending in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises what ended it again: by then only the loop is left to stop.
        signal.signal(ending, lambda *_: None)
    loop.start()
    try:
        server.run()
    finally:
        loop.stop()
        outside.reader.close()
    return 1 if loop.crashed else 0


def _outside(settings: Settings) -> tuple[Outside, DecisionReader]:
    decisions = composition.decisions(settings)
    topic = settings.kafka.transcriptions_topic
    outside = Outside(
        reader=composition.event_reader(settings, group=GROUP, topics=[topic]),
        objects=composition.objects(settings),
        champions=composition.registry(settings),
        corrections=composition.correction_store(settings),
        decisions=decisions,
        launcher=composition.launcher(settings),
        rollout_outcome=partial(composition.rollout_outcome, settings),
        bucket=settings.buckets.artifacts,
    )
    return outside, decisions


def _end(server: uvicorn.Server) -> None:
    server.should_exit = True


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m monitoring", description=__doc__)
    parser.add_argument(
        "--recipe", required=True, help="JSON of the retrain's recipe, with a corrections corpus"
    )
    parser.add_argument("--policy", default="", help="JSON of the policy; else the setting's")
    parser.add_argument("--port", type=int, help="else the one of HEARLOOP_MONITOR_URL")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the routes know no password: only a container listens on 0.0.0.0",
    )
    return parser.parse_args(arguments)


def _policy(path: str) -> MonitorPolicy:
    return MonitorPolicy.from_json(_read(path, "policy")) if path else MonitorPolicy()


def _read(path: str, what: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise ConfigurationError(
            f"The {what} {path} cannot be read: {error.strerror}; give the path of its JSON."
        ) from error


if __name__ == "__main__":
    raise SystemExit(main())
