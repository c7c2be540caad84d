"""What is known of how a checkpoint was measured: code, data, licence. Read out of the runs in MLflow, by content hash.

Each stage's run names its inputs and its output by hash, so that the runs form a chain whoever made them and wherever: from
the checkpoint to the evaluation that read it, from the collection that this read to the run that wrote it and the one that put
it under version.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from symbol_llm.tracking import runs

MAX_DIGEST = 36
"""MLflow keeps so much of the hash of a data set."""


class Facts(NamedTuple):
    """What is known, in words; empty where nothing is."""

    code: str = ""
    """Git commit of the package that measured the checkpoint, or a hash of its sources where there is none."""
    data: str = ""
    """Hash of the collection, and its revision in the data repository if it is under version."""
    licence: str = ""
    """Of the collection, as its card says."""


def facts(checkpoint: str) -> Facts:
    """Return what is known of the checkpoint with the hash `checkpoint`, by its latest evaluation."""
    evaluation = _evaluation(checkpoint)
    if evaluation is None:
        return Facts()
    collection = _read(evaluation)
    return Facts(_code(evaluation.data.tags), _data(collection), _licence(_card(collection)))


def data_card(checkpoint: str) -> str:
    """Return the data card of the collection that the checkpoint was measured on, as Markdown; empty where none is found."""
    evaluation = _evaluation(checkpoint)
    return _card(_read(evaluation)) if evaluation else ""


def base_model(checkpoint: str) -> str:
    """Return what the pipeline that measured the checkpoint began with, such as `hf://org/name`; empty if not known."""
    evaluation = _evaluation(checkpoint)
    above = evaluation.data.tags.get(runs.PARENT_TAG) if evaluation else None
    return str(runs.client().get_run(above).data.params.get("model", "")) if above else ""


def _evaluation(checkpoint: str) -> Any:
    return _latest(f"dataset.digest = '{checkpoint[:MAX_DIGEST]}' AND tags.symbol_llm.stage = 'evaluate'")


def _read(evaluation: Any) -> str:
    """Return the hash of the collection that an evaluation read."""
    digests = (one.dataset.digest for one in evaluation.inputs.dataset_inputs if one.dataset.name == "collection")
    return next(digests, "")


def _latest(filter_: str) -> Any:
    mlflow = runs.client()
    found = mlflow.search_runs(
        [runs.experiment(mlflow)], filter_, max_results=1, order_by=["attributes.start_time DESC"]
    )
    return found[0] if found else None


def _code(tags: dict[str, str]) -> str:
    commit = tags.get("mlflow.source.git.commit", "unknown")
    if commit != "unknown":
        return commit + ("-dirty" if tags.get("symbol_llm.dirty") == "true" else "")
    return f"sources {code}" if (code := tags.get("symbol_llm.code", "")) else ""


def _data(collection: str) -> str:
    if not collection:
        return ""
    version = _latest(f"dataset.digest = '{collection}' AND tags.symbol_llm.stage = 'version'")
    tag = version.data.tags.get("dvc.tag", "") if version else ""
    return f"{collection[:16]} ({tag})" if tag else collection[:16]


def _card(collection: str) -> str:
    made = _latest(f"tags.symbol_llm.output_sha256 LIKE '{collection}%'") if collection else None
    card = made and runs.absent_is_none(runs.artifact, made.info.run_id, "card.md")
    return card.read_text() if card else ""


def _licence(card: str) -> str:
    found = header(card)
    return str(found.get("license_name") or found.get("license") or "")


def header(card: str) -> dict[str, Any]:
    """Return the YAML header of a card for the hub; empty where it has none."""
    found = yaml.safe_load(card.removeprefix("---\n").partition("\n---")[0]) if card.startswith("---\n") else None
    return found if isinstance(found, dict) else {}
