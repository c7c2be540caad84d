"""Problems to messages: the plain prompt, the few-shot prompt, the repair prompt. The same text in training and in sampling.

The chat template is the model's own and is applied by the engine. Gold answers and gold programs never enter a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

from symbol_llm.ground.records import Messages, Problem

Shot = tuple[str, str, str]
"""Context, question, program."""

REPAIR = "A first try is below. Repair it, or return it unchanged if it is right."


def messages(problem: Problem, shots: Sequence[Shot] = ()) -> Messages:
    """Return the plain prompt of `problem`, after `shots` as turns of the same chat, their programs fenced.

    A small chat model that sees fences closes them and ends its turn; shown bare programs, it writes on.
    """
    chat: Messages = [{"role": "system", "content": problem.instruction}]
    for context, question, program in shots:
        chat.append({"role": "user", "content": _ask(context, question)})
        chat.append({"role": "assistant", "content": f"```{problem.family}\n{program}\n```"})
    chat.append({"role": "user", "content": _ask(problem.context, problem.question)})
    return chat


def repair_messages(problem: Problem, program: str) -> Messages:
    """Return the prompt that shows `program` and lets it be repaired or kept (ENVISIONS, self-refine; its L2 rows).

    It holds no feedback from running, as in the published system.
    """
    chat = messages(problem)
    chat[-1]["content"] += f"\n\n{REPAIR}\n{program}"
    return chat


def general_messages(prompt: str) -> Messages:
    """Return the prompt of a general row: the user's words alone."""
    return [{"role": "user", "content": prompt}]


def _ask(context: str, question: str) -> str:
    return f"{context}\n{question}" if context else question
