"""Files of DVC's cache in an S3-compatible store, laid out as DVC's own remotes are, so that `dvc pull` with `dvc[s3]` gets them.

DVC's plug-in for S3 holds boto3 back to older versions, so what tasks need of it is here: to push. Keys and the store's address
are those of every AWS client: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from symbol_llm.ground.errors import InvalidInput, MissingDependency, SymbolLLMError, Unavailable

LAYOUT = "files/md5"
"""Where a remote of DVC 3 has its files, by the first two and the other digits of their MD5."""
REFUSED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "403", "401"})


def ask(remote: Mapping[str, Any]) -> None:
    """Ask the store of `remote` for a list, as `push` begins; raises what `push` would."""
    with _answering(remote) as (client, bucket, prefix):
        client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)


def push(cache: Path, md5: str, remote: Mapping[str, Any]) -> int:
    """Put the directory `md5` of the `cache`, and each of its files, into `remote`; return how many it did not have.

    What is there is not sent again, and the list of the files goes last, so a push that was killed is completed by the next.
    """
    listed = json.loads(_file(cache, md5).read_text()) if md5.endswith(".dir") else []
    n_sent = 0
    with _answering(remote) as (client, bucket, prefix):
        for name in [*sorted({one["md5"] for one in listed}), md5]:
            key = f"{prefix}{name[:2]}/{name[2:]}"
            found = client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", ())
            if not any(one["Key"] == key for one in found):
                client.upload_file(str(_file(cache, name)), bucket, key)
                n_sent += 1
    return n_sent


@contextlib.contextmanager
def _answering(remote: Mapping[str, Any]) -> Iterator[tuple[Any, str, str]]:
    """Give a client, the bucket and where the files lie in it; what the store answers in the block is said in our words."""
    try:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as e:
        raise MissingDependency("boto3 is not installed: pip install 'symbol-llm[versions]'") from e

    address = urlsplit(remote["url"])
    bucket, prefix = address.netloc, f"{address.path}/{LAYOUT}/".replace("//", "/").lstrip("/")
    try:
        yield _client(remote), bucket, prefix
    except (BotoCoreError, Boto3Error, ClientError) as e:
        raise _failure(e, remote["url"], bucket) from e


def _file(cache: Path, md5: str) -> Path:
    return cache / md5[:2] / md5[2:]


def _client(remote: Mapping[str, Any]) -> Any:
    """Return a client of the store, where DVC would look for it: what the remote's section says comes first."""
    import boto3
    from botocore.config import Config

    session = boto3.Session(profile_name=remote.get("profile"), region_name=remote.get("region"))
    settings = Config(connect_timeout=10, read_timeout=60, retries={"max_attempts": 3, "mode": "standard"})
    return session.client("s3", endpoint_url=remote.get("endpointurl"), config=settings)


def _failure(error: Exception, url: str, bucket: str) -> SymbolLLMError:
    """Return what `error` of boto3 means for whoever has to mend it."""
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    name, said = type(error).__name__, " ".join(str(error).split())
    if code in ("NoSuchBucket", "404"):
        return InvalidInput(f"DVC remote {url}: there is no bucket {bucket!r}; make it, or mend the remote's address")
    if code in REFUSED or "Credentials" in name or any(word in said for word in REFUSED if word.isalpha()):
        return InvalidInput(
            f"DVC remote {url}: the store refuses the keys; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY have to be those of a "
            f"user who may list, read and write there ({said})"
        )
    return Unavailable(
        f"DVC remote {url}: the store does not take it; check AWS_ENDPOINT_URL, and that a NetworkPolicy lets the task reach it ({said})"
    )
