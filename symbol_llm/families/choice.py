r"""Short answers in words: an option, a number, a few words. Equal means: the same option, or the same normal text.

    B      (b)      B.      Answer: (B)      (B) Paris      Paris      I think it is (B)      **B**      \boxed{B}

Markup around an answer does not count: **B**, $B$, \boxed{B}, <answer>B</answer>.

With `environment["options"]` the program must choose one: by its letter, by its text, or by both. The options are texts
(lettered A, B, C in order), texts with their letters (["A) Rome", "B) Paris"] or {"A": "Rome"}), or letters alone.
Two different options, or none, are Unparsable; a letter alone means that letter even if it is another option's text.
Gold is `problem.answer` (or else `problem.program`), the letter or text of an option.

Without options, gold is a text, a number, a truth value, or a list any of which will do. Texts are compared as in
SQuAD (Rajpurkar et al. 2016): case, articles, punctuation and white space do not count. Unlike there, signs that carry
meaning do: + * / ^ < > = % $ and the like and, if the text has a digit or such a sign, minus, brackets and `!` too.
Numbers count by value (1,200.0, +1200, 1{,}200 and 1.2e3 are 1200, .5 is 0.5); a dash of any length before a number is its
sign. A leading `Answer:` or the like does not count, nor does the width of a sign (Ｂ is B). Brackets must be balanced, unless the answer consists of closing brackets, as completions of Dyck
words do.

Missed: synonyms, number words, units, 50 % for 0.5; an answer inside a longer text is no answer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any
from unicodedata import normalize

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies

VERSION = 5
METRIC = "exact match"

MAX_CHARS = 10_000
"""Longest reply, for one that begins with a letter and explains it; other answers are far shorter."""
MAX_PASSES = 10
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Environment(Needs):
    """What judging needs besides program and gold."""

    options: dict[str, Any] | list[Any] | None = None
    """Texts, letters, or texts by letter; None: any answer."""


_TAGGED = re.compile(r"<answer>([^<]*)</answer>", re.IGNORECASE)
_WRAPPED = re.compile(
    r"\\boxed\{(?:\\(?:text|mathrm|textbf)\{)?(?P<boxed>[^{}]*)\}{1,2}|\\(?:text|mathrm|textbf)\{(?P<text>[^{}]*)\}"
    r"|\\\((?P<inline>[^\\]*)\\\)|(?<!\w)(?P<stars>\*{1,3}|__)(?=\S)(?P<bold>[^*]*[^*\s])(?P=stars)(?!\w)|\$(?P<letter>[A-Za-z])\$"
)
_PARTS = ("boxed", "text", "inline", "bold", "letter")
_DOLLARS = re.compile(r"\$([^$]*[^$\s])\$\.?")
_SIGN = re.compile(r"[–—](?=\.?\d)")


def program_of(reply: str) -> str:
    """Return the text inside the only pair of answer tags, else the program in `reply`."""
    tagged = {text.strip() for text in _TAGGED.findall(replies.THOUGHT.sub("", reply))}
    return tagged.pop() if len(tagged) == 1 else replies.up_to_a_blank_line(reply)


def canonical(program: str) -> str:
    """Return the normal text; for a letter, with or without brackets, that letter in lower case."""
    if len(program) > MAX_CHARS:
        raise Unparsable(f"{len(program)} characters; expected an option or a short text")
    text = _one_line(program)
    _check_brackets(text)
    for _ in range(MAX_PASSES):  # dropping one part may expose another
        before, text = text, _normal(text)
        if text == before:
            break
    if not re.search(r"[^\W_]", text) and not _CLOSING.fullmatch(text):
        raise Unparsable(f"no word or number in {program.strip()[:40]!r}")
    return text


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the letter of the chosen option, or the normal text where there are no options."""
    form = canonical(program)
    options = _options(problem)
    return Ran(form if options is None else _chosen(program, options))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` chooses the gold option or is a gold text, else 0.0."""
    found = run(program, problem, limits).value
    options = _options(problem)
    answer = problem.program if problem.answer is None else problem.answer
    golds = [str(gold) for gold in (answer if isinstance(answer, list) else [answer]) if isinstance(gold, _SCALAR)]
    try:
        accepted = [canonical(gold) if options is None else _chosen(gold, options) for gold in golds]
    except Unparsable as e:  # gold is ours
        raise InvalidInput(f"problem {problem.id}: gold {answer!r}: {e}") from e
    if not accepted:
        raise InvalidInput(f"problem {problem.id}: answer {answer!r}; expected a text, a number or a list of them")
    return Result(float(found in accepted), found)


_SCALAR = (str, int, float)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield other letters for a letter, other numbers for a number, else words removed, added, cut or swapped."""
    form = canonical(program)
    words = form.split()
    if _LETTER_ALONE.fullmatch(form):
        changed = [letter for letter in LETTERS[:6] if letter.lower() != form]
    elif _NUMBER.fullmatch(form):
        changed = [f"{form}5", f"1{form.lstrip('-')}", f"{form} 1"]
        changed += [form[1:] if form[0] == "-" else f"-{form}"] if form != "0" else []
    else:
        changed = [f"not {form}", f"{form} {words[-1]}"]
        changed += [form[:-1]] if form[-1].isalpha() and len(words[-1]) > 2 else []
        changed += [" ".join(words[:n] + words[n + 1 :]) for n in range(len(words)) if len(words) > 1]
        for n in range(1, len(words)):
            if words[n] != words[n - 1]:
                changed.append(" ".join([*words[: n - 1], words[n], words[n - 1], *words[n + 1 :]]))
    rng.shuffle(changed)
    yield from changed


# --- normal text ------------------------------------------------------------------------------------------------------

_LEAD_IN = re.compile(
    r"(?:so|thus|therefore|hence)?,? ?(?:the |my )?(?:final |correct |right |best )?(?:answer|option|choice)(?: ?[:=] ?| (?:is|was)(?: ?: ?| ))(?=\S)",
    re.IGNORECASE,
)
_CHOOSES = re.compile(
    r"\A(?:i(?:(?: would| will|['’]d|['’]ll) | )(?:choose|pick|select|go with)|(?:i (?:think|believe) )?it(?:['’]s| is)|(?=option|choice))(?: |\b)(?:option |choice )?",
    re.IGNORECASE,
)
_LETTER_ALONE = re.compile(r"\(([A-Za-z])\)[.:]?|\[([A-Za-z])\]|([A-Za-z])[).:]{0,2}")
_LETTER_FIRST = re.compile(r"(?:\(([A-Za-z])\)|\[([A-Za-z])\]|([A-Za-z])\))[.:]? ?(?=\S)|([A-Za-z])[.:] (?=\S)")
_LETTER_THEN_TEXT = re.compile(
    r"(?:option |choice )?(?:\(([A-Za-z])\)|\[([A-Za-z])\]|([A-Za-z])(?:\)|(?=[.:,]| [-–—])))(?:[.:,]| ?[-–—])? (?=\S)",
    re.IGNORECASE,
)
"""Where there are options, the letter of one and whatever sets it off from its text."""
_CLOSING = re.compile(r"[)\]}>](?: ?[)\]}>])*")
_MATHS = re.compile(r"[\d+*/^<>=√∑∫≤≥≠±×÷]")
_NUMBER = re.compile(
    r"(?<![\w)\]}.])-?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:e[-+]?\d{1,2})?(?!\w|\.\d|,\d{3})", re.IGNORECASE
)
_POWER_OF_TEN = re.compile(r"(?<=\d) ?(?:×|\\times|\\cdot|·) ?10 ?\^ ?(?:\{([-+]?\d{1,2})\}|([-+]?\d{1,2}))(?!\d)")
_GROUPED = re.compile(r"(?<=\d)(?:\{,\}|,?\\[!,]|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))")
"""Separators of thousands that can be nothing else."""
_TOKEN = re.compile(rf"({_NUMBER.pattern})|([^\W_]+(?:['’][^\W_]+)*)|(\S)")
_PLUS = re.compile(r"\A(?:= ?)?\+?(?=\.?\d)")
"""Signs before a number at the beginning of a text that leave it as it is."""
_HEADING = re.compile(r"\A\s*#{1,6}[ \t]+")
_MINUS = str.maketrans("−‐‑", "---")
_NEVER = set(".,;:?\"'`“”‘’…_–—")
_IN_WORDS = set("-()[]{}!")
"""Signs that are also dropped if the text has neither a digit nor a mathematical sign."""
_ARTICLES = ("a", "an", "the")
_PAIRS = {")": "([", "]": "([", "}": "{"}
"""The opening brackets that a bracket may close; an interval such as [0, 1) is half open."""


def _one_line(program: str) -> str:
    """Return the text with single spaces; a letter alone on the first line is set off from the rest by brackets."""
    text = _GROUPED.sub(",", _wide_signs_made_plain(_unwrapped(program)))
    text = _POWER_OF_TEN.sub(lambda found: f"e{found[1] or found[2]}", text)
    lines = [" ".join(_HEADING.sub("", line).split()) for line in text.splitlines() if line.strip()]
    alone = _LETTER_ALONE.fullmatch(_without_lead_in(lines[0])) if len(lines) > 1 else None
    return " ".join([f"({_letter(alone)})", *lines[1:]] if alone else lines)


def _wide_signs_made_plain(text: str) -> str:
    return "".join(
        normalize("NFKC", sign) if "\uff01" <= sign <= "\uff5e" or "Ⓐ" <= sign <= "ⓩ" else sign for sign in text
    )


def _unwrapped(text: str) -> str:
    """Return `text` without the markup of an answer: stars, dollars, a box, tags."""
    for _ in range(MAX_PASSES):
        before = text
        tagged = _TAGGED.findall(text)
        text = tagged[0] if len(tagged) == 1 else text
        text = _WRAPPED.sub(lambda found: next(found[name] for name in _PARTS if found[name] is not None), text).strip()
        dollars = _DOLLARS.fullmatch(text)
        text = dollars[1] if dollars else text
        if text == before:
            break
    return text


def _without_lead_in(text: str) -> str:
    at = 0
    while lead := _LEAD_IN.match(text, at):
        at = lead.end()
    return text[at:]


def _normal(text: str) -> str:
    """Return `text` after one pass of dropping the parts that do not count."""
    text = _PLUS.sub("", _without_lead_in(_SIGN.sub("-", text.translate(_MINUS))))
    alone = _LETTER_ALONE.fullmatch(text)
    if alone:
        return _letter(alone).lower()
    if _CLOSING.fullmatch(text):
        return " ".join(text.replace(" ", ""))
    letter = []
    first = _LETTER_FIRST.match(text)
    if first and (_letter(first) == "A" or not first[4]):  # the letter of an option, not an article
        letter, text = [f"({_letter(first).lower()})"], text[first.end() :]
    is_maths = bool(_MATHS.search(text))
    tokens = []
    for number, word, sign in _TOKEN.findall(text.lower()):
        if number or word:
            tokens.append(_value(number) if number else re.sub("['’]", "", word))
        elif sign not in _NEVER and (is_maths or sign not in _IN_WORDS):
            tokens.append(sign)
    kept = [token for token in tokens if token not in _ARTICLES]
    return " ".join(letter + (tokens if is_maths or not kept else kept))


def _value(number: str) -> str:
    digits = number.lower().lstrip("-").replace(",", "")
    whole, _, part = (f"{Decimal(digits):f}" if "e" in digits else digits).partition(".")
    text = f"{whole.lstrip('0') or '0'}.{part}".rstrip("0").rstrip(".") if part else whole.lstrip("0") or "0"
    return f"-{text}" if number[0] == "-" and text != "0" else text


def _check_brackets(text: str) -> None:
    if _CLOSING.fullmatch(text) or _LETTER_ALONE.fullmatch(text):
        return
    first = _LETTER_FIRST.match(_without_lead_in(text))
    skipped = len(text) - len(first.string) + first.end() if first else 0
    open_: list[tuple[str, int]] = []
    for column, sign in enumerate(text[skipped:], skipped + 1):
        if sign in "([{":
            open_.append((sign, column))
        elif sign in _PAIRS and (not open_ or open_.pop()[0] not in _PAIRS[sign]):
            raise Unparsable(f"column {column}: {sign!r} closes nothing; expected an option or a short text")
    if open_:
        raise Unparsable(f"column {open_[0][1]}: {open_[0][0]!r} is never closed; expected an option or a short text")


# --- options ----------------------------------------------------------------------------------------------------------

_NAMED = re.compile(r"[(\[]([A-Za-z])[)\]]|\b(?:answer|option|choice) (?:is )?([A-Z])\b")
_DENIED = re.compile(
    r"(?:\b(?:not|never|neither|nor|except|(?:anything|everything|all) but|rather than|instead of)|n['’]t)\b[^.,;:!?]*(?:[(\[][A-Z][)\]]|\b(?:answer|option|choice) [A-Z]\b)"
    r"|[(\[][A-Z][)\]] (?:is|was) (?:wrong|false|incorrect)\b"
    r"|[(\[][A-Z][)\]] (?:is|was)(?: not|n['’]t) (?:the )?(?:right|correct|true|answer)\b",
    re.IGNORECASE,
)
"""Matches words that rule a letter out as the answer."""


def _options(problem: Problem) -> dict[str, str] | None:
    """Return the options by letter; texts are empty where only letters are given."""
    given = needs(problem, Environment).options
    if given is None:
        return None
    if isinstance(given, Mapping):
        options = {str(letter).upper(): str(text) for letter, text in given.items()}
    else:
        texts = [" ".join(str(text).split()) for text in given]
        letters = [_LETTER_FIRST.match(text) for text in texts]
        if all(_LETTER_ALONE.fullmatch(text) for text in texts):
            options = {canonical(text).upper(): "" for text in texts}
        elif [_letter(first) for first in letters] == list(LETTERS[: len(texts)]):
            options = {_letter(first): text[first.end() :] for first, text in zip(letters, texts, strict=True) if first}
        else:
            options = dict(zip(LETTERS, texts, strict=False))
    if len(options) < 2 or len(options) != len(given) or not all(letter in LETTERS for letter in options):
        raise InvalidInput(f"problem {problem.id}: options {given!r}; expected 2 to 26 texts or letters")
    return options


def _letter(match: re.Match[str] | None) -> str:
    return next(filter(None, match.groups()), "").upper() if match else ""


def _chosen(program: str, options: Mapping[str, str]) -> str:
    """Return the letter of the option that `program` names; Unparsable if it names none or several."""
    text = _without_lead_in(_one_line(program)).strip("\"'“”‘’")
    alone = _letter(_LETTER_ALONE.fullmatch(_CHOOSES.sub("", text)))
    if alone in options:
        return alone
    set_off = _LETTER_THEN_TEXT.match(text)
    by_text = _with_text(text, options)
    if by_text and not (set_off and _letter(set_off) in options):
        return by_text
    first = _LETTER_FIRST.match(text)
    named = {_letter(match) for match in _NAMED.finditer(text)} & options.keys()
    if set_off and not first and (other := _with_text(text[set_off.end() :], options)):
        named |= {_letter(set_off), other} & options.keys()
    if first and _letter(first) in options:
        rest = text[first.end() :]
        named |= {_letter(first), _letter(_LETTER_ALONE.fullmatch(rest)), _with_text(rest, options)} & options.keys()
    if len(named) == 1 and _DENIED.search(text):
        raise Unparsable(f"an option denied in {text[:40]!r}; expected one of {', '.join(options)}")
    if len(named) != 1:
        what = f"options {', '.join(sorted(named))} at once" if named else "no option"
        raise Unparsable(f"{what} in {text[:40]!r}; expected one of {', '.join(options)}")
    return named.pop()


def _with_text(text: str, options: Mapping[str, str]) -> str:
    """Return the letter of the only option with that text, verbatim or else in normal form; empty if there is none."""
    for form in (str.lower, _form):
        wanted = form(text)
        found = [letter for letter, option in options.items() if option and wanted and form(option) == wanted]
        if len(found) == 1:
            return found[0]
    return ""


def _form(text: str) -> str:
    try:
        return canonical(text)
    except Unparsable:
        return ""


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="choice", split="train", instruction="Answer with the letter of the right option.",
        question="Which is the capital of France? (A) Rome (B) Paris (C) Bonn", answer="B", program="B",
        environment={"options": ["Rome", "Paris", "Bonn"]}, source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", "B", 1.0),
    _example("letter and text", "Answer: (b) Paris.", 1.0),
    _example("text of the option", "paris", 1.0),
    _example("another letter", "C", 0.0),
    _example("another text", "Rome", 0.0),
    _example("two letters", "A or B: (A) (B)", None),
    _example("letter and text that differ", "B) Rome", None),
    _example("no option", "Lyon", None),
)
