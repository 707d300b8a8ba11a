"""The recogniser that is measured: `python -m benchmarks.trained` trains it if it is not there.

It is the recipe `synthetic`'s, the first model of the demo, trained without services; about six
minutes on two cores, once. Another bundle is measured with `--bundle FOLDER`, or
`make bench-serving BUNDLE=FOLDER`.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from hearloop.bundle import verify
from hearloop.config import Settings
from pipelines import recipes

__all__ = ["BUNDLE", "add_bundle", "bundle"]

BUNDLE: Final = Path("runs/benchmarks/bundle")


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """The option for another bundle."""
    parser.add_argument("--bundle", type=Path, help="folder of the bundle; default: trained here")


def bundle(chosen: Path | None = None) -> Path:
    """The bundle at `chosen`, or that of the recipe; trained where there is none yet."""
    place = chosen or BUNDLE
    if chosen is None and not place.exists():
        print(f"Training a recogniser into {place}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            _train(place, Path(folder))
    verify(place)
    return place


def _train(place: Path, work: Path) -> None:
    from hearloop import feature_archive
    from hearloop.ingestion import ingest
    from hearloop.testing import InMemoryObjects
    from hearloop.training import FeatureSet, TorchrunLauncher, train

    recipe, settings, objects = recipes.synthetic(), Settings(), InMemoryObjects()
    snapshot = ingest(recipe.corpora, objects=objects, settings=settings)
    archive = feature_archive.extract(
        snapshot, objects=objects, bucket=settings.buckets.artifacts, cache=work / "cache"
    )
    train(
        recipe.training,
        sets=[FeatureSet(role="new", archive=archive)],
        base_bundle=None,
        output=place,
        work=work / "training",
        launcher=TorchrunLauncher(objects, work / "cache"),
    )


if __name__ == "__main__":
    print(bundle())
