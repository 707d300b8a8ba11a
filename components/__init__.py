"""The steps of the pipeline, one folder each: a declaration that calls one verb of the library.

Importing a component loads kfp and nothing heavier; torch, lhotse and MLflow are loaded inside
the running step. Steps hand each other content digests: a digest names exactly one content, so a
step that runs again finds what it needs, verified. Artifacts are for the people who look.
"""

from functools import partial

from kfp import dsl

__all__ = ["GPU_IMAGE", "IMAGE", "component"]

IMAGE = "hearloop/pipeline:0.1.0"
"""Holds the library with all dependencies; every step runs in it, so nothing is installed then."""

GPU_IMAGE = "hearloop/pipeline-cuda:0.1.0"
"""The same with CUDA, for a step that is given GPUs of its own."""

component = partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
"""`kfp.dsl.component` for a step that runs in `IMAGE`."""
