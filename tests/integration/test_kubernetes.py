"""The client side of the cluster, through the official client, against an API server that fails."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from hearloop.cluster import Kind, Resources
from hearloop.errors import ConfigurationError, Conflict, NotFound, ServiceUnavailable
from tests.integration.kubernetes_api import KubernetesApi, Refused, kubernetes_api

KIND = Kind("example.com", "v1", "widgets")
KEY = ("widgets", "one")
PATIENCE_SECONDS = 30.0


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with kubernetes_api() as server:
        yield server


@pytest.fixture
def widgets(api: KubernetesApi) -> Resources:
    return Resources(KIND, "hearloop", api=api.client())


def widget(colour: str = "red") -> dict[str, object]:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "one", "labels": {"of": "ours"}},
        "spec": {"colour": colour},
    }


def meanwhile(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_objects_are_made_once_read_listed_replaced_and_deleted(widgets: Resources) -> None:
    assert widgets.create(widget())
    assert not widgets.create(widget("blue"))
    read = widgets.read("one")
    assert read["spec"] == {"colour": "red"}
    widgets.replace({**read, "spec": {"colour": "green"}})
    with pytest.raises(Conflict, match="modified"):
        widgets.replace({**read, "spec": {"colour": "late"}})
    assert widgets.read("one")["spec"] == {"colour": "green"}
    assert (widgets.names("of=ours"), widgets.names("of=others")) == (["one"], [])
    widgets.delete("one")
    widgets.delete("one")
    with pytest.raises(NotFound, match='"one" not found'):
        widgets.read("one")


@pytest.mark.parametrize("fault", ["500", "503", "429", "cut"])
@pytest.mark.parametrize("verb", ["get", "create", "replace", "delete", "list"])
def test_what_passes_is_tried_again(
    api: KubernetesApi, widgets: Resources, verb: str, fault: str
) -> None:
    if verb != "create":
        widgets.create(widget())
    api.fail(verb, *[fault] * (1 if fault == "429" else 3))
    if verb == "create":
        assert widgets.create(widget())
    elif verb == "replace":
        widgets.replace({**widgets.read("one"), "spec": {"colour": "green"}})
        assert widgets.read("one")["spec"] == {"colour": "green"}
    elif verb == "delete":
        widgets.delete("one")
        assert widgets.names("of=ours") == []
    else:
        assert widgets.read("one")["spec"] == {"colour": "red"}
        assert widgets.names("of=ours") == ["one"]


def test_a_creation_whose_answer_is_lost_happens_once(
    api: KubernetesApi, widgets: Resources
) -> None:
    api.fail("create", "lost")
    assert not widgets.create(widget())  # it is there: whoever made it
    assert widgets.read("one")["metadata"]["generation"] == 1


def test_an_api_that_stays_away_is_named(api: KubernetesApi) -> None:
    api.fail("get", *["500"] * 50)
    widgets = Resources(KIND, "hearloop", api=api.client(), patience=0.5)
    with pytest.raises(ServiceUnavailable, match=r"widgets of hearloop for 0\.5 s: etcd is away"):
        widgets.read("one")


def test_what_is_refused_is_said_at_once(api: KubernetesApi, widgets: Resources) -> None:
    def forbid(_: object) -> None:
        raise Refused(403, "Forbidden", "user cannot create widgets")

    api.store.admit = forbid
    with pytest.raises(ConfigurationError, match=r"refused .*create.* user cannot create widgets"):
        widgets.create(widget())
    assert api.calls["create"] == 1


def test_changes_come_as_they_happen(api: KubernetesApi, widgets: Resources) -> None:
    widgets.create(widget())
    seen = widgets.changes("one")
    assert next(seen)["spec"] == {"colour": "red"}
    thread = meanwhile(lambda: api.store.set_status(KEY, phase="Running"))
    assert next(seen)["status"] == {"phase": "Running"}
    thread.join()
    assert api.calls["get"] == 1, "the watch told it, not a second reading"
    seen.close()


@pytest.mark.parametrize("fault", ["500", "cut", "expired", "broken"])
def test_a_watch_that_breaks_misses_nothing(
    api: KubernetesApi, widgets: Resources, fault: str
) -> None:
    widgets.create(widget())
    api.fail("watch", fault, fault)
    seen = widgets.changes("one")
    next(seen)
    api.store.set_status(KEY, phase="Complete")
    end = time.monotonic() + PATIENCE_SECONDS
    for resource in seen:
        assert time.monotonic() < end, "the change never came"
        if resource.get("status") == {"phase": "Complete"}:
            break
    seen.close()


def test_a_watch_ends_in_time_and_with_its_object(api: KubernetesApi, widgets: Resources) -> None:
    widgets.create(widget())
    began = time.monotonic()
    assert list(widgets.changes("one", seconds=1.0))
    assert time.monotonic() - began < PATIENCE_SECONDS
    seen = widgets.changes("one")
    next(seen)
    thread = meanwhile(lambda: api.store.delete(KEY))
    with pytest.raises(NotFound):
        for _ in seen:
            pass
    thread.join()


def test_a_watch_that_is_refused_says_so(api: KubernetesApi, widgets: Resources) -> None:
    widgets.create(widget())
    api.fail("watch", "403")
    with pytest.raises(ConfigurationError, match="watch widgets"):
        list(widgets.changes("one"))
