"""Terraform as a process, and AWS as moto serves it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

REGION = "eu-central-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "moto", "AWS_SECRET_ACCESS_KEY": "moto"}

QUICK_TO_GIVE_UP = {
    "CHECKPOINT_DISABLE": "1",
    "TF_IN_AUTOMATION": "1",
    "TF_REGISTRY_CLIENT_TIMEOUT": "10",
    "TF_REGISTRY_DISCOVERY_RETRY": "0",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "3",  # what moto lacks is not there at the 25th attempt either
}

MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
"""Serves until its standard input closes: it cannot outlive the test."""

Done = subprocess.CompletedProcess[str]


def run(folder: Path, *arguments: str, **environment: str) -> Done:
    """Run Terraform in a folder."""
    require()
    return subprocess.run(
        ["terraform", *arguments],
        cwd=folder,
        env=os.environ | QUICK_TO_GIVE_UP | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def succeed(folder: Path, *arguments: str, **environment: str) -> str:
    """Run Terraform, which must succeed, and return what it printed."""
    done = run(folder, *arguments, **environment)
    assert done.returncode == 0, f"terraform {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def initialise(folder: Path, *arguments: str, **environment: str) -> None:
    """`terraform init`; skips the test where the provider is neither mirrored nor to be had."""
    done = run(folder, "init", "-input=false", "-no-color", *arguments, **environment)
    if "Failed to query available provider packages" in done.stderr:
        pytest.skip("the AWS provider is neither in a mirror nor to be downloaded")
    assert done.returncode == 0, done.stdout + done.stderr


def require() -> None:
    """Skip, in one line, where Terraform is not installed."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")


@contextmanager
def moto() -> Iterator[str]:
    """A moto server of its own; yields its address."""
    server = subprocess.Popen(
        [sys.executable, "-c", MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        lines = iter(server.stdout.readline, "")
        port = next(line for line in lines if line.strip().isdigit()).strip()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stdin.close()
        server.stdout.close()
        server.wait(timeout=30)


def to_moto(address: str) -> dict[str, str]:
    """The environment of a Terraform that takes moto for AWS."""
    return CREDENTIALS | {"AWS_ENDPOINT_URL": address, "AWS_REGION": REGION}


def client(service: str, address: str, region: str = REGION) -> Any:
    """A boto3 client of a service of moto."""
    make: Any = boto3.client  # its overloads want the name of the service spelt out
    return make(
        service,
        endpoint_url=address,
        region_name=region,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def wait_until(true: Any, seconds: float, what: str) -> None:
    """Wait for a condition, and fail when it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.2)
