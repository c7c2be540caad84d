"""Batches and losses of a tuning stage: on completions alone, by tokens or by rows, of preference, and by advantage.

With log-probability log p(y|x) summed over the tokens of a completion and log p0 that of the model before tuning, a row
costs -log p(y|x) / |y|, and one with a rejected completion r costs, in addition,
-log sigmoid(beta [(log p(y|x) - log p0(y|x)) - (log p(r|x) - log p0(r|x))]): direct preference optimization (Rafailov et
al. 2023) with the likelihood of what is preferred kept up (Pang et al. 2024, iterative reasoning preference optimization).

A sample with the advantage A costs the mean over its tokens of
-min(q A, clip(q, 1 - clip, 1 + clip) A) + kl (1 / q - 1 + log q), where q = p(token) / p0(token): group relative policy
optimization (Shao et al. 2024, DeepSeekMath, equations 3 and 4). A round samples once, so that the weights it starts from
are both the old ones and the reference of those equations, and samples are on-policy at the first step only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from symbol_llm.engines import chat
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Tune
from symbol_llm.ground.records import TrainingRow

IGNORED = -100
Example = dict[str, Any]
"""`input_ids` and `labels` of a row; of one with a rejected completion also `rejected`, the same of that, and in time
`reference`, the two log-probabilities before tuning; of a sample also its `advantage`, and in time `reference`, the
log-probability of each token of its completion before tuning."""


def example(tok: Any, row: TrainingRow) -> Example:
    """Return `row` as token ids."""
    made = _sequence(chat.encode(tok, row.messages, row.completion))
    if row.is_cut:
        made = {name: ids[:-1] for name, ids in made.items()}
    if row.advantage is not None:
        made["advantage"] = row.advantage
    if row.rejected is not None:
        made["rejected"] = _sequence(chat.encode(tok, row.messages, row.rejected))
    return made


def _sequence(encoded: chat.Encoded) -> Example:
    return {"input_ids": encoded.ids, "labels": [IGNORED] * encoded.n_prompt + encoded.ids[encoded.n_prompt :]}


def length(made: Example) -> int:
    """Return the tokens of the longer of its sequences."""
    return max(len(s["input_ids"]) for s in (made, made.get("rejected", made)))


class Collator:
    """Pads a batch on the left, so that completions end together and logits are needed of the last positions only.

    Rejected completions are further sequences behind those of the rows; `pairs` says to which row each belongs.
    """

    def __init__(self, pad: int) -> None:
        """Pad with the token `pad`."""
        self.pad = pad

    def __call__(self, rows: Sequence[Example]) -> dict[str, Any]:
        """Return tensors of shape (sequences, longest)."""
        import torch

        sequences, more = _sequences(rows)
        width = max(len(s["input_ids"]) for s in sequences)
        keep = 1 + max(sum(label != IGNORED for label in s["labels"]) for s in sequences)
        fill = [width - len(s["input_ids"]) for s in sequences]
        mask = torch.tensor([[0] * n + [1] * (width - n) for n in fill])
        ids = [[self.pad] * n + s["input_ids"] for n, s in zip(fill, sequences, strict=True)]
        labels = [([IGNORED] * n + s["labels"])[-keep:] for n, s in zip(fill, sequences, strict=True)]
        return {
            "input_ids": torch.tensor(ids),
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
            "labels": torch.tensor(labels),
            "logits_to_keep": keep,
            **more,
        }


class Packer:
    """Lays the sequences of a batch end to end, so that nothing is padded and logits are needed of completions alone.

    `logits_to_keep` are the N places before a token of a completion, `labels` those tokens. `packing.attention` keeps
    the sequences apart by `row_lengths`.
    """

    def __call__(self, rows: Sequence[Example]) -> dict[str, Any]:
        """Return tensors of shape (1, tokens of all sequences), and (1, N) for `labels`."""
        import torch

        sequences, more = _sequences(rows)
        lengths = [len(s["input_ids"]) for s in sequences]
        labels = [label for s in sequences for label in (IGNORED, *s["labels"][1:])]
        targets = torch.tensor([[label for label in labels if label != IGNORED]])
        return {
            "input_ids": torch.tensor([[token for s in sequences for token in s["input_ids"]]]),
            "position_ids": torch.tensor([[place for n in lengths for place in range(n)]]),
            "labels": targets,
            "shift_labels": targets,  # which tells transformers that they are where their logits are
            "logits_to_keep": torch.tensor([i - 1 for i, label in enumerate(labels) if label != IGNORED]),
            "row_lengths": lengths,
            **more,
        }


def _sequences(rows: Sequence[Example]) -> tuple[list[Example], dict[str, Any]]:
    """Return the sequences of `rows`, rejected ones last, and what a batch says of those, or of samples, if there are any."""
    import torch

    if any("advantage" in row for row in rows):
        before = [logprob for row in rows for logprob in row.get("reference", ())]
        return list(rows), {
            "advantages": torch.tensor([row["advantage"] for row in rows]),
            "reference": torch.tensor(before),
        }
    pairs = [i for i, row in enumerate(rows) if "rejected" in row]
    if not pairs:
        return list(rows), {}
    reference = [rows[i].get("reference", (0.0, 0.0)) for i in pairs]
    more = {"pairs": torch.tensor(pairs), "reference": torch.tensor(reference)}
    return [*rows, *(rows[i]["rejected"] for i in pairs)], more


def check(rows: Sequence[TrainingRow], params: Tune) -> None:
    """Raise InvalidInput for a row that the loss of `params` cannot weigh."""
    is_clipped = params.loss == "clipped"
    wrong = [row for row in rows if (row.advantage is not None) != is_clipped]
    if wrong and is_clipped:
        raise InvalidInput(
            f"loss=clipped weighs rows by their advantage, and {len(wrong)} of {len(rows)} rows have none, such as "
            f"{wrong[0].kind} row {wrong[0].id!r}; tune on a set made with `select.pairs=advantages` alone"
        )
    if wrong:
        raise InvalidInput(
            f"{len(wrong)} of {len(rows)} rows have an advantage, which loss={params.loss} does not know; give loss=clipped"
        )
    if both := [row for row in rows if row.advantage is not None and row.rejected is not None]:
        raise InvalidInput(f"row {both[0].id!r} has an advantage and a rejected completion; expected one of them")


def trainer_class(params: Tune, *, has_pairs: bool) -> Any:
    """Return the Trainer that minimizes the loss of `params`: transformers' own, unless that cannot."""
    from transformers import Trainer

    if params.loss == "tokens" and not has_pairs:
        return Trainer

    class RowTrainer(Trainer):  # type: ignore[misc]
        """Weighs rows, not tokens, and knows pairs."""

        def __init__(self, **more: Any) -> None:
            super().__init__(**more)
            self.model_accepts_loss_kwargs = False  # then what is returned is averaged over the turns of a step

        def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
            loss = batch_loss(model, inputs, params)
            return (loss, None) if return_outputs else loss

    return RowTrainer


def batch_loss(model: Any, batch: Mapping[str, Any], params: Tune) -> Any:
    """Return the loss of a batch of `Collator` or `Packer`, a scalar tensor."""
    from torch.nn.functional import logsigmoid

    if params.loss == "clipped":
        return _clipped_loss(model, batch, params)
    total, n_tokens = logprobs(model, batch)
    n_rows = len(total) - len(batch.get("pairs", ()))
    chosen, n_chosen = total[:n_rows], n_tokens[:n_rows]
    loss = -(chosen / n_chosen).mean() if params.loss == "rows" else -chosen.sum() / n_chosen.sum()
    if n_rows < len(total):
        moved = (total[batch["pairs"]] - batch["reference"][:, 0]) - (total[n_rows:] - batch["reference"][:, 1])
        loss = loss - logsigmoid(params.beta * moved).sum() / n_rows
    return loss


def _clipped_loss(model: Any, batch: Mapping[str, Any], params: Tune) -> Any:
    import torch

    each, n_tokens = token_logprobs(model, batch)
    advantages = batch["advantages"].repeat_interleave(n_tokens)
    moved = each - batch["reference"]
    ratio = moved.exp()
    gain = torch.min(ratio * advantages, ratio.clamp(1 - params.clip, 1 + params.clip) * advantages)
    divergence = (-moved).exp() - 1 + moved
    cost = params.kl * divergence - gain
    return torch.stack([one.mean() for one in cost.split(n_tokens.tolist())]).mean()


def logprobs(model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the summed log-probability of the completion of each sequence, and the number of its tokens."""
    import torch

    each, n_tokens = token_logprobs(model, batch)
    return torch.stack([one.sum() for one in each.split(n_tokens.tolist())]), n_tokens


def token_logprobs(model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the log-probability of each token of the completions, one after the other, and how many each of them has."""
    if "row_lengths" in batch:
        return _packed_logprobs(model, batch)
    asked = {k: batch[k] for k in ("input_ids", "attention_mask", "position_ids", "logits_to_keep")}
    logits = model(**asked).logits[:, :-1].float()
    labels = batch["labels"][:, 1:]
    counted = labels != IGNORED
    picked = logits.log_softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return picked[counted], counted.sum(-1)


def _packed_logprobs(model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
    import torch

    asked = {k: batch[k] for k in ("input_ids", "position_ids", "row_lengths", "logits_to_keep")}
    logits = model(**asked).logits[0].float()
    picked = logits.log_softmax(-1).gather(-1, batch["labels"][0].unsqueeze(-1)).squeeze(-1)
    ends = torch.tensor(batch["row_lengths"], device=picked.device).cumsum(0)
    return picked, torch.bincount(torch.bucketize(batch["logits_to_keep"], ends, right=True), minlength=len(ends))


def note_reference(trainer: Any, examples: Sequence[Example]) -> None:
    """Write into each sample, and each example with a rejected completion, what the model of `trainer`, not yet tuned, gives."""
    import torch

    model, size = trainer.model.to(trainer.args.device).eval(), trainer.args.per_device_train_batch_size
    due = [e for e in examples if "rejected" in e or "advantage" in e]
    with torch.no_grad(), trainer.compute_loss_context_manager():
        for at in range(0, len(due), size):
            group = due[at : at + size]
            each, n_tokens = token_logprobs(model, trainer._prepare_inputs(trainer.data_collator(group)))  # noqa: SLF001 - its own
            told = [one.tolist() for one in each.split(n_tokens.tolist())]
            for i, made in enumerate(group):
                made["reference"] = told[i] if "advantage" in made else (sum(told[i]), sum(told[len(group) + i]))
    model.train()
