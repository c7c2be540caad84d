"""The rows that pass between stages. Frozen; unknown fields are refused; ids are made from content.

One word per idea: a *problem* is asked, a *candidate* is one reply, a *verdict* judges it, a *pool entry* is
kept over rounds, a *training row* is what a model is tuned on.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

Status = Literal["accepted", "rejected", "unparsable", "timeout", "resource", "unscored"]
STATUSES: tuple[Status, ...] = ("accepted", "rejected", "unparsable", "timeout", "resource", "unscored")
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
"""Training learns from `train`; `dev` decides whatever is chosen on the way; `test` is read by the gate and the report alone."""
Origin = Literal["explore", "refine", "hint"]
Kind = Literal["injection", "general", "L1", "L2", "pair", "sample"]


class Message(TypedDict):
    """One turn of a chat, in the form every chat template takes."""

    role: Literal["system", "user", "assistant"]
    content: str


Messages = list[Message]


def content_id(*parts: Any) -> str:
    """Return 16 hex digits that depend on `parts` (JSON values) alone."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Record(BaseModel):
    """What all rows share."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Problem(Record):
    """One question of one task. Build it with `Problem.of`, which makes the id."""

    id: str
    task: str
    family: str
    split: Split
    instruction: str
    """Names the target notation; becomes the system message."""
    question: str
    context: str = ""
    """What the question is about: a schema, a theory, an ontology. Shown above the question."""
    answer: Any = None
    """JSON value that running a right program gives. Never shown to a model, never sent to a sandbox child."""
    program: str | None = None
    """Gold symbols where the source has them."""
    environment: dict[str, Any] = Field(default_factory=dict)
    """What running needs besides the program, by family: `database` (a file beside the collection), `script`, `imports` ..."""
    symbols: tuple[str, ...] = ()
    """Names of the notation that instruction or context declares, as actions, predicates, relations or intents.

    Whole words of the texts, and of the program where it uses them; symbol-evol may rename any of them."""
    renamed: dict[str, str] = Field(default_factory=dict)
    """What symbol-evol called each of `symbols` that it renamed; empty in a row as its source has it."""
    level: int | None = Field(default=None, ge=1, le=3)
    """Difficulty of a generated problem, 3 the hardest."""
    source: str
    """Data set and row this came from, or `generated`."""
    licence: str

    @classmethod
    def of(cls, **fields: Any) -> Problem:
        """Return the problem with its id: a hash of task, context and question."""
        return cls(id=content_id(fields["task"], fields.get("context", ""), fields["question"]), **fields)


class GeneralItem(Record):
    """A row of general ability: something to imitate, or a multiple choice to answer."""

    id: str
    split: Split
    prompt: str
    reply: str | None = None
    """Text to learn or to measure perplexity on; None where the base model is to write it."""
    choices: tuple[str, ...] = ()
    correct: int | None = None
    """Index into `choices`."""
    source: str
    licence: str

    @classmethod
    def of(cls, **fields: Any) -> GeneralItem:
        """Return the item with its id: a hash of prompt and choices."""
        return cls(id=content_id(fields["prompt"], fields.get("choices", ())), **fields)


class Candidate(Record):
    """One reply of a model to one problem."""

    id: str
    problem: str
    """Problem id."""
    origin: Origin
    index: int = Field(ge=0)
    """k in 0..K-1; a refinement has the index of the candidate it repairs."""
    feedback: str = ""
    """What the prompt of a refinement said of the candidate it repairs."""
    reply: str
    n_tokens: int = Field(ge=0)
    logprob: float
    """Mean log-probability per token. Prompt: see `Explore.rescore`."""


class Verdict(Record):
    """What the verifier says of one candidate. `unscored` is our failure and never a reward."""

    candidate: str
    problem: str
    status: Status
    score: float | None = Field(default=None, ge=0, le=1)
    """None where unscored."""
    measure: float | None = Field(default=None, ge=0, le=1)
    """What the field prints of the notation where that is softer than `score`: Smatch, F1, LE ..."""
    program: str | None = None
    """The program text taken from the reply."""
    canonical: str | None = None
    """Hash of the canonical form: equal hashes mean equal programs."""
    value: str | None = None
    """What running gave, shortened, for people."""
    agrees: bool | None = None
    """Of an accepted program: whether it gives what most do on redrawn problems; None where that was not tried."""
    detail: str = ""
    seconds: float = Field(default=0.0, ge=0)
    isolation: str = "none"
    """Level the sandbox ran at, with the version of Landlock's interface, e.g. `landlock6+seccomp+rlimits`."""
    verifier: str
    """Family and version, e.g. `python@1`."""


class PoolEntry(Record):
    """One distinct program of one problem, kept over rounds."""

    problem: str
    canonical: str
    program: str
    logprob: float
    accepted: bool
    origin: Origin
    round: int = Field(ge=0)
    feedback: str = ""
    """Of a wrong program: what its repair was told of it."""


class TrainingRow(Record):
    """One row to tune on: the loss falls on `completion` alone."""

    id: str
    kind: Kind
    problem: str
    messages: Messages
    completion: str
    rejected: str | None = None
    """A wrong completion; where there is one, the loss prefers `completion` to it."""
    advantage: float | None = None
    """Of a sample: how much better its reward is than those of the other samples of its problem, in standard deviations."""
    is_cut: bool = False
    """Whether sampling stopped before the completion ended, so that no end of turn is learned after it."""

    @classmethod
    def of(cls, **fields: Any) -> TrainingRow:
        """Return the row with its id: a hash of messages and completions, and of the advantage if there is one."""
        more = [fields[key] for key in ("rejected", "advantage") if fields.get(key) is not None]
        return cls(id=content_id(fields["messages"], fields["completion"], *more), **fields)


class Interval(Record):
    """A mean with its 95 % interval: Wilson's for shares."""

    n: int
    mean: float
    low: float
    high: float


class Scores(Record):
    """Verdicts of one task, family or domain. `accuracy` is the share accepted; `unscored` ones are left out of it."""

    accuracy: Interval
    accepted: int = 0
    rejected: int = 0
    unparsable: int = 0
    timeout: int = 0
    resource: int = 0
    unscored: int = 0
    metric: str | None = None
    """Of a task among Symbol-LLM's 34: what the paper prints of it."""
    paper: Interval | None = None
    """Mean of `metric`, with a bootstrap interval."""
    pass_at: dict[str, float] = Field(default_factory=dict)
    """pass@k by k, unbiased (Chen et al. 2021), where samples were drawn."""


class General(Record):
    """General ability: multiple choice by length-normalised log-probability, perplexity on held-out text."""

    choice: Interval | None = None
    perplexity: float | None = None
    n_text_tokens: int = 0


class Summary(Record):
    """One point of a learning curve."""

    stage: str
    """`original`, `injection`, `infusion` or `round N`."""
    checkpoint: str
    """SHA-256 of the folder."""
    overall: Interval
    """Of the test problems."""
    dev: Interval | None = None
    """Of the dev problems, by which rounds end and checkpoints are chosen; None where there are none."""
    tasks: dict[str, Scores]
    families: dict[str, Scores]
    domains: dict[str, Scores]
    general: General
    isolation: tuple[str, ...] = ()
    """Levels at which the sandbox ran its programs, one where all ran alike; empty where none had to run."""
    round: dict[str, float] = Field(default_factory=dict)
    """Figures of the round that led here; see `select.metrics`."""


class Sample(Record):
    """One test problem with the model's greedy reply and its verdict, for people."""

    task: str
    question: str
    program: str | None
    value: str | None
    status: Status
    detail: str


class Report(Record):
    """What evaluating one checkpoint found, after what was found before."""

    summary: Summary
    history: tuple[Summary, ...] = ()
    """Earlier points of the same curve, first to last."""
    outcomes: dict[str, float]
    """Score by problem id, unscored left out: what two checkpoints are compared on."""
    samples: tuple[Sample, ...] = ()
