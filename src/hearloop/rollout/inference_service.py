"""The Router port over a KServe InferenceService in Standard mode.

Each version is a predictor of its own, named after it, whose servers are pinned to that version by
an environment variable. A challenger comes as an entry of `spec.canary`; KServe gives it its share
of the traffic through Gateway API once it is ready. Promotion names it as the stable predictor and
drops the entry: KServe keeps its Deployment, whose pods are replaced one by one as it comes under
the autoscaler. Rollback only drops the entry. Streams that are under way drain in either case.

    spec:
      predictor: {name: v7, model: {env: [{name: HEARLOOP_MODEL_VERSION, value: "7"}], …}, …}
      canary:
        - trafficPercent: 20
          predictor: {name: v8, model: {env: [{name: HEARLOOP_MODEL_VERSION, value: "8"}], …}}
"""

import re
import uuid
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from hearloop.cluster import Kind, Resource, Resources
from hearloop.errors import Conflict, InvalidInput, ServiceUnavailable, VersionRefused
from hearloop.rollout.rule import Reading, Tally, Traffic

__all__ = [
    "CANARY_LABELS",
    "MODEL_VERSION",
    "SCALERS",
    "SERVICES",
    "InferenceServiceRouter",
    "Tallies",
]

SERVICES: Final = Kind("serving.kserve.io", "v1beta1", "inferenceservices")
SCALERS: Final = Kind("keda.sh", "v1alpha1", "scaledobjects")

MODEL_VERSION: Final = "HEARLOOP_MODEL_VERSION"
"""Environment variable that pins a model server to a version (`Settings.model_version`)."""

READY_SECONDS: Final = 600.0
"""For a version's first pod: a node may have to come first, with an image to fetch."""

NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
"""Versions that can be part of the names of a Deployment and a Service."""

FIXED_REPLICAS: Final = {"serving.kserve.io/autoscalerClass": "none"}
"""A canary is not scaled: KServe would make an autoscaler without a trigger, which KEDA refuses."""

CANARY_LABELS: Final = {"hearloop/traffic": "canary"}
"""Of a canary's pods: what goes to servers past KServe's weights goes to those of the stable
version, which the manifests label `stable`."""

CONFLICTS: Final = 20
"""Writes that may lose against KServe's own: it writes its status a few times a second at most."""


class Tallies(Protocol):
    """Where the evidence comes from."""

    def now(self) -> float:
        """Seconds on the clock of the evidence. Raises ServiceUnavailable."""

    def since(self, moment: float, versions: Iterable[str]) -> Mapping[str, Tally]:
        """What the versions did after `moment`. Raises ServiceUnavailable."""


@dataclass(frozen=True, kw_only=True)
class _Split:
    """The versions that the service names. A canary of 0 % is started and takes no traffic yet."""

    stable: str | None
    canary: str | None = None
    percent: int = 0

    @property
    def traffic(self) -> Traffic | None:
        if self.stable is None:
            return None
        if self.canary is None or self.percent == 0:
            return Traffic(stable=self.stable)
        return Traffic(stable=self.stable, canary=self.canary, canary_percent=self.percent)


class InferenceServiceRouter:
    """Splits the traffic between predictors of one InferenceService.

    `services` and `scalers`: the objects of the service's namespace; `ready_seconds`: how long a
    version may take until its first pod is ready.
    """

    def __init__(
        self,
        name: str,
        *,
        services: Resources,
        scalers: Resources,
        tallies: Tallies,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        self._name = name
        self._services = services
        self._scalers = scalers
        self._tallies = tallies
        self._ready_seconds = ready_seconds
        self._stretch: tuple[Traffic, str, float] | None = None
        """Traffic, name and beginning of the stretch that the tallies cover."""

    def read(self) -> Reading:
        """The traffic and the evidence since it was first seen in force.

        A controller that is started again begins a new stretch: what it knew of the last one is in
        the rollout's stored steps. Raises ServiceUnavailable.
        """
        traffic = _split(self._services.read(self._name)).traffic
        if traffic is None:
            return Reading(traffic=None, epoch="", tallies={})
        if self._stretch is None or self._stretch[0] != traffic:
            self._stretch = (traffic, uuid.uuid4().hex, self._tallies.now())
        _, epoch, began = self._stretch
        tallies = self._tallies.since(began, traffic.weights)
        return Reading(traffic=traffic, epoch=epoch, tallies=tallies)

    def write(self, traffic: Traffic) -> None:
        """Set the traffic; a version that is new takes none before it is ready.

        Raises VersionRefused when a version does not become ready (the old traffic stays),
        InvalidInput for a version that cannot be a name, and ServiceUnavailable.
        """
        before = _split(self._services.read(self._name))
        if traffic.canary is None and traffic.stable != before.stable:
            going = before.percent if before.canary == traffic.stable else 0
            self._start(replace(before, canary=traffic.stable, percent=going), before)
        if traffic.canary is None:
            self._set(_Split(stable=traffic.stable))
            self._tidy(traffic.stable)
            return
        if traffic.stable != before.stable:
            self.write(Traffic(stable=traffic.stable))
        wanted = _Split(
            stable=traffic.stable, canary=traffic.canary, percent=traffic.canary_percent
        )
        self._start(wanted, replace(before, stable=traffic.stable))

    def _start(self, wanted: _Split, before: _Split) -> None:
        """Set a split with a canary and wait until it is in force; else put `before` back."""
        self._set(wanted)
        for service in self._services.changes(self._name, self._ready_seconds):
            if _in_force(service, wanted):
                return
        self._set(before if before.canary != wanted.canary else _Split(stable=before.stable))
        raise VersionRefused(
            f"Version {wanted.canary} was not ready within {self._ready_seconds:g} s and takes no "
            f"traffic; read the events and logs of the pods of {self._name}-"
            f"{_predictor_name(wanted.canary or '')}-predictor."
        )

    def _set(self, wanted: _Split) -> None:
        """Write the split, again and again while others write the object too."""
        for _ in range(CONFLICTS):
            service = self._services.read(self._name)
            if _split(service) == wanted:
                return
            try:
                self._services.replace(_directed(service, wanted))
            except Conflict:
                continue
            return
        raise ServiceUnavailable(
            f"The InferenceService {self._name} changed {CONFLICTS} times while its traffic was "
            "being set; look who else writes it."
        )

    def _tidy(self, stable: str) -> None:
        """Delete the autoscalers of versions that are gone: KServe leaves them."""
        selector = f"serving.kserve.io/inferenceservice={self._name}"
        for scaler in self._scalers.names(selector):
            if scaler != f"{self._name}-{_predictor_name(stable)}-predictor":
                self._scalers.delete(scaler)


def _split(service: Resource) -> _Split:
    """The split that a service asks for."""
    spec = service["spec"]
    stable = _version(spec["predictor"])
    for entry in spec.get("canary", []):
        percent = entry.get("trafficPercent", 0)
        return _Split(stable=stable, canary=_version(entry["predictor"]), percent=percent)
    return _Split(stable=stable)


def _directed(service: Resource, wanted: _Split) -> Resource:
    """The service with the split asked for; all else as it was."""
    directed = deepcopy(service)
    spec = directed["spec"]
    spec.pop("canary", None)
    model = spec["predictor"]["model"]
    if wanted.stable is not None:
        spec["predictor"]["name"] = _predictor_name(wanted.stable)
        spec["predictor"]["model"] = _pinned(model, wanted.stable)
    if wanted.canary is not None:
        predictor: dict[str, Any] = {
            "name": _predictor_name(wanted.canary),
            "annotations": FIXED_REPLICAS,
            "labels": CANARY_LABELS,
            # As many as KServe allows, for it may soon have all of the traffic.
            "minReplicas": spec["predictor"].get("minReplicas") or 1,
            "model": _pinned(model, wanted.canary),
        }
        spec["canary"] = [{"trafficPercent": wanted.percent, "predictor": predictor}]
    return directed


def _in_force(service: Resource, wanted: _Split) -> bool:
    """Whether KServe has carried the split out: the canary is ready and has its share."""
    name = _predictor_name(wanted.canary or "")
    return any(
        status["name"] == name and status["ready"] and status["trafficPercent"] == wanted.percent
        for status in service.get("status", {}).get("canaryStatuses", [])
    )


def _version(predictor: Mapping[str, Any]) -> str | None:
    """The version that a predictor's servers are pinned to."""
    for variable in predictor.get("model", {}).get("env", []):
        if variable["name"] == MODEL_VERSION:
            return str(variable["value"])
    return None


def _pinned(model: Mapping[str, Any], version: str) -> dict[str, Any]:
    others = [one for one in model.get("env", []) if one["name"] != MODEL_VERSION]
    return {**deepcopy(dict(model)), "env": [*others, {"name": MODEL_VERSION, "value": version}]}


def _predictor_name(version: str) -> str:
    if not NAME.fullmatch(version):
        raise InvalidInput(
            f"Version {version!r} cannot be part of a Kubernetes name; register versions by "
            "lower-case letters, digits and hyphens, 32 at most."
        )
    return f"v{version}"
