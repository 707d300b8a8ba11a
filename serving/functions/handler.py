"""The AWS Lambda function `serving.functions.handler.handle`: transcribes what lands in a bucket.

Settings come from HEARLOOP_* variables: where the objects are (an empty endpoint is AWS, with the
function's own role), where the model server is, and the token that it asks for or the secret of AWS
that holds it.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import boto3
import httpx
from botocore.exceptions import BotoCoreError, ClientError

from hearloop import composition
from hearloop.config import Settings
from hearloop.errors import HearloopError, ServiceUnavailable
from serving.functions.events import Message, landed, messages
from serving.functions.transcription import Transcription

__all__ = ["TOKEN_SECRET", "handle"]

TOKEN_SECRET = "HEARLOOP_SERVING_TOKEN_SECRET"
"""Variable with the ARN of a secret in AWS Secrets Manager whose field `token` is the server's: a
reference, so that no configuration and no state of Terraform holds the token."""

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 100.0
"""An hour of speech takes the server less; the function itself has 120 s."""

log = logging.getLogger(__name__)


def handle(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Transcribe the objects of one event; says how many of them came to what.

    Of SQS messages the ones that have to come again are named in `batchItemFailures`; an event
    that came straight raises ServiceUnavailable or InvalidInput, and Lambda delivers it again.
    """
    transcription = _transcription()
    outcomes: Counter[str] = Counter()
    failures: list[dict[str, str]] = []
    for message in messages(event):
        try:
            outcomes.update(_outcomes(message, transcription))
        except HearloopError as error:
            if message.id is None:
                _forget()
                raise
            log.warning("Message %s has to come again: %s", message.id, error)
            failures.append({"itemIdentifier": message.id})
    if failures:
        _forget()
    log.info("%s, %d to come again", dict(outcomes), len(failures))
    return {"batchItemFailures": failures, "outcomes": dict(outcomes)}


def _outcomes(message: Message, transcription: Transcription) -> Sequence[str]:
    """What each object of a message came to. One that fails does not hold up the others."""
    done: list[str] = []
    failed: list[HearloopError] = []
    for one in landed(message):
        try:
            done.append(transcription.of(one))
        except ServiceUnavailable as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return done


@cache
def _transcription() -> Transcription:
    """One for the life of the process: its connections are kept between invocations."""
    logging.getLogger("serving").setLevel(logging.INFO)  # the runtime brings the handler
    settings = Settings()
    token = _token(settings)
    server = httpx.Client(
        base_url=settings.serving_url,
        headers={"authorization": f"Bearer {token}"} if token else {},
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
    )
    return Transcription(composition.objects(settings), server)


def _forget() -> None:
    """Close the connections; the next event asks for the token again: it may be a new one."""
    if _transcription.cache_info().currsize:
        _transcription().close()
        _transcription.cache_clear()


def _token(settings: Settings) -> str:
    """The model server's token, by reference where one is given. Raises ServiceUnavailable."""
    secret = os.environ.get(TOKEN_SECRET)
    if not secret:
        return settings.serving_token.get_secret_value()
    try:
        held = boto3.client("secretsmanager").get_secret_value(SecretId=secret)
        return str(json.loads(held["SecretString"])["token"])
    except (BotoCoreError, ClientError, ValueError, KeyError) as error:
        raise ServiceUnavailable(
            f"The token of the model server could not be read from the secret {secret}: {error}; "
            'put {"token": "…"} into it, and let the function read it.'
        ) from error
