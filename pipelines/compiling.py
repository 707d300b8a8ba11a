"""Pipelines as KFP's IR YAML. `python -m pipelines.compiling FOLDER` writes what an image carries:
the pipeline that the monitor starts."""

import sys
from pathlib import Path

from kfp.compiler import Compiler
from kfp.dsl.base_component import BaseComponent

from pipelines.graph import in_a_cluster

__all__ = ["MONITORED", "write"]

MONITORED = "continuous_learning.yaml"
"""File name of the pipeline that the monitor starts (`Settings.kfp_package`)."""


def write(pipeline: BaseComponent, output: Path) -> None:
    """Compile into a file; folders are made."""
    output.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(pipeline, str(output))


if __name__ == "__main__":
    write(in_a_cluster(), Path(sys.argv[1], MONITORED))
