"""The figures that were measured: benchmarks/results/*.json, one list of objects a file.

>>> record("serving", "live_streams", 200, "streams", "make bench-serving")  # doctest: +SKIP
"""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Final

__all__ = ["HOME", "record"]

HOME: Final = Path(__file__).parent / "results"


def record(
    file_stem: str, figure: str, value: float, unit: str, command: str, *, home: Path = HOME
) -> None:
    """Write one figure to `home`/`file_stem`.json in place of its last value, and say so.

    Other figures of the file stay. Values keep five decimals.
    """
    path = home / f"{file_stem}.json"
    entries = json.loads(path.read_text()) if path.exists() else []
    entry = {
        "figure": figure,
        "value": round(value, 5),
        "unit": unit,
        "command": command,
        "machine": _machine(),
    }
    kept = [one for one in entries if one["figure"] != figure]
    place = next((n for n, one in enumerate(entries) if one["figure"] == figure), len(kept))
    kept.insert(place, entry)
    home.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(kept, indent=1) + "\n")
    draft.replace(path)  # a measurement that is stopped leaves the others readable
    print(f"{figure}: {entry['value']:g} {unit}", file=sys.stderr, flush=True)


def _machine() -> str:
    """What was measured on, by kind: CPUs that this process may use, and their model."""
    return f"{len(os.sched_getaffinity(0))} CPUs, {_model()}, {platform.system()}"


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()} ({names[0]})" if names else platform.machine()
