"""What each step of a pipeline run did, kept in object storage beside the run's id.

A record is written when its step has done all its work, so it doubles as the place to go on from:
a step that finds its own record, made from the same arguments, has nothing left to do. That holds
on a laptop and for pods that share no disk.

    >>> with step("train", records, snapshot=snapshot) as work:
    ...     if work.earlier is None:
    ...         work.done(bundle_digest, seconds_of_speech=3960.0)
    >>> work.output
    '5f0c…'

The runner reads the progress of a step from its output: lines that begin with `MARK`.
"""

import hashlib
import json
import mimetypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from hearloop.errors import HearloopError, NotFound
from hearloop.ports import ObjectStore

__all__ = ["MARK", "Record", "RunRecords", "Work", "step", "summary"]

MARK = "hearloop-step "
"""Begins a line of JSON with `step`, `state` (began, done, failed), `seconds` and `said`."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one step did.

    given: digest of the arguments; output: what the step hands on; seconds: from the start of its
    process, so that loading libraries counts; facts: JSON values for the run's summary.
    """

    step: str
    given: str
    output: str
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)


class RunRecords:
    """The records of one run."""

    def __init__(self, objects: ObjectStore, bucket: str, run_id: str) -> None:
        self._objects = objects
        self.folder = f"s3://{bucket}/runs/{run_id}"
        self.run_id = run_id

    def read(self, step: str) -> Record | None:
        """The record of a step, or None when it has not ended yet."""
        try:
            return Record(**json.loads(self._objects.get(self._uri(step))))
        except NotFound:
            return None

    def write(self, record: Record) -> None:
        """Keep a record; a later one of the same step takes its place."""
        self._objects.put(self._uri(record.step), json.dumps(asdict(record)).encode())

    def facts(self, step: str) -> dict[str, Any]:
        """What a step that has ended told. Raises NotFound."""
        found = self.read(step)
        if found is None:
            raise NotFound(f"The step {step} of run {self.run_id} has not ended; run it first.")
        return found.facts

    def all(self) -> list[Record]:
        """Every record of the run, by the name of the step."""
        uris = self._objects.list(f"{self.folder}/steps/")
        return [Record(**json.loads(self._objects.get(uri))) for uri in uris]

    def pinned(self, name: str, ask: Callable[[], str]) -> str:
        """What `ask` answered when the run first wanted to know `name`.

        What a run depends on and does not own (the champion) must not change under its steps.
        """
        uri = f"{self.folder}/pinned/{name}"
        try:
            return self._objects.get(uri).decode()
        except NotFound:
            self._objects.create(uri, ask().encode())
            return self._objects.get(uri).decode()

    def keep(self, name: str, body: bytes) -> None:
        """Keep a file with the run; a later one of that name takes its place."""
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        self._objects.put(f"{self.folder}/files/{name}", body, content_type=kind)

    def keep_folder(self, name: str, folder: Path) -> None:
        """Keep every file of a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.keep(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def kept(self, name: str) -> bytes:
        """A file that was kept with the run. Raises NotFound."""
        return self._objects.get(f"{self.folder}/files/{name}")

    def _uri(self, step: str) -> str:
        return f"{self.folder}/steps/{step}.json"


class Work:
    """One step at work; `earlier` is its record when it has already been done."""

    def __init__(self, step: str, records: RunRecords, given: str) -> None:
        self._step = step
        self._records = records
        self._given = given
        found = records.read(step)
        self.earlier = found if found and found.given == given else None
        self.worked = False
        """Whether this try did the work."""

    @property
    def output(self) -> str:
        """What the step hands on. The step must be done."""
        assert self.earlier is not None, f"the step {self._step} ended without `done`"
        return self.earlier.output

    def done(self, output: str, **facts: Any) -> None:
        """Record that all work of the step is done."""
        self.earlier = Record(
            step=self._step,
            given=self._given,
            output=output,
            seconds=_seconds_of_process(),
            facts=facts,
        )
        self._records.write(self.earlier)
        self.worked = True


@contextmanager
def step(name: str, records: RunRecords, **given: str) -> Iterator[Work]:
    """Do the work of one step, or find it done; tells the runner how it went."""
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    _tell(name, "began")
    try:
        work = Work(name, records, digest)
        yield work
    except HearloopError as error:
        _tell(name, "failed", said=str(error))
        raise
    except Exception as error:
        _tell(name, "failed", said=f"The step {name} failed: {type(error).__name__}: {error}")
        raise
    _tell(name, "done", said="" if work.worked else "done by an earlier try")


HEADLINES = ("snapshot", "wer", "verdict", "reason", "version", "outcome", "why")
"""Facts that a summary has at its top, whichever step told them."""


def summary(records: RunRecords, recipe_name: str) -> dict[str, Any]:
    """The run as JSON values: headlines, then seconds and facts of each step that has ended."""
    ended = records.all()
    told = {name: value for record in ended for name, value in record.facts.items()}
    return {
        "run_id": records.run_id,
        "recipe": recipe_name,
        **{name: told[name] for name in HEADLINES if name in told},
        "seconds": {record.step: record.seconds for record in ended},
        **{record.step: record.facts for record in ended},
    }


def _seconds_of_process() -> float:
    # psutil adds the whole second in which the machine started; that would be off by up to one.
    began = psutil.Process().create_time() - psutil.boot_time()
    return round(time.clock_gettime(time.CLOCK_BOOTTIME) - began, 3)


def _tell(name: str, state: str, said: str = "") -> None:
    message = {"step": name, "state": state, "seconds": _seconds_of_process(), "said": said}
    print(MARK + json.dumps(message), flush=True)
