"""Object storage over the S3 protocol: SeaweedFS here, AWS S3 or any other by settings.

>>> objects = S3Objects(settings)
>>> objects.create("s3://hearloop-snapshots/manifest.json", b"{}")
True
>>> objects.create("s3://hearloop-snapshots/manifest.json", b"{}")
False
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from hearloop.config import Settings
from hearloop.errors import ConfigurationError, NotFound, ServiceUnavailable

__all__ = ["S3Objects", "split_uri"]

ATTEMPTS = 5
"""Tries of one request, the first included: botocore waits up to 20 s between them."""

CONNECT_SECONDS = 3.0
READ_SECONDS = 30.0

CONFLICT_SECONDS = 0.2
"""Before a conditional write that met another is tried again, times the tries so far."""

CONNECTIONS = 32
"""Kept-alive connections: as many as the threads of the widest parallel upload."""

WRITER = "hearloop-writer"
"""Metadata key that tells a creator whether the object it finds is its own."""

REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"}
MISSING = {"NoSuchKey", "NoSuchBucket", "404"}
EXISTS = {"PreconditionFailed", "412"}
UNDECIDED = {"ConditionalRequestConflict", "409"}
"""S3's answer while another conditional write of the same key is under way: ask again."""


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an `s3://bucket/key` URI; the key may be empty.

    Raises ConfigurationError for any other scheme or an empty bucket.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ConfigurationError(f"{uri!r} is no object URI; write it as s3://bucket/key.")
    return bucket, key


class S3Objects:
    """An ObjectStore over boto3; safe to share between threads.

    Requests that fail for a passing reason are tried again by botocore. What is left raises
    NotFound, ConfigurationError (credentials refused) or ServiceUnavailable.
    """

    def __init__(self, settings: Settings) -> None:
        s3 = settings.s3
        self._endpoint = s3.endpoint_url or f"AWS S3 in {s3.region}"
        self._key_id = s3.access_key_id
        self._region = s3.region
        self._client = boto3.client(
            "s3",
            endpoint_url=s3.endpoint_url or None,
            region_name=s3.region,
            aws_access_key_id=s3.access_key_id or None,
            aws_secret_access_key=s3.secret_access_key.get_secret_value() or None,
            config=Config(
                retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                max_pool_connections=CONNECTIONS,
                s3={"addressing_style": "path" if s3.endpoint_url else "auto"},
            ),
        )

    def put(self, uri: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Write `body`, replacing what was there."""
        bucket, key = split_uri(uri)
        with self._errors(uri):
            self._client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)

    def create(
        self, uri: str, body: bytes, *, content_type: str = "application/octet-stream"
    ) -> bool:
        """Write `body` unless the object exists. Returns whether this call wrote it.

        The answer is right even when the store commits, its answer is lost and the request is
        tried again: the object carries the name of its writer.
        """
        bucket, key = split_uri(uri)
        writer = uuid.uuid4().hex
        request = {"Bucket": bucket, "Key": key, "Body": body, "ContentType": content_type}
        with self._errors(uri):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self._client.put_object(**request, Metadata={WRITER: writer}, IfNoneMatch="*")
                    return True
                except ClientError as error:
                    if _code(error) in EXISTS:
                        break
                    if _code(error) not in UNDECIDED or attempt == ATTEMPTS:
                        raise
                    time.sleep(CONFLICT_SECONDS * attempt)
            found = self._client.head_object(Bucket=bucket, Key=key)
            return found["Metadata"].get(WRITER) == writer

    def get(self, uri: str) -> bytes:
        """Read an object. Raises NotFound."""
        bucket, key = split_uri(uri)
        with self._errors(uri):
            return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def exists(self, uri: str) -> bool:
        """Whether an object is stored under `uri`."""
        bucket, key = split_uri(uri)
        try:
            with self._errors(uri):
                self._client.head_object(Bucket=bucket, Key=key)
        except NotFound:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """URIs of the objects whose URI begins with `prefix`, in key order."""
        bucket, key = split_uri(prefix)
        with self._errors(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=key
            ):
                for item in page.get("Contents", []):
                    yield f"s3://{bucket}/{item['Key']}"

    def delete(self, uri: str) -> None:
        """Remove an object; removing what is not there is no error."""
        bucket, key = split_uri(uri)
        with self._errors(uri):
            self._client.delete_object(Bucket=bucket, Key=key)

    def erase(self, uri: str) -> None:
        """Remove an object for good, with every older version of it that the bucket kept."""
        bucket, key = split_uri(uri)
        self.delete(uri)  # all that there is to do where a bucket keeps no versions
        with self._errors(uri):
            pages = self._client.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=bucket, Prefix=key):
                for one in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
                    if one["Key"] == key:
                        self._client.delete_object(
                            Bucket=bucket, Key=key, VersionId=one["VersionId"]
                        )

    def create_bucket(self, bucket: str) -> None:
        """Make a bucket unless it is there and ours."""
        with self._errors(f"s3://{bucket}"):
            try:
                if self._region == "us-east-1":  # S3 refuses it as a LocationConstraint
                    self._client.create_bucket(Bucket=bucket)
                else:
                    self._client.create_bucket(
                        Bucket=bucket,
                        CreateBucketConfiguration={"LocationConstraint": self._region},
                    )
            except ClientError as error:
                if _code(error) not in {"BucketAlreadyExists", "BucketAlreadyOwnedByYou"}:
                    raise
                self._client.head_bucket(Bucket=bucket)

    @contextmanager
    def _errors(self, uri: str) -> Iterator[None]:
        """Turn botocore's errors into Hearloop's."""
        try:
            yield
        except ClientError as error:
            raise self._translated(uri, error) from error
        except NoCredentialsError as error:
            raise ConfigurationError(
                f"No credentials for {self._endpoint}; set HEARLOOP_S3__ACCESS_KEY_ID and "
                "HEARLOOP_S3__SECRET_ACCESS_KEY."
            ) from error
        except BotoCoreError as error:
            raise ServiceUnavailable(
                f"Object storage at {self._endpoint} did not answer for {uri}: {error}; "
                "check that it runs (`hearloop status`)."
            ) from error

    def _translated(self, uri: str, error: ClientError) -> Exception:
        code = _code(error)
        if code in MISSING:
            return NotFound(f"Nothing is stored at {uri} ({code} from {self._endpoint}).")
        if code in REFUSED:
            return ConfigurationError(
                f"Object storage at {self._endpoint} refused the access key {self._key_id!r} "
                f"for {uri} ({code}); check HEARLOOP_S3__ACCESS_KEY_ID and "
                "HEARLOOP_S3__SECRET_ACCESS_KEY."
            )
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        if status < 500 and code not in UNDECIDED:
            return ConfigurationError(
                f"Object storage at {self._endpoint} rejected the request for {uri}: {error}; "
                "check the bucket's name and the settings under HEARLOOP_S3__."
            )
        return ServiceUnavailable(
            f"Object storage at {self._endpoint} failed for {uri}: {error}; try again later."
        )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
