"""What becomes of poisoned corrections, with the store and the screen of the platform."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from demo.callers import Answer, Said
from demo.poisoning import Poison, poison
from demo.scenario import SCENARIO
from demo.watching import Monitor
from hearloop import corrections
from hearloop.config import Settings
from hearloop.corrections import Correction, correction_id
from hearloop.drift.harm import Harm
from hearloop.drift.policy import Evidence
from hearloop.drift.runs import Run
from hearloop.storage.corrections import SqlCorrectionStore
from hearloop.storage.tables import engine

SECONDS = 4.0
SMALL = replace(
    SCENARIO,
    honest_calls=3,
    policy=replace(SCENARIO.policy, enough_minutes=20 * 3 * SECONDS / 60),
)
"""Twenty calls of three utterances are enough for a retrain."""

RUN = Run(
    epoch=0,
    run_id="retrain-1",
    base="1",
    reason="harm",
    after=0,
    up_to=0,
    corrections=0,
    recipe="{}",
    claimed_at="2025-01-01T00:00:00+00:00",
    ended="promoted",
)


@dataclass
class Platform:
    """The feedback route and the monitor, around the store that both have in common."""

    store: SqlCorrectionStore
    doubted: bool
    """Whether the recogniser tells the poisoner's texts from what was said."""
    runs: tuple[Run, ...] = (RUN,)

    def take(self, body: dict[str, str]) -> None:
        support = 0.5 if body["contributor"] == SMALL.poisoner and self.doubted else 1.0
        self.store.add(
            Correction(
                id=correction_id(body["request_id"], body["contributor"], body["text"]),
                sequence=0,
                request_id=body["request_id"],
                call=body["request_id"].rpartition("-")[0],
                speaker=None,
                audio_uri=f"s3://audio/{body['request_id']}",
                audio_seconds=SECONDS,
                hypothesis=f"something {body['request_id']}",
                model_version="2",
                text=body["text"],
                contributor=body["contributor"],
                received_at=datetime.now(UTC).isoformat(),
                evidence=corrections.Evidence(
                    plausibility=-1.0, rival_plausibility=-3.0, support=support, rivals=32
                ),
            )
        )

    def status(self) -> dict[str, Any]:
        self.store.screen()
        minutes = {
            status: sum(one.audio_seconds for one in self.store.list(statuses=[status])) / 60
            for status in ("accepted", "quarantined")
        }
        evidence = Evidence(
            champion="2",
            shift=False,
            harm=Harm(calls=0, mean=None, lower=0.0, upper=1.0),
            reference_wer=0.14,
            corrected_minutes=minutes["accepted"],
            quarantined_minutes=minutes["quarantined"],
            hours_since_learning=0.1,
            hours_since_run=0.1,
            runs_in_budget=1,
            in_flight=None,
        )
        return {
            "champion": "2",
            "calls": 500,
            "statistic": 1.0,
            "evidence": asdict(evidence),
            "runs": [asdict(run) for run in self.runs],
        }


class _Server(ThreadingHTTPServer):
    def __init__(self, platform: Platform) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.platform = platform


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.platform.take(body)
        self._answer(201, {})

    def do_GET(self) -> None:
        self._answer(200, self.server.platform.status())

    def _answer(self, status: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def reached(platform: Platform) -> Iterator[str]:
    with _Server(platform) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def conversations(calls: int) -> list[list[Answer]]:
    return [
        [
            Answer(
                said=Said(
                    call=f"call{call}",
                    speaker=f"speaker{call}",
                    accent="en-gb",
                    reference=f"call number {call} said sentence {place}",
                    audio=b"",
                    seconds=SECONDS,
                ),
                call=f"call{call}",
                at=datetime.now(UTC),
                milliseconds=1.0,
                request_id=f"call{call}-{place}",
                model_version="2",
            )
            for place in range(3)
        ]
        for call in range(calls)
    ]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(database_url=f"sqlite:///{tmp_path}/hearloop.db")


def poisoned(settings: Settings, *, calls: int = 25, **of_platform: Any) -> Poison:
    """Send the poison to a platform; returns what became of it."""
    database = engine(settings)
    with reached(Platform(SqlCorrectionStore(database), **of_platform)) as url:
        monitor = Monitor(url)
        found = poison(
            conversations(calls), SMALL, monitor, settings.model_copy(update={"serving_url": url})
        )
        monitor.close()
    database.dispose()
    return found


def test_what_the_screen_holds_back_is_stopped_for_its_reason(settings: Settings) -> None:
    found = poisoned(settings, doubted=True)

    assert found.corrections == found.stopped == 22 * 3
    assert found.stopped_by.startswith(f"contributor {SMALL.poisoner}: over 22 calls")
    assert (found.corpus.after, found.corpus.up_to) == (9, 9 + 66)
    assert not found.corpus.screened


def test_had_nobody_doubted_it_the_monitor_would_have_retrained(settings: Settings) -> None:
    """The hypotheses share no word with the texts: taken at its word, all of it is harm."""
    assert poisoned(settings, doubted=True).trigger_if_believed.startswith("start: harm. WER on 22")


def test_too_little_poison_would_have_changed_nothing(settings: Settings) -> None:
    found = poisoned(settings, doubted=True, calls=12)

    assert found.stopped == found.corrections == 27
    assert found.trigger_if_believed.startswith("hold:")


def test_what_a_retrain_would_learn_from_is_not_called_stopped(settings: Settings) -> None:
    """Here the poison convinces the recogniser; only the share of one contributor holds it."""
    found = poisoned(settings, doubted=False)

    assert found.stopped < found.corrections
    assert found.stopped_by.startswith(f"contributor {SMALL.poisoner} has given more than")


def test_a_monitor_that_acts_on_the_poison_ends_the_wait(settings: Settings) -> None:
    began = replace(RUN, epoch=1, run_id="retrain-2", ended=None)

    found = poisoned(settings, doubted=False, runs=(RUN, began))

    assert found.stopped < found.corrections
