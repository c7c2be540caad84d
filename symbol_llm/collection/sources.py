"""Finds the folder of data sets that a reference names. It reads no row (`tasks/`) and finds no weights (`models/weights.py`).

path/to/folder                       holds <group>/<data set>/{train,test}.jsonl
hf://datasets/org/name@revision      a data set repository of the Hugging Face hub that holds the same, downloaded once
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from symbol_llm.ground import outputs
from symbol_llm.ground.errors import InvalidInput, MissingDependency, Unavailable

HUB = "hf:"
HUB_PATTERNS = ("*.jsonl", "*.json", "*.sqlite")
LAYOUT = "expected <group>/<data set>/train.jsonl and test.jsonl in it"


class Source(NamedTuple):
    """A folder of data sets, and the reference to its exact content: for a repository, with the commit."""

    folder: Path
    reference: Path | str


def find(reference: Path | str) -> Source:
    """Return the folder that `reference` names, downloaded if needed; without a revision, in the hub's latest state.

    InvalidInput if there is no such folder or the reference is malformed, Unavailable if the hub cannot be asked and the
    revision was not downloaded before, MissingDependency without huggingface_hub.
    """
    if str(reference).startswith(HUB):
        return _from_hub(str(reference))
    folder = Path(reference)
    if not folder.is_dir():
        raise InvalidInput(f"{folder}: no such folder; {LAYOUT}")
    return Source(folder, reference)


def _from_hub(reference: str) -> Source:
    name, _, revision = reference.removeprefix(HUB).removeprefix("//").partition("@")
    kind, _, repository = name.partition("/")
    if kind != "datasets" or repository.count("/") != 1 or not all(repository.split("/")):
        raise InvalidInput(f"source {reference!r}: expected hf://datasets/org/name@revision, or a folder")
    folder = _downloaded(reference, repository, revision)
    if not any(folder.glob("*/*/*.jsonl")):
        raise InvalidInput(f"source {reference!r}: the repository has another layout; {LAYOUT}")
    return Source(folder, f"hf://datasets/{repository}@{folder.name}")


def _downloaded(reference: str, repository: str, revision: str) -> Path:
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
                allow_patterns=list(HUB_PATTERNS),
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
