"""The acts of the demo, in order, each through the doors that its users have.

A base model is trained and served. Callers change; the monitor notices. People correct some
calls; the monitor starts a retrain, which is judged and rolled out while requests flow. Then
somebody sends wrong transcripts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from demo import reviewers
from demo.callers import Answer, Line, Said, Traffic, spoken
from demo.charts import Mark
from demo.judging import judge
from demo.poisoning import Poison, poison
from demo.scenario import LINES, Scenario
from demo.stage import RUNS, Stages, run_pipeline, summary_of_run
from demo.watching import Monitor, wait_for
from hearloop import composition
from hearloop.errors import HearloopError
from hearloop.gate import Verdict
from hearloop.recipe import CorrectionsCorpus, Recipe
from hearloop.recogniser import Recogniser
from hearloop.scores import Rate
from hearloop.scoring import ScoredUtterance
from hearloop.stack import Stack
from hearloop.telemetry import progress

__all__ = [
    "BASE_RUN",
    "BASE_STAGE",
    "POISON_RUN",
    "POISON_STAGE",
    "RETRAIN_STAGE",
    "Judged",
    "Story",
]

BASE_RUN, POISON_RUN = "demo-base", "demo-poison"

BASE_STAGE = "base model"
RETRAIN_STAGE = "retrain, gate and rollout"
POISON_STAGE = "what the poison would have done"
"""The stages that a pipeline run is part of."""

BACKGROUND_CALLERS = 4
QUIET_S, BUSY_S = 3.0, 0.05
"""Seconds between two utterances of a background caller: few while a model trains, which needs
the cores, and many while the rollout waits for answers."""
CORRECTIONS_AT_ONCE = 30
"""Corrections between two looks at whether the monitor has acted."""

SECONDS_TO_WATCH = 120.0
SECONDS_TO_RETRAIN = 900.0


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How one version heard the two judged groups."""

    base_voices: Rate
    changed_calls: Rate
    answers: Sequence[ScoredUtterance]
    """On the changed calls, in the order in which they were spoken."""


@dataclass(kw_only=True)
class Story:
    """Carries the demo from act to act; every figure that it holds was measured."""

    scenario: Scenario
    stack: Stack
    folder: Path
    recipes: tuple[Recipe, Recipe]
    """Of the base model and of the retrain."""
    console: Console
    stages: Stages
    answers: list[Answer] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    groups: dict[str, list[list[Said]]] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)
    """By version."""

    base: str = field(init=False)
    """Version that serves before the change."""
    alarm: dict[str, Any] = field(init=False)
    """The first shift alarm; a false one where it came before the change."""
    retrain: str = field(init=False)
    """The pipeline run that trained the challenger."""
    challenger: str = field(init=False)
    """Version that serves after the retrain."""
    verdict: Verdict = field(init=False)
    """The gate's, on the challenger."""
    poison: Poison = field(init=False)
    poisoned: str = field(init=False)
    """Version that learnt from the poison; it never serves."""
    decided: list[dict[str, Any]] = field(init=False)
    """The decisions on record at the end."""
    champion: str | None = field(init=False)
    """The version in production at the end, after the poisoned one was judged."""

    def __post_init__(self) -> None:
        self.settings = self.stack.settings
        self.monitor = Monitor(self.settings.monitor_url)
        self.line = Line(self.settings.serving_url, self.settings.serving_headers)

    def play(self) -> None:
        """All acts."""
        stage = self.stages.stage
        with stage("callers prepare what they will say"):
            self._speak()
        with stage(BASE_STAGE):
            self._train_base()
        with stage("usual calls"):
            self._usual_calls()
        with stage("callers change"):
            changed = self._changed_calls()
        traffic = Traffic(
            self.line, self.groups["later"], callers=BACKGROUND_CALLERS, pause_s=QUIET_S
        )
        try:
            with traffic:
                with stage("people correct"):
                    self._correct(changed)
                with stage(RETRAIN_STAGE):
                    self._follow(traffic)
                with stage("poisoned corrections"):
                    corrections = self._poison()
        finally:
            self.answers = sorted([*self.answers, *traffic.answers], key=lambda one: one.at)
        with stage(POISON_STAGE):
            self._train_on(corrections)
        self.monitor.status()
        self.decided = self.monitor.decisions()
        self.champion = composition.registry(self.settings).champion()

    def _speak(self) -> None:
        """Everybody who is going to call says what they will say."""
        for name in ("judged_base", "judged_changed", "usual", "changed", "later"):
            callers = getattr(self.scenario, name)
            with progress(f"{name.replace('_', ' ')}: calls spoken", callers.calls) as bar:
                self.groups[name] = spoken(callers, bar)

    def _train_base(self) -> None:
        """Train, register and serve the first model."""
        self._run(self.recipes[0], BASE_RUN)
        self.base = str(summary_of_run(BASE_RUN)["register"]["version"])
        self._mark(f"version {self.base} serves")
        self._judge(self.base)

    def _usual_calls(self) -> None:
        """Callers as the model knows them, watched by the monitor."""

        def reference() -> bool | None:
            known = self.monitor.status()["reference"]
            return True if known and known["version"] == self.base else None

        def watched() -> bool | None:
            return self.monitor.status()["calls"] >= enough or None

        enough = self.scenario.watched_before_change
        wait_for("the monitor to load the champion's reference", reference, SECONDS_TO_WATCH)
        self._converse("usual")
        wait_for(f"the monitor to watch {enough} calls", watched, SECONDS_TO_WATCH)

    def _changed_calls(self) -> list[list[Answer]]:
        """Callers with accents, a line and products that the model has never heard."""

        def alarm() -> dict[str, Any] | None:
            alarms = self.monitor.status()["alarms"]
            return alarms[0] if alarms else None

        self._mark("callers change")
        calls = self._converse("changed")
        self.alarm = wait_for("the shift alarm", alarm, SECONDS_TO_WATCH)
        return calls

    def _correct(self, calls: Sequence[Sequence[Answer]]) -> None:
        """People correct part of the changed calls until the monitor acts."""
        part = calls[: round(len(calls) * self.scenario.corrected_share)]
        corrections = list(reviewers.honest(part, self.scenario.contributors))
        self._mark("corrections come in")
        with progress("corrections", len(corrections)) as bar:
            for first in range(0, len(corrections), CORRECTIONS_AT_ONCE):
                batch = corrections[first : first + CORRECTIONS_AT_ONCE]
                reviewers.send(
                    self.settings.serving_url, batch, bar, headers=self.settings.serving_headers
                )
                if self._first_run():
                    break
        run = wait_for("the monitor to start a retrain", self._first_run, SECONDS_TO_WATCH)
        self.retrain = run["run_id"]
        self._mark("the monitor starts the retrain")

    def _follow(self, traffic: Traffic) -> None:
        """Wait for the retrain to end; callers call more often once the rollout needs answers.

        Raises HearloopError when no new version serves at its end.
        """
        records = composition.run_records(self.settings, self.retrain)
        told: set[str] = set()

        def ended() -> str | None:
            for record in records.all():
                if record.step not in told:
                    told.add(record.step)
                    self.console.print(f"  {record.step:<10} {record.seconds:6.1f} s")
            if "register" in told and traffic.pause_s != BUSY_S:
                self._mark("rollout")
                traffic.pause_s = BUSY_S
            run = self._first_run()
            return run["ended"] if run else None

        outcome = wait_for("the retrain to end", ended, SECONDS_TO_RETRAIN)
        traffic.pause_s = QUIET_S
        if outcome != "promoted":
            raise HearloopError(
                f"The retrain {self.retrain} ended as {outcome}, so that no new version serves; "
                f"the reason is in {RUNS / self.retrain}/summary.json."
            )
        self.challenger = str(summary_of_run(self.retrain)["register"]["version"])
        self._mark(f"version {self.challenger} serves")
        body = composition.registry(self.settings).attachment(self.challenger, "verdict.json")
        self.verdict = Verdict.from_json(body)
        self._judge(self.challenger)

    def _poison(self) -> CorrectionsCorpus:
        """Wrong transcripts come in; returns the corpus that a model would have learnt from."""
        self._mark("poisoned corrections")
        calls = self._converse("later")
        self.poison = poison(calls, self.scenario, self.monitor, self.settings)
        return self.poison.corpus

    def _train_on(self, corpus: CorrectionsCorpus) -> None:
        """What a model would have scored that had learnt from the poison: trained and judged."""
        self._run(replace(self.recipes[1], name="poison", corpora=(corpus,)), POISON_RUN)
        self.poisoned = str(summary_of_run(POISON_RUN)["register"]["version"])
        self._judge(self.poisoned)

    def _run(self, recipe: Recipe, run_id: str) -> None:
        path = self.folder / f"{recipe.name}.json"
        path.write_text(recipe.to_json())
        run_pipeline(path, run_id, self.stack.environment)

    def _judge(self, version: str) -> None:
        """Measure a version on the two judged groups, with the model as it is served."""
        models = self.settings.cache / "models"
        recogniser = Recogniser.load(composition.registry(self.settings).fetch(version, models))
        base, _ = judge(recogniser, version, self.groups["judged_base"])
        changed, answers = judge(recogniser, version, self.groups["judged_changed"])
        self.judged[version] = Judged(base_voices=base, changed_calls=changed, answers=answers)

    def _converse(self, group: str) -> list[list[Answer]]:
        calls = self.groups[group]
        answered = []
        with progress(f"{group} calls", len(calls)) as bar:
            for answers in self.line.converse(calls, at_once=LINES, progress=bar):
                answered.append(answers)
                self.answers.extend(answers)
                if all(answer.failure for answer in self.answers):
                    raise HearloopError(f"The endpoint answers nobody: {answers[0].failure}.")
                if len(answered) % LINES == 0:
                    self.monitor.status()
        return answered

    def _first_run(self) -> dict[str, Any] | None:
        runs = self.monitor.status()["runs"]
        return runs[0] if runs else None

    def _mark(self, text: str) -> None:
        """Point at this moment in the chart of the traffic."""
        self.marks.append(Mark(at_s=self.stages.now_s, text=text))
