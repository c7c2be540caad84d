"""General rows a model writes itself: its replies to everyday prompts, mixed in so that tuning on symbols costs no generality.

Nothing need be downloaded and no stronger teacher is asked (self-distilled replay). Prompts come from the collection.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from symbol_llm.engines import Engine, prompts
from symbol_llm.ground.params import Replay
from symbol_llm.ground.progress import track
from symbol_llm.ground.records import GeneralItem, TrainingRow

SENTENCE_END = re.compile(r"[.!?](?=\s)")


def replay(items: Sequence[GeneralItem], engine: Engine, params: Replay) -> list[TrainingRow]:
    """Return a training row for each of `params.n` items, those with the smallest ids.

    An item that has a reply keeps it. A reply not ended within `params.max_tokens` is cut after its last whole sentence,
    and left out where there is none.
    """
    chosen = sorted(items, key=lambda i: i.id)[: params.n]
    rows = [_row(i, i.reply) for i in chosen if i.reply]
    due = [i for i in chosen if not i.reply]
    groups = [due[at : at + params.batch] for at in range(0, len(due), params.batch)]
    for number, group in enumerate(track(groups, "answering everyday prompts")):
        replies = engine.generate(
            [prompts.general_messages(i.prompt) for i in group],
            n=1,
            temperature=params.temperature,
            top_p=params.top_p,
            max_tokens=params.max_tokens,
            seed=params.seed + number,
        )
        whole = [
            (i, row[0].text if row[0].n_tokens < params.max_tokens else _sentences(row[0].text))
            for i, row in zip(group, replies, strict=True)
        ]
        rows += [_row(i, text) for i, text in whole if text.strip()]
    return sorted(rows, key=lambda r: r.id)


def _sentences(text: str) -> str:
    ends = [m.end() for m in SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else ""


def _row(item: GeneralItem, reply: str) -> TrainingRow:
    return TrainingRow.of(
        kind="general", problem=item.id, messages=prompts.general_messages(item.prompt), completion=reply
    )
