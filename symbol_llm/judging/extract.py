r"""The program in a reply. Pure text: nothing is run, parsed or repaired.

>>> program("Sure, here it is:\n```sql\nSELECT 1\n```\nIt counts.", "sql")
'SELECT 1'
"""

import re
import textwrap

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
ENDS: dict[str, re.Pattern[str] | None] = {
    "python": re.compile(r"^answer[ \t]*=[^=].*$", re.MULTILINE),
    "rules": re.compile(r"^(?:query|goal)[ \t]*:.*$", re.MULTILINE | re.IGNORECASE),
    "sql": re.compile(r";[ \t]*(?=\n|\Z)|\n[ \t]*(?=\n)"),
    **dict.fromkeys(("java", "go", "pddl"), None),
}
"""What ends a program by the wording of its task; nothing where there is None, and in families that are not named, a
blank line. A weak model writes on and never ends its turn; that is chatter."""
USED_AGAIN = re.compile(r"\banswer[ \t]*(?:[-+*/%]|//|\*\*)=|=.*\banswer\b|[(\[{,].*\banswer\b|\bdef[ \t]+solution\b")
"""Python that goes on with `answer` after it was first assigned."""


def program(reply: str, family: str) -> str:
    """Return the first fenced block of `reply`, else its text without chatter before and after.

    Empty if there is nothing. A missing closing fence is forgiven. In `python` a label is taken off only if it is alone
    on its line, since `answer: int = 3` is a program.
    """
    text = THOUGHT.sub("", reply.replace("\r\n", "\n"))
    block = BLOCK.search(text)
    if block:
        closed = block.group(0).rstrip().endswith(block.group(1)) and block.end() > block.end(2)
        inside = block.group(2)
        return _tidy(inside if closed else _cut(inside))
    text = LEAD_IN.sub("", _cut(text))
    text = (LABEL_LINE if family == "python" else LABEL).sub("", text)
    inline = INLINE.match(text)
    return _tidy(inline.group(2) if inline else _ended(text, family))


def _ended(text: str, family: str) -> str:
    """Return `text` up to the end of its program."""
    pattern = ENDS.get(family, BLANK_LINE)
    end = pattern.search(text.lstrip()) if pattern else None
    if end is None or (family == "python" and USED_AGAIN.search(text.lstrip(), end.end())):
        return text
    return text.lstrip()[: end.end()]


def _cut(text: str) -> str:
    turn = NEXT_TURN.search(text)
    return text[: turn.start()] if turn else text


def _tidy(text: str) -> str:
    return textwrap.dedent(text).strip()
