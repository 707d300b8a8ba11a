"""What a snapshot has to meet before anything learns from it, as a Great Expectations suite.

Each expectation has a severity. A critical failure means that training would learn something
wrong or that the figures would mean nothing, so it stops the run and names the rows; a warning
is reported and nothing else. Data Docs, the suite's report, are left in the folder given.

    >>> findings = validate(snapshot.rows(), declared=declared_by(recipe.corpora), folder=folder)
    >>> [finding.expectation for finding in findings if not finding.met]
    ['text: no text of the test split is trained on']
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from hearloop.audio import SAMPLE_RATE
from hearloop.datasets import LONGEST_S, SHORTEST_S, CutRow
from hearloop.errors import ValidationFailed
from hearloop.recipe import (
    Corpus,
    CorrectionsCorpus,
    FolderCorpus,
    PromptsCorpus,
    Split,
    SyntheticCorpus,
)
from hearloop.text import alphabet

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.expectations.expectation import Expectation

__all__ = ["DATA_DOCS", "Declared", "Finding", "declared_by", "refuse_critical", "validate"]

Severity = Literal["critical", "warning"]

DATA_DOCS = Path("gx/uncommitted/data_docs/local_site")
"""Where Great Expectations leaves the report, below the folder of its file context."""

MOST_SILENCE = 0.9
"""Share of silent frames above which a cut hardly holds its transcript."""
MOST_CLIPPING = 0.01
"""Share of samples at full scale above which distortion is heard (ITU-T P.56 meters flag it)."""
NAMED_ROWS = 10
"""Rows that an error message names; Data Docs name all of them."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """Which corpora, by the `source` of their rows, promise what about their splits."""

    disjoint_speakers: frozenset[str]
    disjoint_texts: frozenset[str]
    language: str = "en"
    """Tag of the language of all rows."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One expectation and the rows that break it.

    rows: ids in the snapshot's order; empty where the expectation is about the whole table.
    """

    expectation: str
    severity: Severity
    met: bool
    rows: tuple[str, ...] = ()


def declared_by(corpora: Iterable[Corpus], language: str = "en") -> Declared:
    """What the recipe's corpora promise about their splits, and its language.

    Synthetic callers and correctors' callers are drawn for one split each; the prompts have a
    single speaker and are split by text instead.
    """
    speakers, texts = set(), set()
    for corpus in corpora:
        match corpus:
            case SyntheticCorpus() | CorrectionsCorpus() | FolderCorpus(disjoint_speakers=True):
                speakers.add(corpus.kind)
            case PromptsCorpus():
                texts.add(corpus.kind)
    return Declared(
        disjoint_speakers=frozenset(speakers), disjoint_texts=frozenset(texts), language=language
    )


def validate(rows: Sequence[CutRow], *, declared: Declared, folder: Path) -> list[Finding]:
    """Check every expectation; the report is then under `folder / DATA_DOCS`."""
    results = _run(_table(rows, declared), declared.language, folder)
    return [_finding(result) for result in results]


def refuse_critical(snapshot: str, findings: Sequence[Finding]) -> None:
    """Raise ValidationFailed when a critical expectation is not met; names up to 10 rows each."""
    broken = [one for one in findings if one.severity == "critical" and not one.met]
    if broken:
        raise ValidationFailed(
            f"Snapshot {snapshot[:12]} breaks {'; '.join(map(_told, broken))}. Nothing was "
            "trained: mend or remove these rows at their source and run again."
        )


def _told(finding: Finding) -> str:
    if not finding.rows:
        return f'"{finding.expectation}"'
    named = ", ".join(finding.rows[:NAMED_ROWS])
    more = len(finding.rows) - NAMED_ROWS
    return f'"{finding.expectation}" in {named}' + (f" and {more} more" if more > 0 else "")


def _finding(result: "ExpectationValidationResult") -> Finding:
    configuration = result.expectation_config
    assert configuration is not None
    assert configuration.meta is not None
    broken = result.result.get("unexpected_index_list") or ()
    return Finding(
        expectation=configuration.meta["name"],
        severity="critical" if configuration.severity == "critical" else "warning",
        met=bool(result.success),
        rows=tuple(dict.fromkeys(str(row["id"]) for row in broken)),
    )


def _table(rows: Sequence[CutRow], declared: Declared) -> "pd.DataFrame":
    """One line for each cut; GX skips empty cells, so each promise has a column of its own."""
    import pandas as pd

    names = [one.name for one in fields(CutRow) if one.name != "quality"]
    table = pd.DataFrame([[getattr(row, name) for name in names] for row in rows], columns=names)
    for measure in ("silence", "clipping"):
        table[measure] = [getattr(row.quality, measure) for row in rows]
    speaker_splits = table.groupby("speaker")["split"].transform("nunique")
    promised = table["source"].isin(declared.disjoint_speakers)
    table["splits_of_declared_speaker"] = speaker_splits.where(promised)
    table["splits_of_speaker"] = speaker_splits.where(~promised)
    table["splits_of_audio"] = table.groupby("audio_digest")["split"].transform("nunique")
    trained = set(table.loc[table["split"] == "train", "text"])
    leaks = table["text"].isin(trained).where(table["split"] == "test").astype("float")
    promised = table["source"].isin(declared.disjoint_texts)
    table["declared_text_is_trained_on"] = leaks.where(promised)
    table["text_is_trained_on"] = leaks.where(~promised)
    return table


def _suite(language: str) -> "list[Expectation]":
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    def critical(kind: type["Expectation"], name: str, **arguments: Any) -> "Expectation":
        severity = FailureSeverity.CRITICAL
        return kind(severity=severity, meta={"name": name}, notes=name, **arguments)

    def warning(kind: type["Expectation"], name: str, **arguments: Any) -> "Expectation":
        severity = FailureSeverity.WARNING
        return kind(severity=severity, meta={"name": name}, notes=name, **arguments)

    filled = [
        critical(gxe.ExpectColumnValuesToNotBeNull, f"{column} is given", column=column)
        for column in ("id", "split", "text", "speaker", "source", "recorded_at", "audio_uri")
    ]
    between, unique = gxe.ExpectColumnValuesToBeBetween, gxe.ExpectColumnValuesToBeUnique
    return [
        *filled,
        critical(
            gxe.ExpectColumnDistinctValuesToContainSet,
            "there is something to train on and something to test on",
            column="split",
            value_set=["train", "test"],
        ),
        critical(
            gxe.ExpectColumnValuesToBeInSet,
            "split is train, dev or test",
            column="split",
            value_set=list(get_args(Split)),
        ),
        critical(
            between,
            f"a cut lasts {SHORTEST_S:g} to {LONGEST_S:g} s",
            column="seconds",
            min_value=SHORTEST_S,
            max_value=LONGEST_S,
        ),
        critical(
            gxe.ExpectColumnValuesToBeInSet,
            f"the sample rate is {SAMPLE_RATE} Hz",
            column="sample_rate",
            value_set=[SAMPLE_RATE],
        ),
        critical(
            gxe.ExpectColumnValuesToMatchRegex,
            "a transcript holds only characters of the alphabet",
            column="text",
            regex=f"^[{re.escape(alphabet(language))}]+$",
        ),
        critical(unique, "an id names one cut", column="id"),
        warning(unique, "no audio occurs twice", column="audio_digest"),
        critical(between, "no audio is in two splits", column="splits_of_audio", max_value=1),
        critical(
            between,
            "no speaker of a corpus with disjoint speakers is in two splits",
            column="splits_of_declared_speaker",
            max_value=1,
        ),
        warning(between, "no speaker is in two splits", column="splits_of_speaker", max_value=1),
        critical(
            between,
            "no text of a corpus split by text is tested and trained on",
            column="declared_text_is_trained_on",
            max_value=0,
        ),
        warning(
            between, "no text is tested and trained on", column="text_is_trained_on", max_value=0
        ),
        warning(
            between,
            f"at most {MOST_SILENCE:.0%} of a cut is silent",
            column="silence",
            max_value=MOST_SILENCE,
        ),
        warning(
            between,
            f"at most {MOST_CLIPPING:.0%} of a cut is clipped",
            column="clipping",
            max_value=MOST_CLIPPING,
        ),
    ]


def _run(table: "pd.DataFrame", language: str, folder: Path) -> "list[ExpectationValidationResult]":
    """Run the suite in a file context under `folder` and render its Data Docs there."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read once, on import
    import great_expectations as gx
    from great_expectations.checkpoint import UpdateDataDocsAction
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="file", project_root_dir=folder)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_or_update_pandas("snapshot")
    whole = source.add_dataframe_asset("cuts").add_batch_definition_whole_dataframe("all cuts")
    suite = context.suites.add_or_update(
        gx.ExpectationSuite(name="cuts", expectations=_suite(language))
    )
    definition = context.validation_definitions.add_or_update(
        gx.ValidationDefinition(name="cuts", data=whole, suite=suite)
    )
    checkpoint = gx.Checkpoint(
        name="cuts",
        validation_definitions=[definition],
        actions=[UpdateDataDocsAction(name="data docs")],
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": ["id"],
            "return_unexpected_index_query": False,
        },
    )
    outcome = context.checkpoints.add_or_update(checkpoint).run({"dataframe": table})
    return [result for run in outcome.run_results.values() for result in run.results]
