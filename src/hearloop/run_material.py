"""What a pipeline run learns from, is judged on, and leaves behind with its model.

A run is pinned to one champion, that of the beginning of its training. What it learnt from, back
to the first model, is what the challenger must not forget: its training speech is replayed, and
its test speech is the golden set.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hearloop import composition
from hearloop.config import Settings
from hearloop.errors import ConfigurationError, IntegrityError
from hearloop.recipe import Recipe, Split
from hearloop.telemetry import progress

if TYPE_CHECKING:
    import pandas as pd

    from hearloop.datasets import CutRow, Snapshot
    from hearloop.evaluation import JudgedRows
    from hearloop.lineage import DatasetUse
    from hearloop.registry import Registry
    from hearloop.scores import Evaluation
    from hearloop.training.remote import RemoteTraining

__all__ = ["Run", "dataset_uses", "joined", "judged_sets", "reference", "training_profile"]

log = logging.getLogger(__name__)

NOBODY = ""
"""The pinned champion of a run that trained when there was none."""

PROFILE = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
"""Quantiles that tell what speech a model was trained on."""


class Run:
    """One run as its steps see it."""

    def __init__(self, recipe: str, run_id: str) -> None:
        self.id = run_id
        self.recipe = Recipe.from_json(recipe)
        self.settings = Settings()
        self.objects = composition.objects(self.settings)
        self.records = composition.run_records(self.settings, run_id)
        self.folder = self.settings.pipeline_runs.absolute() / run_id
        """Where a step works on this machine; what other steps need is in object storage too."""

    @cached_property
    def registry(self) -> "Registry":
        """Models and what they learnt from."""
        return composition.registry(self.settings)

    @cached_property
    def champion(self) -> str | None:
        """The champion when training began, whatever has become of it since."""
        return self.records.pinned("champion", lambda: self.registry.champion() or NOBODY) or None

    @cached_property
    def learnt(self) -> tuple[str, ...]:
        """Digests of the snapshots that the champion and its ancestors learnt from."""
        if self.champion is None:
            return ()
        ancestors = self.registry.lineage(self.champion).ancestors()
        uses = [use for one in ancestors for use in one.learnt_from]
        return tuple(dict.fromkeys(use.snapshot for use in reversed(uses)))

    @property
    def training(self) -> "RemoteTraining":
        """Where the trained bundle is kept for steps on other machines."""
        from hearloop.training.remote import RemoteTraining

        return RemoteTraining(f"{self.records.folder}/training", self.objects, self.settings.cache)

    def snapshot(self, digest: str) -> "Snapshot":
        """A complete snapshot. Raises NotFound and IntegrityError."""
        from hearloop.datasets import open_snapshot

        return open_snapshot(digest, self.objects, self.settings.buckets.snapshots)

    def archive(self, digest: str) -> str:
        """URI of the archive of what the network takes, which is made when it is missing."""
        from hearloop import feature_archive, streamed

        opened = self.snapshot(digest)
        if self.recipe.training.stream:
            return streamed.extract(
                opened,
                objects=self.objects,
                bucket=self.settings.buckets.artifacts,
                cache=self.settings.cache,
            )
        splits = opened.manifest["splits"]
        total = splits["train"]["count"] + splits["dev"]["count"]
        with progress("features", total=total) as bar:
            return feature_archive.extract(
                opened,
                objects=self.objects,
                bucket=self.settings.buckets.artifacts,
                cache=self.settings.cache,
                samples=self._hears_samples,
                progress=bar,
            )

    @property
    def _hears_samples(self) -> bool:
        """Whether the network to train takes samples: the recipe's, or that of the champion."""
        from hearloop.bundle import hears_samples

        training = self.recipe.training
        asks_base = training.family is None and training.warm_start
        return hears_samples(training.family, self.champion_bundle() if asks_base else None)

    def bundle(self, digest: str) -> Path:
        """A local copy of the bundle that this run trained. Raises IntegrityError."""
        from hearloop.bundle import verify

        place = self.folder / "bundle"
        try:
            if verify(place).digest == digest:
                return place
        except IntegrityError:
            log.info("the bundle %s is not on this machine; fetching it", digest[:12])
        self.training.fetch_bundle(place)
        if verify(place).digest != digest:
            raise IntegrityError(
                f"Run {self.id} trained the bundle {digest[:12]} and another one is stored; "
                "start a run with an id of its own."
            )
        return place

    def champion_bundle(self) -> Path:
        """A local copy of the champion. Raises ConfigurationError when there was none."""
        if self.champion is None:
            raise ConfigurationError(
                f"Recipe {self.recipe.name} starts from the champion and there is none; first run "
                "a recipe that begins with random weights, such as synthetic."
            )
        return self.registry.fetch(self.champion, self.settings.cache / "models")


def judged_sets(run: Run, snapshot: str) -> "dict[str, JudgedRows]":
    """The test speech of what the challenger learnt from and, with a champion, the golden set."""
    from hearloop.evaluation import JudgedRows
    from hearloop.scores import GOLDEN, NEW

    sets: dict[str, tuple[str, ...]] = {NEW: (snapshot,)}
    if run.recipe.gate.compare and run.champion is not None:
        sets[GOLDEN] = run.learnt
    return {
        name: JudgedRows(snapshots=digests, rows=_test_rows(run, digests))
        for name, digests in sets.items()
    }


def _test_rows(run: Run, snapshots: Iterable[str]) -> "list[CutRow]":
    """Test rows of several snapshots; what is in two of them once."""
    rows = [row for digest in snapshots for row in run.snapshot(digest).rows("test")]
    return list({row.id: row for row in rows}.values())


def joined(run: Run, rows: "Sequence[CutRow]", snapshots: Iterable[str]) -> "pd.DataFrame":
    """Quality features of rows of the snapshots as of when each was said, by utterance id."""
    asked = {row.id: row.recorded_at for row in rows}
    store = composition.feature_store(run.settings)
    table = store.joined(list(asked.items()), snapshots=snapshots)
    return table.set_index("utterance")


def training_profile(table: "pd.DataFrame", rows: "Sequence[CutRow]") -> dict[str, float]:
    """Quantiles of each quality feature over the rows, as `snr_db.p05`."""
    if not rows:
        return {}
    of_rows = table.loc[[row.id for row in rows]]
    return {
        f"{signal}.{name}": round(float(of_rows[signal].quantile(share)), 4)
        for signal in of_rows.columns
        for name, share in PROFILE.items()
    }


def reference(
    evaluation: "Evaluation", judged: "Mapping[str, JudgedRows]", table: "pd.DataFrame"
) -> bytes | None:
    """What the monitor compares live calls with once the challenger is champion.

    None where no judged set has enough speakers: then nobody can tell a change of callers.
    """
    from hearloop.drift import reference as drift
    from hearloop.drift.signals import SIGNALS, utterance
    from hearloop.quality import Quality
    from hearloop.scores import CHALLENGER

    measured = {
        str(utterance_id): Quality(**{one.name: row[one.name] for one in fields(Quality)})
        for utterance_id, row in table.iterrows()
    }
    rows = []
    for name, judged_set in evaluation.sets.items():
        sources = {row.id: row.source for row in judged[name].rows}
        for one in judged_set.utterances:
            heard = one.answers[CHALLENGER]
            rows.append(
                drift.ReferenceRow(
                    condition=f"{name} {sources[one.id]}",
                    speaker=one.speaker or one.block,
                    signals=utterance(
                        measured[one.id], text=heard.text, confidence=heard.confidence
                    ),
                    errors=heard.words.errors,
                    words=heard.words.length,
                )
            )
    try:
        return drift.build(rows, signals=SIGNALS).to_json().encode()
    except ConfigurationError as error:
        log.warning("the monitor will not be able to compare live calls: %s", error)
        return None


def dataset_uses(
    run: Run, snapshot: str, evaluation: "Evaluation", profile: Mapping[str, float]
) -> "list[DatasetUse]":
    """Everything that shaped the challenger or judged it, as its lineage keeps it."""
    replayed = run.learnt if run.recipe.training.replay_utterances else ()
    return [
        _use(run, snapshot, "train", "train", profile),
        _use(run, snapshot, "dev", "dev"),
        *_corrections(run, snapshot),
        *(_use(run, digest, "replay", "train") for digest in replayed),
        *_judged(run, evaluation),
    ]


def _use(
    run: Run, snapshot: str, context: str, split: Split, metrics: Mapping[str, float] | None = None
) -> "DatasetUse":
    from hearloop.lineage import DatasetUse

    opened = run.snapshot(snapshot)
    counts = opened.manifest["splits"][split]
    return DatasetUse(
        context=context,
        snapshot=snapshot,
        uri=opened.uri,
        utterances=counts["count"],
        seconds=counts["seconds"],
        metrics=dict(metrics or {}),
    )


def _corrections(run: Run, snapshot: str) -> "Iterable[DatasetUse]":
    """The human corrections among what was trained on."""

    from hearloop.lineage import CorrectionRange
    from hearloop.recipe import CorrectionsCorpus

    asked = [one for one in run.recipe.corpora if isinstance(one, CorrectionsCorpus)]
    rows = [row for row in run.snapshot(snapshot).rows() if row.correction and row.split != "test"]
    if asked and rows:
        yield replace(
            _use(run, snapshot, "corrections", "train"),
            utterances=len(rows),
            seconds=sum(row.seconds for row in rows),
            corrections=CorrectionRange(
                first=min(one.after for one in asked) + 1,
                last=max(one.up_to for one in asked),
                ids=tuple(row.correction for row in rows if row.correction),
                contributors=len({row.contributor for row in rows}),
            ),
        )


def _judged(run: Run, evaluation: "Evaluation") -> "Iterable[DatasetUse]":
    """Each judged set, snapshot by snapshot, with the challenger's error rates on it."""

    from hearloop.scores import CHALLENGER
    from hearloop.scoring import total

    for name, judged_set in evaluation.sets.items():
        answers = {one.id: one.answers[CHALLENGER] for one in judged_set.utterances}
        for digest in judged_set.snapshots:
            own = [answers[row.id] for row in run.snapshot(digest).rows("test")]
            rates = {
                "wer": total(one.words for one in own).rate,
                "cer": total(one.characters for one in own).rate,
            }
            yield replace(_use(run, digest, name, "test"), metrics=rates if own else {})
