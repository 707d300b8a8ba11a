"""Where the function finds the model server's token."""

import json

import boto3
import pytest
from moto import mock_aws

from hearloop.config import Settings
from hearloop.errors import ServiceUnavailable
from serving.functions import handler

REGION = "eu-central-1"


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "moto")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "moto")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


def kept(value: str) -> str:
    """The ARN of a secret with a value."""
    made = boto3.client("secretsmanager").create_secret(Name="ingest", SecretString=value)
    return str(made["ARN"])


@mock_aws
def test_the_token_is_read_from_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    arn = kept(json.dumps({"token": "from-the-identity-provider"}))
    monkeypatch.setenv(handler.TOKEN_SECRET, arn)
    assert handler._token(Settings()) == "from-the-identity-provider"


@mock_aws
def test_without_a_secret_it_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(handler.TOKEN_SECRET, raising=False)
    monkeypatch.setenv("HEARLOOP_SERVING_TOKEN", "static")
    assert handler._token(Settings()) == "static"


@mock_aws
@pytest.mark.parametrize("value", ["not json", "{}"])
def test_a_secret_without_a_token_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    arn = kept(value)
    monkeypatch.setenv(handler.TOKEN_SECRET, arn)
    with pytest.raises(ServiceUnavailable, match=arn):
        handler._token(Settings())


@mock_aws
def test_a_secret_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(handler.TOKEN_SECRET, "gone")
    with pytest.raises(ServiceUnavailable, match="gone"):
        handler._token(Settings())
