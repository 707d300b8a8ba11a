"""KServe's webhook and controller for one InferenceService, over the API server of the tests."""

import threading
from typing import Any

from hearloop.rollout import Tally
from hearloop.rollout.inference_service import MODEL_VERSION
from tests.integration.kubernetes_api import KubernetesApi, Refused, Resource

SERVICE = ("inferenceservices", "hearloop")


class KServe:
    """KServe's webhook and controller for one service, as kserve v0.20 and later do it.

    `broken` are versions whose pods never become ready. `shown` are the weights that callers get,
    one entry for each time that they change.
    """

    def __init__(self, api: KubernetesApi) -> None:
        self.api = api
        self.broken: set[str] = set()
        self.shown: list[dict[str, int]] = []
        api.store.admit = self.admit
        self._thread = threading.Thread(target=self._reconcile)
        self._thread.start()

    def stop(self) -> None:
        self._thread.join()

    @staticmethod
    def admit(service: Resource) -> None:
        """The rules of validateCanarySpecs (inference_service_validation.go)."""
        if service["kind"] != "InferenceService":
            return
        predictor, canaries = service["spec"]["predictor"], service["spec"].get("canary", [])
        names = [predictor.get("name"), *(one["predictor"]["name"] for one in canaries)]
        wrong = (
            len(set(names)) < len(names)
            or sum(one["trafficPercent"] for one in canaries) > 100
            or any({"maxReplicas", "autoScaling"} & one["predictor"].keys() for one in canaries)
            or any(
                one["predictor"]["minReplicas"] > predictor.get("minReplicas", 1)
                or "name" not in one["predictor"]["model"]
                for one in canaries
            )
        )
        if wrong:
            raise Refused(422, "Invalid", "admission webhook denied the request")

    def _reconcile(self) -> None:
        store, seen = self.api.store, 0
        while True:
            with store.changed:
                while not self.api.ending and seen == store.version:
                    store.changed.wait()
                if self.api.ending:
                    return
                seen = store.version
                if SERVICE in store.objects:
                    self._carry_out(store.objects[SERVICE]["spec"])

    def _carry_out(self, spec: Resource) -> None:
        weights = {_pinned(spec["predictor"]): 100}
        statuses = []
        for canary in spec.get("canary", []):
            version, percent = _pinned(canary["predictor"]), canary["trafficPercent"]
            ready = version not in self.broken
            statuses.append(
                {"name": canary["predictor"]["name"], "ready": ready, "trafficPercent": percent}
            )
            if ready and percent:
                weights = {_pinned(spec["predictor"]): 100 - percent, version: percent}
        if not self.shown or self.shown[-1] != weights:
            self.shown.append(weights)
        there = self.api.store.objects[SERVICE].get("status", {})
        if there.get("canaryStatuses") != statuses:
            self.api.store.set_status(SERVICE, canaryStatuses=statuses)


def _pinned(predictor: Resource) -> str:
    environment = predictor["model"].get("env", [])
    return next((one["value"] for one in environment if one["name"] == MODEL_VERSION), "")


class Counted:
    """Evidence that stands for itself: what was asked, and one tally for every version."""

    def __init__(self) -> None:
        self.clock = 100.0
        self.asked: list[tuple[float, tuple[str, ...]]] = []

    def now(self) -> float:
        return self.clock

    def since(self, moment: float, versions: Any) -> dict[str, Tally]:
        self.asked.append((moment, tuple(versions)))
        return {version: Tally(requests=1, calls=1) for version in self.asked[-1][1]}
