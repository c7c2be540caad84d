"""KServe's v2 protocol, the Open Inference Protocol: questions and answers as tensors with one element a question.

In:  `question` (BYTES) and, where wanted, `task`, `context`, `script` (BYTES) and `k` (an integer type), all of one length.
Out: `status`, `answer`, `program` (BYTES; empty where there is none), `k`, `ran`, `agreed` and `spared` (INT64).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from kserve import InferRequest, InferResponse
from kserve import errors as http
from kserve.utils.utils import get_predict_response

from serving.vote import Answer

TEXTS = ("question", "task", "context", "script")
NUMBERS = ("k",)
SAID = ("status", "answer", "program")
COUNTED = ("k", "ran", "agreed", "spared")


def described(texts: Sequence[str], numbers: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the protocol's metadata says of tensors with an element a question."""
    kinds = [*((name, "BYTES") for name in texts), *((name, "INT64") for name in numbers)]
    return [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in kinds]


def instances(request: InferRequest) -> dict[str, list[dict[str, Any]]]:
    """Return what `request` asks, as the body of a v1 call; HTTP 400 says what is wrong with its tensors."""
    columns: dict[str, list[Any]] = {}
    for tensor in request.inputs:
        if tensor.name not in (*TEXTS, *NUMBERS) or tensor.name in columns:
            known = ", ".join((*TEXTS, *NUMBERS))
            raise http.InvalidInput(f"input {tensor.name!r}: expected each of {known} once at most, and no other")
        columns[tensor.name] = _column(tensor)
    lengths = {name: len(values) for name, values in columns.items()}
    if "question" not in columns or len(set(lengths.values())) > 1:
        raise http.InvalidInput(f"expected a `question`, and inputs of one length; got {lengths}")
    rows = zip(*columns.values(), strict=True)
    return {"instances": [_without_blanks(dict(zip(columns, row, strict=True))) for row in rows]}


def _column(tensor: Any) -> list[Any]:
    """Return the elements of `tensor`."""
    try:
        elements = tensor.as_numpy().reshape(-1).tolist()
        if tensor.name in TEXTS:
            return [e.decode() if isinstance(e, bytes) else str(e) for e in elements]
        return [int(e) for e in elements]
    except (ValueError, TypeError, OverflowError, AttributeError, struct.error, http.InvalidInput) as e:
        wanted = "BYTES, as UTF-8" if tensor.name in TEXTS else "an integer type"
        raise http.InvalidInput(
            f"input {tensor.name!r}: expected {wanted}, as many elements as its shape says: {e}"
        ) from e


def _without_blanks(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return `row` without texts that are empty: a tensor has an element for each question, needed or not."""
    return {name: value for name, value in row.items() if value != "" or name == "question"}


def response(request: InferRequest, answers: Sequence[Answer], name: str) -> InferResponse:
    """Return `answers` in the form, text or binary, that `request` asks for."""
    import pandas

    votes = [answer.votes for answer in answers]
    columns = {
        "status": [answer.status for answer in answers],
        "answer": [answer.answer or "" for answer in answers],
        "program": [answer.program or "" for answer in answers],
    }
    texts = {key: pandas.Series(values, dtype=object) for key, values in columns.items()}
    numbers = {key: pandas.Series([getattr(v, key) for v in votes], dtype="int64") for key in COUNTED}
    return get_predict_response(request, pandas.DataFrame(texts | numbers), name)
