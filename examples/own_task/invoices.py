"""Sums of invoices, in Python: positions, from level 2 on a discount, on level 3 shipping and tax as well."""

import random
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Row, Task, read_rows

INSTRUCTION = "Write Python that sets `answer` to what is due, in euros, rounded to cents."
GOODS = (
    "desk lamp",
    "filing box",
    "office chair",
    "pack of paper",
    "stapler",
    "whiteboard",
    "wall clock",
    "coffee mug",
)


class Asked(Row):
    """One row of `train.jsonl` or `test.jsonl` in the folder `office/invoices` of a source."""

    id: str
    invoice: str
    due: float


def read(folder: Path) -> Iterator[Problem]:
    """Yield the rows in `folder`; they have no gold program."""
    for split, row in read_rows(folder, Asked):
        yield _problem(row.invoice, row.due, split=split, source=f"invoices {row.id}")


def generate(rng: random.Random, level: int) -> Problem:
    """Return a true problem with gold; prices are such that no sum ends in half a cent."""
    while True:
        goods = rng.sample(GOODS, level)
        lines = [(rng.randint(2, 12), name, rng.randint(199, 9999)) for name in goods]
        text = f"Ordered: {', '.join(f'{n} x {name} at {cents / 100:.2f}' for n, name, cents in lines)}."
        due = Decimal(sum(n * cents for n, _, cents in lines)) / 100
        program = " + ".join(f"{n} * {cents / 100:.2f}" for n, _, cents in lines)
        if level > 1:
            off = rng.choice((5, 10, 15, 20))
            text += f" A discount of {off} % is given."
            due, program = due * (100 - off) / 100, f"({program}) * {(100 - off) / 100}"
        if level > 2:
            shipping, tax = rng.choice((490, 690, 1250)), rng.choice((7, 19))
            text += f" Shipping is {shipping / 100:.2f}, and {tax} % tax is due on all."
            due, program = (
                (due + Decimal(shipping) / 100) * (100 + tax) / 100,
                f"({program} + {shipping / 100}) * 1.{tax:02}",
            )
        if (due * 1000) % 10 != 5:
            cents = due.quantize(Decimal("0.01"), ROUND_HALF_UP)
            return _problem(text, float(cents), program=f"answer = round({program}, 2)", level=level)


def _problem(invoice: str, due: float, *, split: str = "train", source: str = "generated", **fields: object) -> Problem:
    question = f"{invoice} How much is due?"
    return Problem.of(
        task="invoices", family="python", split=split, instruction=INSTRUCTION, question=question, answer=due,
        source=source, licence="Apache-2.0", **fields,
    )  # fmt: skip


SHOTS = (
    ("", "Ordered: 2 x plant at 12.50. How much is due?", "answer = round(2 * 12.5, 2)"),
    ("", "Ordered: 3 x pen at 1.20, 1 x ruler at 2.00. A discount of 10 % is given. How much is due?",
     "answer = round((3 * 1.2 + 2) * 0.9, 2)"),
)  # fmt: skip
TASKS = (
    Task(
        "invoices", "python", INSTRUCTION, SHOTS, licence="Apache-2.0", citation="written for this package",
        folder="office/invoices", read=read, generate=generate,
    ),
)  # fmt: skip
