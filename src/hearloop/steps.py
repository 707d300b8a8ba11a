"""The steps of a pipeline run, one verb each: what KFP's components call.

Steps hand each other digests and URIs as strings; what they name lies in object storage or in the
registry, so a step runs the same on a laptop and in a pod. A step that is killed runs again and
ends with the same result; one that had ended does nothing (see `hearloop.run_records`).
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hearloop import composition, run_records
from hearloop.drift.reference import ARTIFACT as REFERENCE
from hearloop.errors import IntegrityError, ServiceUnavailable
from hearloop.recipe import Corpus, CorrectionsCorpus, SyntheticCorpus
from hearloop.run_material import Run
from hearloop.run_records import Work
from hearloop.telemetry import Progress, Silent, progress, set_up_logging

if TYPE_CHECKING:
    from hearloop.scores import Evaluation

__all__ = [
    "HOLD",
    "ROLL_OUT",
    "evaluate",
    "extract",
    "hold",
    "ingest",
    "judge",
    "register",
    "roll_out",
    "train",
    "validate",
]

ROLL_OUT, HOLD = "roll_out", "hold"
"""What the judge decides; the graph branches on it."""

REPORT, VERDICT = "report.html", "verdict.json"
"""Files that a run keeps and that are attached to the version, beside the monitor's reference."""

log = logging.getLogger(__name__)


def ingest(*, recipe: str, run_id: str) -> str:
    """Gather the recipe's speech; returns the snapshot's digest."""
    with _step("ingest", recipe, run_id) as (run, work):
        if work.earlier is None:
            from hearloop.ingestion import ingest as gather

            corpora = run.recipe.corpora
            corrected = any(isinstance(corpus, CorrectionsCorpus) for corpus in corpora)
            with _ingestion_progress(corpora) as bar:
                snapshot = gather(
                    corpora,
                    objects=run.objects,
                    settings=run.settings,
                    corrections=composition.correction_store(run.settings) if corrected else None,
                    progress=bar,
                    language=run.recipe.language,
                    cleaning=run.recipe.cleaning,
                )
            work.done(
                snapshot.digest,
                snapshot=snapshot.digest,
                splits=snapshot.manifest["splits"],
                quarantined=snapshot.manifest["quarantine"]["count"],
            )
    return work.output


def validate(*, recipe: str, run_id: str, snapshot: str, data_docs: str) -> dict[str, Any]:
    """Check the snapshot; returns how many expectations there are and the warnings.

    Data Docs go to the folder `data_docs` and, as KFP keeps nothing of a step that fails, to
    object storage beside the run's records. Raises ValidationFailed.
    """
    from hearloop import validation

    with _step("validate", recipe, run_id, snapshot=snapshot) as (run, work):
        with tempfile.TemporaryDirectory() as folder:
            findings = validation.validate(
                run.snapshot(snapshot).rows(),
                declared=validation.declared_by(run.recipe.corpora, run.recipe.language),
                folder=Path(folder),
            )
            shutil.copytree(Path(folder, validation.DATA_DOCS), data_docs, dirs_exist_ok=True)
        run.records.keep_folder("data_docs", Path(data_docs))
        validation.refuse_critical(snapshot, findings)
        warnings = {one.expectation: len(one.rows) for one in findings if not one.met}
        for expectation, count in warnings.items():
            log.warning("%d rows break %r; training goes on", count, expectation)
        facts = {"expectations": len(findings), "warnings": warnings}
        work.done(snapshot, **facts)
    return facts


def extract(*, recipe: str, run_id: str, snapshot: str) -> str:
    """Keep log-mel and quality features of the snapshot; returns the log-mel archive's URI."""
    with _step("extract", recipe, run_id, snapshot=snapshot) as (run, work):
        if work.earlier is None:
            from hearloop.feature_store import UtteranceQuality

            rows = [UtteranceQuality.of(row) for row in run.snapshot(snapshot).rows()]
            composition.feature_store(run.settings).write(snapshot, rows)
            archive = run.archive(snapshot)
            work.done(archive, archive=archive, utterances=len(rows))
    return work.output


def train(*, recipe: str, run_id: str, snapshot: str, features: str) -> str:
    """Train a challenger; returns the digest of its bundle."""
    with _step("train", recipe, run_id, snapshot=snapshot, features=features) as (run, work):
        if work.earlier is None:
            from hearloop.bundle import verify
            from hearloop.training.launcher import train as learn
            from hearloop.training.request import FeatureSet

            config, champion, base = run.recipe.training, run.champion, None
            sets = [FeatureSet(role="new", archive=features)]
            if config.warm_start:
                base = run.champion_bundle()
                old = run.learnt if config.replay_utterances else ()
                sets += [FeatureSet(role="replay", archive=run.archive(digest)) for digest in old]
            summary = learn(
                config,
                sets=sets,
                base_bundle=base,
                output=run.folder / "bundle",
                work=run.folder / "training",
                launcher=composition.trainer(run.settings, run.objects),
                run_id=run.registry.run(run.id),
                language=run.recipe.language,
            )
            run.training.answer(run.folder / "bundle", summary)
            digest = verify(run.folder / "bundle").digest
            work.done(digest, bundle=digest, champion=champion, **asdict(summary))
    return work.output


def evaluate(
    *, recipe: str, run_id: str, snapshot: str, bundle: str, report: str
) -> tuple[str, dict[str, float]]:
    """Score the challenger, and the champion beside it; returns evaluation digest and figures.

    The report goes to the file `report`.
    """
    with _step("evaluate", recipe, run_id, snapshot=snapshot, bundle=bundle) as (run, work):
        if work.earlier is None:
            body, facts = _evaluate(run, snapshot, bundle)
            digest = hashlib.sha256(body).hexdigest()
            run.records.keep(_evaluation(digest), body)
            work.done(digest, **facts)
        Path(report).write_bytes(run.records.kept(REPORT))
    return work.output, run.records.facts("evaluate")["figures"]


def judge(*, recipe: str, run_id: str, evaluation: str) -> str:
    """Judge the challenger; returns ROLL_OUT or HOLD.

    A first model has nothing to be compared with and is rolled out unjudged.
    """
    with _step("judge", recipe, run_id, evaluation=evaluation) as (run, work):
        if work.earlier is None:
            from hearloop.gate import gate

            verdict = gate(_kept_evaluation(run, evaluation), run.recipe.gate)
            run.records.keep(VERDICT, verdict.to_json().encode())
            reason, decision = verdict.reason, HOLD
            current = run.registry.champion()
            if current != run.champion:
                reason = _moved(run, current)
            elif verdict.outcome == "pass" or current is None:
                decision = ROLL_OUT
            composition.decisions(run.settings).append(
                kind="gate",
                subject=run.id,
                decision=f"{verdict.outcome}: {decision}",
                reason=reason,
                evidence=json.loads(verdict.to_json()),
                identity=_identity("gate", run.id, evaluation),
            )
            work.done(decision, decision=decision, verdict=verdict.outcome, reason=reason)
    return work.output


def register(
    *, recipe: str, run_id: str, snapshot: str, bundle: str, evaluation: str, decision: str
) -> str:
    """Register the bundle with what it learnt from and how it scored; returns its version."""
    with _step("register", recipe, run_id, bundle=bundle, evaluation=evaluation) as (run, work):
        if work.earlier is None:
            from hearloop.run_material import dataset_uses

            scores = _kept_evaluation(run, evaluation)
            judged = run.records.facts("evaluate")
            version = run.registry.register(
                run.bundle(bundle),
                run_id=run.registry.run(run.id),
                datasets=dataset_uses(run, snapshot, scores, judged["profile"]),
                metrics=scores.metrics(),
                tags={
                    "hearloop.recipe": run.recipe.name,
                    "hearloop.verdict": run.records.facts("judge")["verdict"],
                    "hearloop.decision": decision,
                },
                parent=run.champion if run.recipe.training.warm_start else None,
                attachments={name: run.records.kept(name) for name in judged["attached"]},
            )
            work.done(version, version=version)
    return work.output


def roll_out(*, recipe: str, run_id: str, version: str) -> str:
    """Let the version take the traffic; returns how that ended: promoted, rolled_back, superseded.

    Returns `held` when another version than the one it was judged against has become champion.
    Raises ServiceUnavailable when it had to pause: the run has not ended then, and the same run
    again goes on with the rollout.
    """
    with _step("roll_out", recipe, run_id, version=version) as (run, work):
        from hearloop.rollout import roll_out as shift_traffic

        champion = run.registry.champion()
        if champion not in (run.champion, version):
            _hold(run, work, version, _moved(run, champion))
            return work.output
        if champion != version:
            run.registry.challenge(version)
        policy = run.recipe.rollout
        with progress("answers", total=policy.requests_per_step * len(policy.steps)) as bar:
            state = shift_traffic(
                version,
                router=composition.router(run.settings),
                store=composition.rollout_store(run.settings),
                policy=policy,
                registry=run.registry,
                decisions=composition.decisions(run.settings),
                progress=bar,
            )
        work.done(state.status, outcome=state.status, why=state.reason)
        if state.status == "paused":
            raise ServiceUnavailable(
                f"The rollout of version {version} is paused ({state.reason}) and version "
                f"{state.stable} takes all calls; start run {run_id} again to go on."
            )
    return work.output


def hold(*, recipe: str, run_id: str, version: str) -> str:
    """Record that the version stays out of service, and why; returns `held`."""
    with _step("hold", recipe, run_id, version=version) as (run, work):
        _hold(run, work, version, run.records.facts("judge")["reason"])
    return work.output


def _hold(run: Run, work: Work, version: str, reason: str) -> None:
    judged = run.records.read("judge")
    composition.decisions(run.settings).append(
        kind="rollout",
        subject=version,
        decision="held",
        reason=reason,
        evidence=judged.facts if judged else {},
        identity=_identity("hold", run.id, version),
    )
    work.done("held", outcome="held", why=reason)


def _moved(run: Run, champion: str | None) -> str:
    return f"The champion is version {champion} now and was {run.champion} then."


@contextmanager
def _step(name: str, recipe: str, run_id: str, **given: str) -> Iterator[tuple[Run, Work]]:
    """One step of a run, and whether an earlier try has done it."""
    set_up_logging()
    run = Run(recipe, run_id)
    with run_records.step(name, run.records, recipe=recipe, **given) as work:
        yield run, work


def _ingestion_progress(corpora: Sequence[Corpus]) -> AbstractContextManager[Progress]:
    """Progress in utterances, where it is known how many there will be."""
    sizes = [_size(corpus) for corpus in corpora]
    known = [size for size in sizes if size is not None]
    return progress("utterances", sum(known)) if known == sizes else nullcontext(Silent())


def _size(corpus: Corpus) -> int | None:
    """How many utterances a corpus holds, or at most; None where that takes reading it."""
    match corpus:
        case SyntheticCorpus():
            speakers, each = asdict(corpus.speakers), asdict(corpus.utterances_per_speaker)
            return sum(speakers[split] * each[split] for split in speakers)
        case CorrectionsCorpus():
            return corpus.up_to - corpus.after
        case _:
            return None


def _evaluate(run: Run, snapshot: str, bundle: str) -> tuple[bytes, dict[str, Any]]:
    """Let the models transcribe; keeps the report and the monitor's reference with the run."""
    from hearloop.audio import decode
    from hearloop.bundle import SERVED
    from hearloop.datasets import local_audio
    from hearloop.evaluation import evaluate as score
    from hearloop.gate import gate
    from hearloop.recogniser import Recogniser
    from hearloop.report import render
    from hearloop.run_material import joined, judged_sets, reference, training_profile
    from hearloop.scores import CHALLENGER, CHAMPION, GOLDEN

    sets = judged_sets(run, snapshot)
    trained_on = run.snapshot(snapshot).rows("train")
    rows = [row for judged in sets.values() for row in judged.rows]
    learnt_or_judged = {snapshot, *(digest for one in sets.values() for digest in one.snapshots)}
    quality = joined(run, [*trained_on, *rows], learnt_or_judged)
    models = {CHALLENGER: Recogniser.load(run.bundle(bundle), SERVED)}
    versions = {}
    if GOLDEN in sets:
        models[CHAMPION] = Recogniser.load(run.champion_bundle(), SERVED)
        versions[CHAMPION] = str(run.champion)
    with progress("judged utterances", total=len(rows)) as bar:
        evaluation = score(
            sets,
            models,
            audio=lambda row: (
                decode(local_audio(row, run.objects, run.settings.cache).read_bytes()).samples
            ),
            versions=versions,
            progress=bar,
        )
    page = render(
        evaluation,
        gate(evaluation, run.recipe.gate),
        policy=run.recipe.gate,
        audio=lambda one: run.objects.get(one.audio_uri),
        title=f"Run {run.id}: is the challenger better?",
    )
    run.records.keep(REPORT, page.encode())
    expected = reference(evaluation, sets, quality)
    if expected is not None:
        run.records.keep(REFERENCE, expected)
    return evaluation.to_json().encode(), {
        "wer": evaluation.word_error_rates(),
        "figures": evaluation.metrics(),
        "profile": training_profile(quality, trained_on),
        "attached": [REPORT, VERDICT] if expected is None else [REPORT, VERDICT, REFERENCE],
    }


def _evaluation(digest: str) -> str:
    return f"evaluations/{digest}.json"


def _kept_evaluation(run: Run, digest: str) -> "Evaluation":
    """The evaluation of that digest. Raises NotFound and IntegrityError."""
    from hearloop.scores import Evaluation

    body = run.records.kept(_evaluation(digest))
    if hashlib.sha256(body).hexdigest() != digest:
        raise IntegrityError(
            f"The evaluation {digest[:12]} of run {run.id} was changed in object storage; "
            "start a run with an id of its own."
        )
    return Evaluation.from_json(body)


def _identity(*parts: str) -> str:
    """Names a decision, so that a step that runs again does not record it again."""
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
