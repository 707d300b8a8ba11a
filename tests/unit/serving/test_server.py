import subprocess
import sys
from typing import Any

import pytest

from serving import boundary
from tests.unit.serving.assembled import (
    FILE,
    FLAC,
    LARGEST,
    LARGEST_FILE,
    TRAFFIC,
    V1,
    V2,
    Server,
    instance,
    refusal,
    tensor,
)

pytestmark = pytest.mark.filterwarnings("ignore:ORJSONResponse is deprecated")  # KServe uses it


def test_other_content_types_are_415(serving: Server) -> None:
    for route in (V1, FILE):
        answer = serving.client.post(route, content=FLAC, headers={"content-type": "audio/flac"})
        assert answer.status_code == 415
        assert "audio/flac" in refusal(answer)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("route", [V1, V2, FILE, TRAFFIC])
def test_bodies_beyond_the_bound_are_413(serving: Server, route: str, chunked: bool) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    most = LARGEST_FILE if route == FILE and not chunked else LARGEST
    body = part + b"x" * most
    content: Any = iter([body[:most], body[most:]]) if chunked else body
    method = "PUT" if route == TRAFFIC else "POST"
    headers = {"content-type": "multipart/form-data; boundary=x" if route == FILE else "text/json"}
    answer = serving.client.request(method, route, content=content, headers=headers)
    assert answer.status_code == 413
    assert str(most) in refusal(answer)
    assert serving.client.post(FILE, files={"file": FLAC}).status_code == 200


def test_a_name_that_is_no_key_is_refused_everywhere(serving: Server) -> None:
    answer = serving.client.post(FILE, files={"file": FLAC}, headers={"x-hearloop-call": "../x"})
    assert answer.status_code == 400
    assert "x-hearloop-call" in refusal(answer)


def test_every_answer_has_a_request_id(server: Server) -> None:
    for path in ("/", "/nothing", "/v2/models/hearloop/ready", TRAFFIC):
        assert server.client.get(path).headers["x-request-id"]


def test_without_a_model_everything_is_503_and_says_why(server: Server) -> None:
    body = {"instances": [instance()]}
    answers = [
        server.client.post(V1, json=body),
        server.client.post(V2, json=tensor()),
        server.client.post(FILE, files={"file": FLAC}),
    ]
    for answer in answers:
        assert answer.status_code == 503
        assert refusal(answer).startswith("No model is in service yet")
    assert server.client.get("/v2/health/live").json() == {"live": True}
    assert server.client.get("/v1/models/hearloop").status_code == 503
    assert server.client.get(TRAFFIC).json()["traffic"] is None


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_nobody_unloads_the_model_by_kserve_s_routes(serving: Server, verb: str) -> None:
    answer = serving.client.post(f"/v2/repository/models/hearloop/{verb}")
    assert answer.status_code == 409
    assert TRAFFIC in refusal(answer)
    assert serving.client.post(FILE, files={"file": FLAC}).status_code == 200


def test_an_unknown_model_is_404(serving: Server) -> None:
    answer = serving.client.post("/v1/models/other:predict", json={"instances": [instance()]})
    assert answer.status_code == 404


def test_metrics_tell_versions_and_outcomes(serving: Server) -> None:
    serving.client.post(FILE, files={"file": FLAC})
    serving.client.post(FILE, files={"file": b"no sound"})
    metrics = serving.client.get("/metrics").text
    assert 'hearloop_requests_total{outcome="answered",version="1"}' in metrics
    assert 'hearloop_requests_total{outcome="refused",version=""}' in metrics
    assert 'hearloop_latency_seconds_count{version="1"}' in metrics
    assert "request_predict_seconds" in metrics


def test_the_server_loads_neither_torch_nor_lhotse() -> None:
    code = (
        "import sys, serving.__main__;"
        "print([name for name in ('torch', 'lhotse', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_a_body_that_is_much_too_large_is_refused_while_it_is_still_sent(serving: Server) -> None:
    for _ in range(5):
        answer = serving.client.post(FILE, files={"file": bytes(3 * LARGEST)})
        assert answer.status_code == 413
        assert refusal(answer).startswith("The body has")


def test_so_many_long_recordings_are_taken_in_at_once(
    serving: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boundary, "MOST_LARGE", 0)
    answer = serving.client.post(FILE, files={"file": bytes(LARGEST + 1)})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert "long recordings" in refusal(answer)
    assert serving.client.post(FILE, files={"file": FLAC}).status_code == 200
