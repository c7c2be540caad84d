"""Finds the data sets that a reference names. It reads no row (`tasks/`) and finds no weights (`engines/weights.py`).

path/to/folder                               holds <group>/<data set>/{train,test}.jsonl
hf://datasets/org/name@revision              a data set repository of the Hugging Face hub that holds the same, downloaded once
path/to/file.jsonl                           holds rows of many tasks, see `symbolic_collection.py`
hf://datasets/org/name@revision/file.jsonl   a file of a repository that holds the same; no other file is downloaded
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from symbol_llm.ground import outputs
from symbol_llm.ground.errors import InvalidInput, MissingDependency, Unavailable

HUB = "hf:"
HUB_PATTERNS = ("*.jsonl", "*.json", "*.sqlite")
REFERENCE = re.compile(r"(?://)?datasets/([^/@]+/[^/@]+)(?:@(?P<revision>[^@]*?)(?:/(?P<file>[^/@]+\.jsonl))?)?")
LAYOUT = "expected <group>/<data set>/train.jsonl and test.jsonl in it"


class Source(NamedTuple):
    """A folder of data sets, or a file of many, and the reference to its exact content: for a repository, with the commit."""

    place: Path
    reference: Path | str


def find(reference: Path | str) -> Source:
    """Return what `reference` names, downloaded if needed; without a revision, in the hub's latest state.

    InvalidInput if there is no such folder or file or the reference is malformed, Unavailable if the hub cannot be asked and the
    revision was not downloaded before, MissingDependency without huggingface_hub.
    """
    if str(reference).startswith(HUB):
        return _from_hub(str(reference))
    place = Path(reference)
    if not (place.is_dir() or (place.is_file() and place.suffix == ".jsonl")):
        raise InvalidInput(f"{place}: no such folder; {LAYOUT}, or a file named *.jsonl")
    return Source(place, reference)


def _from_hub(reference: str) -> Source:
    if (named := REFERENCE.fullmatch(reference.removeprefix(HUB))) is None:
        raise InvalidInput(
            f"source {reference!r}: expected hf://datasets/org/name@revision, with /file.jsonl for one of its files, or a folder"
        )
    repository, file = named[1], named["file"]
    folder = _downloaded(reference, repository, named["revision"] or "", [file] if file else HUB_PATTERNS)
    exact = f"hf://datasets/{repository}@{folder.name}"
    if file:
        if not (folder / file).is_file():
            raise InvalidInput(f"source {reference!r}: the repository has no such file")
        return Source(folder / file, f"{exact}/{file}")
    if not any(folder.glob("*/*/*.jsonl")):
        flat = sorted(path.name for path in folder.glob("*.jsonl"))
        raise InvalidInput(
            f"source {reference!r}: the repository has another layout; {LAYOUT}"
            + (f", or name one of its files, such as {exact}/{flat[0]}" if flat else "")
        )
    return Source(folder, exact)


def _downloaded(reference: str, repository: str, revision: str, patterns: Sequence[str]) -> Path:
    """Return the snapshot, a folder named by its commit. A commit that is already here is not requested again."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, HTTPError
    except ModuleNotFoundError as e:
        raise MissingDependency(f"source {reference!r} needs {e.name}: pip install 'symbol-llm[model]'") from e
    try:
        return Path(
            snapshot_download(
                repository,
                repo_type="dataset",
                revision=revision or None,
                allow_patterns=list(patterns),
                cache_dir=outputs.state_dir() / "sources",
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        )
    except HFValidationError as e:
        raise InvalidInput(f"source {reference!r}: {str(e).splitlines()[0]}") from e
    except (HTTPError, OSError) as e:  # HTTPError: whatever the client underneath raises
        raise Unavailable(
            f"source {reference!r}: not downloaded before, and the hub does not give it ({str(e).splitlines()[0]}); where"
            f" there is a network, `hf download {repository} --repo-type dataset --local-dir DIR`, then name that folder"
        ) from e
