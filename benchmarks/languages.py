"""Another language than English, by its recipe alone: `python -m benchmarks.languages`.

Italian prompts of Debian are ingested, trained on and scored as any recipe's speech is; what is
judged are recordings of texts that are in no training. `--language es` (or fr, ru) takes another
language in the same recipe, `--workers 2` two cores, `--steps N` a smaller budget, `--home FOLDER`
keeps the bundle.
"""

import argparse
import os
import resource
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from benchmarks.results import record
from hearloop import feature_archive
from hearloop.audio import Samples, decode
from hearloop.bundle import SERVED
from hearloop.config import Settings
from hearloop.datasets import CutRow, Snapshot, local_audio
from hearloop.ingestion import ingest
from hearloop.recipe import PromptsCorpus, Recipe
from hearloop.recogniser import Recogniser
from hearloop.scoring import ErrorCounts, count_characters, count_words, total
from hearloop.testing import InMemoryObjects
from hearloop.training import FeatureSet, TorchrunLauncher, TrainingSummary, train
from pipelines.recipes import italian

__all__ = ["Bench", "cpu_seconds"]

COMMAND: Final = "python -m benchmarks.languages"
_BUCKET: Final = "features"


def cpu_seconds() -> float:
    """Of this process and of all that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Bench:
    """Ingests, trains and judges in one folder, as a pipeline's steps do."""

    def __init__(self, home: Path) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"  # a thread that waits for another counts as well
        self._home = home
        self._objects = InMemoryObjects()
        self._settings = Settings(cache=home / "cache")

    def gather(self, recipe: Recipe) -> Snapshot:
        """The recipe's speech."""
        return ingest(
            recipe.corpora,
            objects=self._objects,
            settings=self._settings,
            language=recipe.language,
        )

    def learn(
        self, recipe: Recipe, new: Snapshot, *, old: Iterable[Snapshot] = (), base: Path | None
    ) -> tuple[Path, TrainingSummary]:
        """Train the recipe's model; returns its bundle."""
        sets = [FeatureSet(role="new", archive=self._archive(new))]
        sets += [FeatureSet(role="replay", archive=self._archive(one)) for one in old]
        output = self._home / recipe.name
        summary = train(
            recipe.training,
            sets=sets,
            base_bundle=base,
            output=output,
            work=self._home / f"{recipe.name}-work",
            launcher=TorchrunLauncher(self._objects, self._settings.cache),
            language=recipe.language,
        )
        return output, summary

    def samples(self, rows: Sequence[CutRow]) -> list[Samples]:
        """The recordings of rows."""
        paths = [local_audio(row, self._objects, self._settings.cache) for row in rows]
        return [decode(path.read_bytes()).samples for path in paths]

    def transcripts(self, bundle: Path, rows: Sequence[CutRow]) -> list[str]:
        """What the graph that servers answer with hears in each row."""
        recogniser = Recogniser.load(bundle, SERVED)
        return [one.text for one in recogniser.transcribe_many(self.samples(rows))]

    def _archive(self, snapshot: Snapshot) -> str:
        return feature_archive.extract(
            snapshot, objects=self._objects, bucket=_BUCKET, cache=self._settings.cache
        )


def errors(rows: Sequence[CutRow], heard: Sequence[str]) -> ErrorCounts:
    """Word errors of all rows."""
    return total(count_words(row.text, text) for row, text in zip(rows, heard, strict=True))


def spoken(language: Literal["it", "es", "fr", "ru"]) -> Recipe:
    """The Italian recipe; for another language its tag and its speech change, nothing else."""
    recipe = italian()
    if language == recipe.language:
        return recipe
    corpora = (PromptsCorpus(language=language),)
    return replace(recipe, name=f"prompts-{language}", language=language, corpora=corpora)


def main() -> None:
    """Measure; what was measured with the whole recipe is recorded."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--language", default="it", choices=("it", "es", "fr", "ru"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    recipe = spoken(given.language)
    steps = given.steps or recipe.training.steps
    recipe = replace(recipe, training=replace(recipe.training, steps=steps, workers=given.workers))
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(given.home or Path(temporary))
        snapshot = bench.gather(recipe)
        bundle, _ = bench.learn(recipe, snapshot, base=None)
        rows = snapshot.rows("test")
        heard = bench.transcripts(bundle, rows)
    found = errors(rows, heard)
    characters = total(
        count_characters(row.text, text) for row, text in zip(rows, heard, strict=True)
    )
    for row, text in list(zip(rows, heard, strict=True))[:12]:
        print(f"{row.text} | {text}")
    print(
        f"{recipe.language}: {len(rows)} recordings of unseen texts, {found.length} words; "
        f"WER {found.rate:.4f}, CER {characters.rate:.4f}; {cpu_seconds():.0f} CPU seconds"
    )
    if given.steps is None:
        other = recipe.language != italian().language
        figure = f"second_language_wer_{recipe.language}" if other else "second_language_wer"
        command = f"{COMMAND} --language {recipe.language}" if other else COMMAND
        record("speech", figure, found.rate, "WER", command)


if __name__ == "__main__":
    main()
