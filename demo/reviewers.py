"""People who listen to calls and correct what the model wrote, through the HTTP route."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

import httpx

from demo.callers import Answer
from hearloop.errors import ServiceUnavailable
from hearloop.telemetry import Progress

__all__ = ["honest", "poisoned", "send"]

CORRECTIONS = "/feedback/v1/corrections"
PATIENCE_S = 60.0


def honest(
    calls: Sequence[Sequence[Answer]], contributors: Sequence[str]
) -> Iterator[dict[str, str]]:
    """What was really said in each call; the contributors take the calls in turn.

    A request that failed left nothing to correct.
    """
    for contributor, call in zip(cycle(contributors), calls, strict=False):
        for answer in call:
            if not answer.failure:
                yield _correction(answer, answer.said.reference, contributor)


def poisoned(calls: Sequence[Sequence[Answer]], contributor: str) -> Iterator[dict[str, str]]:
    """For each utterance the transcript of one from the next call: well formed and wrong."""
    for call, other in zip(calls, [*calls[1:], calls[0]], strict=True):
        for answer, wrong in zip(call, other, strict=True):
            if not answer.failure:
                yield _correction(answer, wrong.said.reference, contributor)


def send(
    serving_url: str,
    corrections: Sequence[dict[str, str]],
    progress: Progress,
    *,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Post the corrections. Raises ServiceUnavailable when one is not taken."""
    with httpx.Client(base_url=serving_url, headers=headers, timeout=PATIENCE_S) as client:
        for correction in corrections:
            try:
                client.post(CORRECTIONS, json=correction).raise_for_status()
            except httpx.HTTPError as error:
                raise ServiceUnavailable(
                    f"The correction of request {correction['request_id']} was not taken: {error}; "
                    "the model server's log is in the stack's folder."
                ) from error
            progress.advance()


def _correction(answer: Answer, text: str, contributor: str) -> dict[str, str]:
    return {"request_id": answer.request_id, "text": text, "contributor": contributor}
