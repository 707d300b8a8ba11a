"""The compiled pipeline is what was reviewed, and compiling it stays light."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

GOLDEN = Path(__file__).parent / "golden" / "continuous_learning.yaml"

HEAVY = ("torch", "lhotse", "mlflow", "feast", "great_expectations", "numpy", "boto3")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes, from a process that says which libraries it loaded."""
    output = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    code = (
        "import json, sys\n"
        f"sys.argv = ['pipelines', 'compile', '--output', {str(output)!r}]\n"
        "from pipelines.__main__ import main\n"
        "try:\n    main()\n"
        f"finally:\n    print(json.dumps([name for name in {HEAVY} if name in sys.modules]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == []
    return output


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a compiled pipeline, without the version of the SDK."""
    found = list(yaml.safe_load_all(path.read_text()))
    for one in found:
        one.pop("sdkVersion", None)
    return found


def test_the_compiled_pipeline_is_the_reviewed_one(compiled: Path) -> None:
    assert documents(compiled) == documents(GOLDEN), (
        "The compiled pipeline differs from the reviewed copy. Look at the difference, and when "
        f"it is meant: python -m pipelines compile --output {GOLDEN.relative_to(Path.cwd())}"
    )


def test_no_step_installs_anything(compiled: Path) -> None:
    (pipeline, *_) = documents(compiled)
    executors = pipeline["deploymentSpec"]["executors"].values()

    assert {one["container"]["image"] for one in executors} == {"hearloop/pipeline:0.1.0"}
    for one in executors:
        assert "pip install" not in " ".join(one["container"]["command"])


def test_every_decision_of_the_judge_has_a_branch(compiled: Path) -> None:
    """KFP's local runner skips a lone If in silence."""
    (pipeline, *_) = documents(compiled)
    graphs = [pipeline["root"], *pipeline["components"].values()]
    conditions = [
        task["triggerPolicy"]["condition"]
        for graph in graphs
        for task in graph.get("dag", {}).get("tasks", {}).values()
        if "triggerPolicy" in task
    ]

    decided = "inputs.parameter_values['pipelinechannel--judge-Output'] == 'roll_out'"
    assert sorted(conditions) == sorted([decided, f"!({decided})"])
