"""Starting pipeline runs: a process of this machine, or a run of a KFP server.

Both implement `hearloop.ports.PipelineLauncher`: launching the same run id twice starts one run.

A local run lives in a folder of its own and outlives whoever started it:

    <folder>/<run id>/recipe.json    what it runs
                      lock           held as long as it runs; its process group
                      begun          there once it has begun
                      run.log        what it printed
                      exit           its exit status, once it has ended

    >>> launcher = SubprocessLauncher(Path("runs/pipelines"))
    >>> launcher.launch("retrain-5f2c", recipe.to_json())
    >>> launcher.status("retrain-5f2c")
    'running'
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import yaml

from hearloop.errors import NotFound, ServiceUnavailable

if TYPE_CHECKING:
    import kfp

__all__ = ["KfpLauncher", "SubprocessLauncher"]

LOCK_RETRY_SECONDS = 0.01
"""Longer than a look at the status takes."""

RUN_A_PIPELINE = (sys.executable, "-m", "pipelines", "run")


class SubprocessLauncher:
    """Runs pipelines as detached processes of this machine, in the working folder of the caller.

    `command` is called with `--recipe FILE --run-id ID`; exit status 0 means that it succeeded.
    """

    def __init__(self, folder: Path, command: Sequence[str] = RUN_A_PIPELINE) -> None:
        self._folder = folder.absolute()
        self._command = tuple(command)

    def launch(self, run_id: str, recipe: str) -> None:
        """Start a run, unless it has begun before. Raises ServiceUnavailable."""
        folder = self._folder / run_id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.status(run_id) != "unknown":
                return
            _write(folder / "recipe.json", recipe)
            own = [sys.executable, "-m", "hearloop.launchers", str(folder)]
            command = [*self._command, "--recipe", str(folder / "recipe.json"), "--run-id", run_id]
            with (folder / "run.log").open("ab") as log:
                subprocess.run(
                    [*own, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    check=True,
                )
        except (OSError, subprocess.CalledProcessError) as error:
            raise ServiceUnavailable(
                f"Run {run_id} cannot be started in {folder}: {error}; "
                "free disk space or memory, and it is tried again."
            ) from error

    def status(self, run_id: str) -> str:
        """One of `unknown`, `running`, `succeeded`, `failed` (killed runs too)."""
        folder = self._folder / run_id
        if _locked(folder / "lock"):
            return "running"
        try:
            return "succeeded" if (folder / "exit").read_text().strip() == "0" else "failed"
        except FileNotFoundError:
            return "failed" if (folder / "begun").exists() else "unknown"

    def log(self, run_id: str) -> str:
        """What the run has printed so far. Raises NotFound."""
        try:
            return (self._folder / run_id / "run.log").read_text(errors="replace")
        except FileNotFoundError:
            raise NotFound(f"There is no log of a run {run_id} in {self._folder}.") from None

    def stop(self, run_id: str) -> None:
        """Ask a run and all of its processes to end; without one that runs nothing happens."""
        if self.status(run_id) == "running":
            os.killpg(int((self._folder / run_id / "lock").read_text()), signal.SIGTERM)


def _write(path: Path, text: str) -> None:
    # Two threads may launch the same run: each writes a file of its own.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(text)
    os.replace(file.name, path)


def _locked(path: Path) -> bool:
    """Whether a live process holds the lock; the kernel lets go of a dead one's."""
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _run(folder: Path, command: Sequence[str]) -> None:
    """Begin the run, once, and leave it to a process of its own that notes how it ends.

    A second call for the same run does nothing.
    """
    with (folder / "lock").open("a+") as lock:
        if not _lock_before_it_begins(lock, folder / "begun"):
            return
        lock.truncate(0)
        lock.write(str(os.getpgrp()))
        lock.flush()
        (folder / "begun").touch()
        if os.fork() > 0:
            os._exit(0)  # whoever launches waits for this one only; the lock is the other's too
        # The command holds the lock as well: were this process killed, it would still run.
        code = subprocess.run(command, pass_fds=[lock.fileno()]).returncode
        _write(folder / "exit", str(code))


def _lock_before_it_begins(lock: IO[str], begun: Path) -> bool:
    """Take the lock, also while a reader of the status holds it for an instant; False when the
    run has begun."""
    while not begun.exists():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_RETRY_SECONDS)
        else:
            return not begun.exists()
    return False


class KfpLauncher:
    """Runs a compiled pipeline on a KFP server; the run's name there is its run id.

    image, gpu_image: what the steps run in, and those of them that ask for GPUs; else the images
    that the pipeline was compiled with.
    service_account: of the steps' pods, else KFP's own.
    """

    EXPERIMENT = "hearloop"

    def __init__(
        self,
        host: str,
        package: Path,
        *,
        image: str = "",
        gpu_image: str = "",
        service_account: str = "",
    ) -> None:
        self._host = host
        self._package = package
        self._images = {False: image, True: gpu_image}
        self._service_account = service_account or None
        self._client: kfp.Client | None = None

    def launch(self, run_id: str, recipe: str) -> None:
        """Start a run, unless the server has one of that name. Raises ServiceUnavailable."""
        if self.status(run_id) != "unknown":
            return
        with self._compiled() as package:
            self._call(
                "create_run_from_pipeline_package",
                str(package),
                arguments={"recipe": recipe, "run_id": run_id},
                run_name=run_id,
                experiment_name=self.EXPERIMENT,
                service_account=self._service_account,
            )

    def schedule(self, name: str, recipe: str, cron: str) -> None:
        """Run a pipeline that takes a recipe alone again and again, one run at a time.

        cron: six fields, seconds first, in UTC. A schedule of that name is replaced, after the new
        one stands. Raises ServiceUnavailable.
        """
        experiment = self._call("create_experiment", self.EXPERIMENT).experiment_id
        named = _named(name)
        listed = self._call("list_recurring_runs", experiment_id=experiment, filter=named)
        earlier = [one.recurring_run_id for one in listed.recurring_runs or ()]
        with self._compiled() as package:
            self._call(
                "create_recurring_run",
                experiment,
                name,
                cron_expression=cron,
                no_catchup=True,
                params={"recipe": recipe},
                pipeline_package_path=str(package),
                service_account=self._service_account,
            )
        for one in earlier:
            self._call("delete_recurring_run", one)

    @contextmanager
    def _compiled(self) -> Iterator[Path]:
        """The package with the images of this deployment."""
        if not any(self._images.values()):
            yield self._package
            return
        pipeline, *platforms = yaml.safe_load_all(self._package.read_text())
        for executor in pipeline["deploymentSpec"]["executors"].values():
            container = executor["container"]
            on_gpus = "accelerator" in container.get("resources", {})
            container["image"] = self._images[on_gpus] or container["image"]
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder, self._package.name)
            package.write_text(yaml.safe_dump_all([pipeline, *platforms]))
            yield package

    def status(self, run_id: str) -> str:
        """One of `unknown`, `running`, `succeeded`, `failed`. Raises ServiceUnavailable."""
        found = self._call("list_runs", page_size=1, filter=_named(run_id)).runs
        if not found:
            return "unknown"
        return {"SUCCEEDED": "succeeded", "FAILED": "failed", "CANCELED": "failed"}.get(
            found[0].state, "running"
        )

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        import kfp
        from kfp_server_api.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            self._client = self._client or kfp.Client(host=self._host)
            return getattr(self._client, method)(*arguments, **options)
        except (ApiException, HTTPError, OSError) as error:
            raise ServiceUnavailable(
                f"The KFP server at {self._host} did not answer {method}: {error}; "
                "check its address and that it runs."
            ) from error


def _named(name: str) -> str:
    """KFP's filter for what has that name."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


if __name__ == "__main__":
    _run(Path(sys.argv[1]), sys.argv[2:])
