r"""The program in a reply. Nothing is run or repaired.

>>> whole("Sure, here it is:\n```sql\nSELECT 1\n```\nIt counts.")
'SELECT 1'

Each family decides where a program without a fence ends. If it has a parser, the program is the whole text if that
parses, else as many of its first lines as parse: `program_of = that_parses(parse)`. Otherwise `up_to_a_blank_line`,
`whole`, `up_to(PATTERN)`, or a function of its own that starts from `program`.
"""

import re
import textwrap
from collections.abc import Callable, Iterator
from typing import NamedTuple

from symbol_llm.ground.errors import Unparsable

NEXT_TURN = re.compile(
    r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text)\|>|</s>"
    r"|\n(?:Question|User|Human|Problem|Context)[ \t]*:|\n\[STATEMENT\]|\n#+[ \t]*(?:Question|Instruction|Input|Response)\b"
)
"""Matches where a model has begun to write the next turn itself."""
THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
BLOCK = re.compile(
    r"^(?:[ \t]*|[^\n`]{1,200}[:!.][ \t]+)(```+|~~~+)[ \t]*[\w+#.-]*[ \t]*\n(.*?)(?:^[ \t]*\1|\Z)",
    re.DOTALL | re.MULTILINE,
)
"""Matches a block in a fence, which may open behind the words before it."""
_LANGUAGES = (
    "sql|sparql|cypher|python|bash|regex|smiles|amr|pddl|plan|fol|lisp|lispress|json|java|go|code|program|formula|query"
)
LANGUAGE = re.compile(rf"\A\s*(?:{_LANGUAGES})[ \t]*\n")
"""Matches what is left of a fence that was opened in the prompt."""
LONE_FENCE = re.compile(r"(?<=[^\s:.!?])\s*\n```[ \t]*(?:\n|\Z)")
"""Matches a fence that closes what the prompt opened; one behind a colon or a sentence opens."""
TAGGED = re.compile(
    rf"\A\s*<(?P<tag>{_LANGUAGES}|command|solution|triples)>(.*?)</(?P=tag)>", re.DOTALL | re.IGNORECASE
)
INLINE = re.compile(r"\A\s*(`+)([^`\n]+)\1\s*\Z")
LEAD_IN = re.compile(r"\A\s*(?:sure|certainly|of course|okay|ok|here)\b[^\n]*[:!.][ \t]*\n", re.IGNORECASE)
LABEL = re.compile(
    r"\A\s*(?:here(?: is|['’]s) )?(?:the )?(?:final )?(?:answer|program|output|solution|code|actions?|plan|formula|fol|first-order logic(?: formula)?"
    r"|regex|regular expression|smiles|command|amr(?: graph)?|mrl|lispress|parse(?: tree)?|logic(?:al)? forms?|triples"
    r"|(?:sql|sparql|cypher)(?: query)?"
    r"|query(?=[ \t]*:\s*(?:(?:select|with|ask|prefix|match)\b|(?:query|dist)\()))(?: is)?[ \t]*:",
    re.IGNORECASE,
)
LABEL_LINE = re.compile(LABEL.pattern + r"[ \t]*\n", re.IGNORECASE)
BLANK_LINE = re.compile(r"\n[ \t]*(?=\n)")
BEHIND_A_BLOCK = re.compile(r"(?<=\})(?:[ \t]*\n){2,9}(?=[A-Z][a-z]*[:,]? [a-z]+(?: [a-z]|[.:]))")
"""Matches between a closing brace and a sentence, with a blank line or more between them."""
GOES_ON = re.compile(
    r"[)\]},:;&|~¬∀∃]|[(\[](?![A-Z][a-z']*:?[ ]+[a-z])|\w+\(|\w\)|AND\b|(?:[\w:,]+ )*[-=]>|(?:all|exists)[ ]\w+[.]"
)
"""Matches where a formal text goes on, though badly, rather than prose begins: at a sign, a call, an option's letter."""
MAX_LINES = 40
"""Most prefixes of a text that are tried."""
MAX_CHARS = 8192
"""Longest text, in characters, in which the program may end at any line."""


class Found(NamedTuple):
    """The text of a reply without leading chatter, and whether it was in a fence, which marks its end."""

    program: str
    fenced: bool


def whole(reply: str) -> str:
    """Return the program in `reply`: its first fenced block, else the whole text."""
    return program(reply).program


def up_to(end: re.Pattern[str]) -> Callable[[str], str]:
    """Return a function that extracts a reply's program; without a fence, it ends with the first match of `end`."""

    def program_of(reply: str) -> str:
        """Return the program in `reply`."""
        found = program(reply)
        match = None if found.fenced else end.search(found.program)
        return found.program[: match.end()].strip() if match else found.program

    return program_of


up_to_a_blank_line = up_to(BLANK_LINE)


def that_parses(
    parse: Callable[[str], object], *, label_alone: bool = False, goes_on: re.Pattern[str] = GOES_ON
) -> Callable[[str], str]:
    """Return a function that extracts a reply's program: the whole text if it parses, else the longest such prefix.

    A prefix ends with a line. What follows it is prose unless it begins as `goes_on` says: then the whole text is the
    program, and ill-formed. If no prefix parses, the program ends at the first blank line, so that the reported fault is
    the program's and not that of the prose after it. `parse` raises Unparsable.
    """

    def takes(text: str) -> bool:
        try:
            parse(text)
        except Unparsable:
            return False
        return True

    def program_of(reply: str) -> str:
        """Return the program in `reply`."""
        found = program(reply, label_alone=label_alone)
        if found.fenced or takes(found.program):
            return found.program
        start = next((text for text in _beginnings(found.program) if takes(text)), None)
        if start is None:
            return _up_to_a_blank_line(found.program)
        return found.program if goes_on.match(found.program[len(start) :].lstrip()) else start

    return program_of


def _beginnings(text: str) -> Iterator[str]:
    """Yield the prefixes of `text` that end with a line, longest first, if it has at most MAX_LINES lines with words.

    For a longer text, yield those that end before a blank line, at most MAX_LINES of them.
    """
    lines = text.split("\n")
    full = [n for n, line in enumerate(lines) if line.strip()]
    if len(full) > MAX_LINES or len(text) > MAX_CHARS:
        full = [n for n in full if n + 1 < len(lines) and not lines[n + 1].strip()][:MAX_LINES]
    for n in reversed(full):
        if n + 1 < len(lines):
            yield "\n".join(lines[: n + 1]).strip()


def _up_to_a_blank_line(text: str) -> str:
    match = BLANK_LINE.search(text)
    return text[: match.end()].strip() if match else text


def program(reply: str, *, label_alone: bool = False) -> Found:
    """Return the first fenced block of `reply`, else what is between tags such as `<sql>`, else its text without chatter.

    Empty if there is nothing. A missing closing fence is tolerated. With `label_alone`, a label such as "answer:" is
    removed only if it is alone on its line, for notations in which `answer: int = 3` is a program.
    """
    text = THOUGHT.sub("", reply.replace("\r\n", "\n"))
    end = LONE_FENCE.search(text) if text.count("```") == 1 else None
    if end:
        return Found(_tidy(LANGUAGE.sub("", text[: end.start()])), fenced=True)
    block = BLOCK.search(text)
    if block:
        closed = block.group(0).rstrip().endswith(block.group(1)) and block.end() > block.end(2)
        inside = block.group(2)
        return Found(_tidy(inside if closed else _cut(inside)), fenced=True)
    text = LEAD_IN.sub("", _cut(text))
    text = (LABEL_LINE if label_alone else LABEL).sub("", text)
    tagged = TAGGED.match(text)
    if tagged:
        return Found(_tidy(tagged.group(2)), fenced=True)
    inline = INLINE.match(text)
    return Found(_tidy(inline.group(2) if inline else text), fenced=inline is not None)


def _cut(text: str) -> str:
    turn = NEXT_TURN.search(text)
    return text[: turn.start()] if turn else text


def _tidy(text: str) -> str:
    return textwrap.dedent(text).strip()
