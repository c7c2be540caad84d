r"""The program in a reply. Pure text: nothing is run, parsed or repaired.

>>> whole("Sure, here it is:\n```sql\nSELECT 1\n```\nIt counts.")
'SELECT 1'

Each family says where a program without a fence ends: `program_of = up_to_a_blank_line`, `whole`, `up_to(PATTERN)`, or
a function of its own that starts from `program`. A weak model writes on and never ends its turn; that is chatter.
"""

import re
import textwrap
from collections.abc import Callable
from typing import NamedTuple

NEXT_TURN = re.compile(
    r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text)\|>|</s>"
    r"|\n(?:Question|User|Human|Problem|Context)[ \t]*:|\n#+[ \t]*(?:Question|Instruction|Input|Response)\b"
)
"""Where a model has begun to write the next turn itself."""
THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
BLOCK = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*[\w+#.-]*[ \t]*\n(.*?)(?:^[ \t]*\1|\Z)", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"\A\s*(`+)([^`\n]+)\1\s*\Z")
LEAD_IN = re.compile(r"\A\s*(?:sure|certainly|of course|okay|ok|here)\b[^\n]*[:!.][ \t]*\n", re.IGNORECASE)
LABEL = re.compile(r"\A\s*(?:final )?(?:answer|program|output|solution|code|sql|actions?)[ \t]*:", re.IGNORECASE)
LABEL_LINE = re.compile(LABEL.pattern + r"[ \t]*\n", re.IGNORECASE)
BLANK_LINE = re.compile(r"\n[ \t]*(?=\n)")


class Found(NamedTuple):
    """The text of a reply without chatter before it, and whether it stood in a fence, which says where it ends."""

    program: str
    fenced: bool


def whole(reply: str) -> str:
    """Return the program in `reply`: its first fenced block, else all of its text."""
    return program(reply).program


def up_to(end: re.Pattern[str]) -> Callable[[str], str]:
    """Return what takes the program out of a reply, one without a fence up to the end of the first match of `end`."""

    def program_of(reply: str) -> str:
        """Return the program in `reply`."""
        found = program(reply)
        match = None if found.fenced else end.search(found.program)
        return found.program[: match.end()].strip() if match else found.program

    return program_of


up_to_a_blank_line = up_to(BLANK_LINE)


def program(reply: str, *, label_alone: bool = False) -> Found:
    """Return the first fenced block of `reply`, else its text without chatter before it.

    Empty if there is nothing. A missing closing fence is forgiven. With `label_alone` a label such as "answer:" is taken
    off only if it is alone on its line, for notations in which `answer: int = 3` is a program.
    """
    text = THOUGHT.sub("", reply.replace("\r\n", "\n"))
    block = BLOCK.search(text)
    if block:
        closed = block.group(0).rstrip().endswith(block.group(1)) and block.end() > block.end(2)
        inside = block.group(2)
        return Found(_tidy(inside if closed else _cut(inside)), fenced=True)
    text = LEAD_IN.sub("", _cut(text))
    text = (LABEL_LINE if label_alone else LABEL).sub("", text)
    inline = INLINE.match(text)
    return Found(_tidy(inline.group(2) if inline else text), fenced=inline is not None)


def _cut(text: str) -> str:
    turn = NEXT_TURN.search(text)
    return text[: turn.start()] if turn else text


def _tidy(text: str) -> str:
    return textwrap.dedent(text).strip()
