"""Problems to messages: the plain prompt, the few-shot prompt, the repair prompt. The same text in training and in sampling.

The chat template is the model's own and is applied by the engine. Gold programs never enter a prompt, and a gold answer
only that of `hinted_messages`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from symbol_llm.ground.params import Feedback
from symbol_llm.ground.records import Messages, Problem, Status
from symbol_llm.judging.verify import Execution

Shot = tuple[str, str, str]
"""Context, question, program."""

FEEDBACK: dict[Status, str] = {
    "accepted": "It is right.",
    "rejected": "It is wrong.",
    "unparsable": "It is not well-formed.",
    "timeout": "It does not end in time.",
    "resource": "It takes too much.",
    "unscored": "",
}
HINT = "The answer is"
MAX_FEEDBACK = 200
"""Characters of what running gave."""
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


def repair_messages(problem: Problem, program: str, feedback: str = "") -> Messages:
    """Return the prompt that shows `program` and lets it be repaired or kept (ENVISIONS, self-refine; its L2 rows).

    Without `feedback` it says nothing of what running gave, as in the published system.
    """
    chat = messages(problem)
    chat[-1]["content"] += f"\n\n{REPAIR}\n{program}" + (f"\n\n{feedback}" if feedback else "")
    return chat


def hinted_messages(problem: Problem, shots: Sequence[Shot] = ()) -> Messages:
    """Return the plain prompt of `problem` with its answer shown (STaR, rationalization); never used where one is scored."""
    chat = messages(problem, shots)
    chat[-1]["content"] += f"\n\n{HINT} {json.dumps(problem.answer, ensure_ascii=False)}"
    return chat


def feedback(status: Status, ran: Execution | None, level: Feedback) -> str:
    """Return what the repair prompt says of a first try: its status, and of what running it gave as much as `level` lets.

    `ran` comes from running without a look at gold, so that no gold is in it either.
    """
    said = "" if level == "none" else FEEDBACK[status]
    if said and ran is not None and level != "status":
        if ran.detail:
            said += f" {ran.detail[:MAX_FEEDBACK]}"
        elif level == "value" and ran.value is not None:
            said += f" It gives {ran.value[:MAX_FEEDBACK]}."
    return said


def general_messages(prompt: str) -> Messages:
    """Return the prompt of a general row: the user's words alone."""
    return [{"role": "user", "content": prompt}]


def _ask(context: str, question: str) -> str:
    return f"{context}\n{question}" if context else question
