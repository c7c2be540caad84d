"""General ability: data that keeps a model tuned on symbols from losing everything else.

`general.yaml` ships with the package: prompts that the base model answers itself (replay), easy multiple-choice
questions and short texts for perplexity. The sources are read if a folder of real data is given; flan, code_alpaca
and evol_instruct are those that Symbol-LLM mixed into infusion, as instructions in any of the usual formats.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import Field, model_validator

from symbol_llm.ground.records import GeneralItem, Split
from symbol_llm.tasks import GeneralSource, Row, read_rows

SHIPPED = "shipped"
SHIPPED_LICENCE = "Apache-2.0"
LETTERS = "ABCD"


def shipped() -> list[GeneralItem]:
    """Return this project's own items: PROMPTS to train on, CHOICES and TEXTS to test on."""
    train = [_item("train", prompt, None, SHIPPED, SHIPPED_LICENCE) for prompt in PROMPTS]
    texts = [
        _item("test", f"Write a short paragraph about {topic}.", text, SHIPPED, SHIPPED_LICENCE)
        for topic, text in TEXTS
    ]
    questions = [
        _item("test", question, None, SHIPPED, SHIPPED_LICENCE, choices=choices, correct=correct)
        for question, choices, correct in CHOICES
    ]
    return train + questions + texts


def _item(split: Split, prompt: str, reply: str | None, source: str, licence: str, **choice: Any) -> GeneralItem:
    return GeneralItem.of(split=split, prompt=prompt, reply=reply, source=source, licence=licence, **choice)


def _choice(n: int, row: list[str]) -> tuple[str, tuple[str, ...], int]:
    """Return question, options and index of the right one, which advances by one from row to row."""
    question, right, *wrong = row
    correct = n % len(LETTERS)
    return question, (*wrong[:correct], right, *wrong[correct:]), correct


_DATA = yaml.safe_load(resources.files("symbol_llm.tasks").joinpath("general.yaml").read_text(encoding="utf-8"))
PROMPTS: tuple[str, ...] = tuple(_DATA["prompts"])
CHOICES: tuple[tuple[str, tuple[str, ...], int], ...] = tuple(_choice(n, row) for n, row in enumerate(_DATA["choices"]))
TEXTS: tuple[tuple[str, str], ...] = tuple((row["topic"], row["text"]) for row in _DATA["texts"])


class GeneralRow(Row):
    """The shared fields of the rows of all sources."""

    splits: ClassVar[tuple[Split, ...]] = ("train", "test")
    id: str | int | None = None
    """None: the row is identified by its position."""

    def fields(self) -> dict[str, Any]:
        """Return the fields of a general item that the row has."""
        raise NotImplementedError


class AlpacaRow(GeneralRow):
    """An instruction with its reply."""

    instruction: str
    input: str
    output: str

    def fields(self) -> dict[str, Any]:
        """Return prompt and reply."""
        return {"prompt": _joined(self.instruction, self.input), "reply": self.output}


class CotRow(GeneralRow):
    """A question with a reason and an answer."""

    question: str
    answer: str
    rationale: str

    def fields(self) -> dict[str, Any]:
        """Return the question, and reason with answer as the reply."""
        return {"prompt": self.question, "reply": f"{self.rationale.strip()} The answer is {self.answer}."}


class Said(Row):
    """One message of a conversation."""

    role: str
    content: str


class InstructionRow(GeneralRow):
    """An instruction with its reply in one of the usual formats; of a conversation, the part up to the first reply."""

    instruction: str | None = None
    input: str = ""
    output: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: list[Said] = []

    @model_validator(mode="after")
    def _has_a_shape(self) -> Self:
        if not all(self._pair()):
            raise ValueError("expected instruction (input) output, prompt completion, or messages")
        return self

    def fields(self) -> dict[str, Any]:
        """Return prompt and reply."""
        prompt, reply = self._pair()
        return {"prompt": prompt, "reply": reply}

    def _pair(self) -> tuple[str | None, str | None]:
        if self.messages:
            reply = next((n for n, said in enumerate(self.messages) if said.role == "assistant"), 0)
            return "\n\n".join(said.content for said in self.messages[:reply]), self.messages[reply].content
        if self.prompt is not None:
            return self.prompt, self.completion
        return self.instruction and _joined(self.instruction, self.input), self.output


class Instance(Row):
    """An input of a seed task, and the reply."""

    input: str
    output: str


class SeedRow(GeneralRow):
    """A hand-written task; its first instance is used."""

    instruction: str
    instances: list[Instance] = Field(min_length=1)

    def fields(self) -> dict[str, Any]:
        """Return prompt and reply."""
        first = self.instances[0]
        return {"prompt": _joined(self.instruction, first.input), "reply": first.output}


class MmluRow(GeneralRow):
    """A question with four options. The train file holds worked examples for 5-shot prompts: checked, but not used."""

    splits: ClassVar[tuple[Split, ...]] = ("test",)
    question: str
    A: str
    B: str
    C: str
    D: str
    answer: Literal["A", "B", "C", "D"]

    def fields(self) -> dict[str, Any]:
        """Return the question and its options; there is nothing to imitate."""
        choices = (self.A, self.B, self.C, self.D)
        return {"prompt": self.question, "reply": None, "choices": choices, "correct": LETTERS.index(self.answer)}


def _joined(instruction: str, text: str) -> str:
    return f"{instruction}\n\n{text}" if text.strip() else instruction


def _source(name: str, kind: type[GeneralRow], licence: str, citation: str) -> GeneralSource:
    def read(folder: Path) -> Iterator[GeneralItem]:
        for n, (split, row) in enumerate(read_rows(folder, kind)):
            if split in row.splits:
                source = f"{name} {n if row.id is None else row.id}"
                yield _item(split, source=source, licence=licence, **row.fields())

    return GeneralSource(name, licence, citation, f"general/{name}", read)


SOURCES: tuple[GeneralSource, ...] = (
    _source(
        "alpaca_en_demo",
        AlpacaRow,
        "CC BY-NC 4.0 (instructions of Stanford Alpaca; Apache-2.0 repository)",
        "Zheng et al. 2024, LlamaFactory; Taori et al. 2023, Stanford Alpaca",
    ),
    _source(
        "flan_cot",
        CotRow,
        "Apache-2.0 (StrategyQA, CREAK: MIT; QASC: CC BY 4.0)",
        "Longpre et al. 2023, The Flan Collection",
    ),
    _source("self_instruct_seed", SeedRow, "Apache-2.0", "Wang et al. 2023, Self-Instruct"),
    _source(
        "flan",
        InstructionRow,
        "not stated (each source set's own)",
        "Longpre et al. 2023, The Flan Collection",
    ),
    _source("code_alpaca", InstructionRow, "CC BY-NC 4.0", "Chaudhary 2023, Code Alpaca"),
    _source(
        "evol_instruct",
        InstructionRow,
        "unknown (tagged MIT; written by a model whose terms restrict its use)",
        "Xu et al. 2023, WizardLM (Evol-Instruct)",
    ),
    _source("mmlu", MmluRow, "MIT", "Hendrycks et al. 2021, Measuring Massive Multitask Language Understanding"),
)
