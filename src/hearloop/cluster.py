"""Custom resources in a cluster: the Kubernetes API asked with patience and watched without gaps.

An API server is restarted, overloaded or cut off now and then. What may pass is tried again, with
longer and longer pauses, until `patience` is used up; what will not pass is said at once.

>>> jobs = Resources(Kind("trainer.kubeflow.org", "v1alpha1", "trainjobs"), "hearloop")
>>> for job in jobs.changes("retrain-5f2c"):  # doctest: +SKIP
...     print(job["status"])
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from hearloop.errors import ConfigurationError, Conflict, NotFound, ServiceUnavailable

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, ApiException

__all__ = ["Kind", "Resource", "Resources"]

Resource = dict[str, Any]
"""A custom resource as the API gives and takes it."""

PATIENCE_SECONDS: Final = 300.0
"""How long the API may stay away: an upgrade of a managed control plane takes a few minutes."""

PAUSE_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
"""Before the first repetition, the second and so on; the last for all that follow."""

CALL_SECONDS: Final = (5.0, 30.0)
"""Patience for a connection, and for an answer on it."""

WATCH_SECONDS: Final = 60
"""Length of one watch; then the object is read again, in case the watch missed something."""

WATCH_PAUSE_SECONDS: Final = 0.5
"""After a watch that broke: a server that refuses them is not asked all the time."""

TOO_OLD: Final = 410
"""HTTP status of a watch from a version that the API has forgotten."""

PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses that may be others the next time."""

_T = TypeVar("_T")


class Kind(NamedTuple):
    """A kind of custom resource."""

    group: str
    version: str
    plural: str


class Resources:
    """The objects of one kind in one namespace.

    `api`: the cluster that we run in, or kubectl's, unless given. Every method raises
    ServiceUnavailable when the API stays away for `patience` seconds, and ConfigurationError when
    it refuses: rights, a kind that is not installed, a field that it does not know.
    """

    def __init__(
        self,
        kind: Kind,
        namespace: str,
        *,
        api: "ApiClient | None" = None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._kind = kind
        self._namespace = namespace
        self._given = api
        self._patience = patience

    def read(self, name: str) -> Resource:
        """The object of that name. Raises NotFound."""
        return self._call("get", name=name, _request_timeout=CALL_SECONDS)

    def names(self, selector: str) -> list[str]:
        """Names of the objects whose labels the selector fits."""
        listed = self._call("list", label_selector=selector, _request_timeout=CALL_SECONDS)
        return [item["metadata"]["name"] for item in listed["items"]]

    def create(self, manifest: Resource) -> bool:
        """Create an object; False when one of its name is there.

        An answer that is lost is no harm: the repetition finds the object.
        """
        try:
            self._call("create", body=manifest, _request_timeout=CALL_SECONDS)
        except Conflict:
            return False
        return True

    def replace(self, resource: Resource) -> Resource:
        """Write an object that was read. Raises Conflict when it has changed since, NotFound."""
        name = resource["metadata"]["name"]
        return self._call("replace", name=name, body=resource, _request_timeout=CALL_SECONDS)

    def delete(self, name: str) -> None:
        """Delete an object; deleting what is not there is no error."""
        try:
            self._call("delete", name=name, _request_timeout=CALL_SECONDS)
        except NotFound:
            return

    def changes(self, name: str, seconds: float = float("inf")) -> Iterator[Resource]:
        """The object as it is, and again after each change, for so many seconds.

        A change that is followed by another at once may be left out; the newest state never is.
        Raises NotFound as soon as there is no such object.
        """
        end = time.monotonic() + seconds
        while True:
            resource = self.read(name)
            yield resource
            left = end - time.monotonic()
            if left <= 0:
                return
            yield from self._watch(resource, min(WATCH_SECONDS, left))

    def _watch(self, resource: Resource, seconds: float) -> Iterator[Resource]:
        """What changes after `resource` was read; a watch that breaks just ends early."""
        from kubernetes.client import ApiException
        from kubernetes.watch import Watch
        from urllib3.exceptions import HTTPError

        metadata = resource["metadata"]
        events = Watch().stream(
            self._method("list"),
            **self._place(),
            field_selector=f"metadata.name={metadata['name']}",
            resource_version=metadata["resourceVersion"],
            timeout_seconds=max(1, round(seconds)),
            _request_timeout=(CALL_SECONDS[0], seconds + CALL_SECONDS[1]),
        )
        try:
            with closing(events):
                for event in events:
                    if event["type"] == "DELETED":
                        return
                    yield event["object"]
        except ApiException as error:
            if error.status not in PASSING | {TOO_OLD}:
                raise self._refusal("watch", error) from error
            time.sleep(WATCH_PAUSE_SECONDS)
        except HTTPError:  # cut off: reading the object again shows what was missed
            time.sleep(WATCH_PAUSE_SECONDS)

    def _call(self, verb: str, **arguments: Any) -> Any:
        return self._patiently(lambda: self._method(verb)(**self._place(), **arguments), verb)

    def _method(self, verb: str) -> Callable[..., Any]:
        from kubernetes.client import CustomObjectsApi

        return getattr(CustomObjectsApi(self._api()), f"{verb}_namespaced_custom_object")

    def _place(self) -> dict[str, str]:
        return {**self._kind._asdict(), "namespace": self._namespace}

    def _api(self) -> "ApiClient":
        from kubernetes import client, config

        if self._given is None:
            try:
                config.load_config()
            except config.ConfigException as error:
                raise ConfigurationError(
                    f"No cluster is known to ask for {self._kind.plural}: {error}; run in a pod "
                    "with a service account, or name a kubeconfig in KUBECONFIG."
                ) from error
            self._given = client.ApiClient()
        return self._given

    def _patiently(self, call: Callable[[], _T], verb: str) -> _T:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        end = time.monotonic() + self._patience
        pauses = iter(PAUSE_SECONDS)
        while True:
            pause = next(pauses, PAUSE_SECONDS[-1])
            try:
                return call()
            except ApiException as error:
                if error.status not in PASSING:
                    raise self._refusal(verb, error) from error
                failure: Exception = error
                pause = max(pause, _asked_pause(error))
            except HTTPError as error:
                failure = error
            if time.monotonic() + pause > end:
                raise ServiceUnavailable(
                    f"The Kubernetes API did not {verb} {self._kind.plural} of "
                    f"{self._namespace} for {self._patience:g} s: {_brief(failure)}; check that "
                    "it answers `kubectl get --raw /readyz`."
                ) from failure
            time.sleep(pause)

    def _refusal(self, verb: str, error: "ApiException") -> Exception:
        what = f"{verb} {self._kind.plural} in namespace {self._namespace}"
        if error.status == 409:
            return Conflict(f"The Kubernetes API did not {what}: {_brief(error)}; read it again.")
        if error.status == 404:
            return NotFound(
                f"The Kubernetes API found nothing to {what}: {_brief(error)}; check the name, and "
                f"that {self._kind.group} is installed."
            )
        return ConfigurationError(
            f"The Kubernetes API refused to {what} ({error.status}): {_brief(error)}; check the "
            "rights of our service account and the version of the kind."
        )


def _asked_pause(error: "ApiException") -> float:
    """Seconds that an overloaded server asks us to wait; 0 when it names none."""
    asked = (error.headers or {}).get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0


def _brief(error: Exception) -> str:
    """The API's own sentence, else what the connection had to say."""
    try:
        return str(json.loads(getattr(error, "body", "") or "")["message"])
    except (ValueError, KeyError, TypeError):
        return getattr(error, "reason", None) or str(error) or type(error).__name__
