"""Small functions with one meaning, in words and in Python, Java or Go.

A meaning is a pipe over a list (tests, a change, an aggregate), two of them joined, or arithmetic over numbers. Words and
program are written from it, and the results of test calls are computed from it: no program is run here.
"""

from __future__ import annotations

import itertools
import operator
import random
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

Language = Literal["python", "java", "go"]
TYPES = {
    "java": {"int": "int", "text": "String", "bool": "boolean", "int list": "int[]", "text list": "String[]"},
    "go": {"int": "int", "text": "string", "bool": "bool", "int list": "[]int", "text list": "[]string"},
}


class Function(NamedTuple):
    """A function, in words and in one language."""

    name: str
    signature: str
    words: str
    text: str
    tests: dict[str, str]
    """Results by arguments, both as Python source."""


def draw(rng: random.Random, language: Language, level: int, words: Mapping[str, Any]) -> Function:
    """Return a function; `words` are `numbers`, `texts` and `scalars`. Half of level 1 is arithmetic."""
    make = _of_numbers if rng.random() < (0.5, 0.25, 0.15)[level - 1] else _over_list
    return make(rng, language, level, words)


class Piece(NamedTuple):
    """A test or a change of one value {x}: in words, in each language, and as a function."""

    words: str
    python: str
    java: str
    go: str
    does: Callable[[Any], Any]
    gives: str = "bool"


def _unlike(words: str, python: str, braced: str, does: Callable[[Any], Any], gives: str = "bool") -> Piece:
    return Piece(words, python, braced, braced, does, gives)


def _alike(words: str, code: str, does: Callable[[Any], Any], gives: str = "bool") -> Piece:
    return Piece(words, code, code, code, does, gives)


def _number_tests(k: int, m: int) -> tuple[list[Piece], ...]:
    """Return tests in groups; tests of different groups never exclude each other."""
    d = (3, 5, 7, 9, 11)[m % 5]
    low, high = min(k, m), max(k, m) + 2
    return (
        [_alike("are even", "{x} % 2 == 0", lambda x: x % 2 == 0), _alike("are odd", "{x} % 2 != 0", lambda x: x % 2 == 1)],
        [
            _alike(f"are divisible by {d}", f"{{x}} % {d} == 0", lambda x: x % d == 0),
            _alike(f"are not divisible by {d}", f"{{x}} % {d} != 0", lambda x: x % d > 0),
        ],
        [
            _alike(f"are greater than {k}", f"{{x}} > {k}", lambda x: x > k),
            _alike(f"are less than {k}", f"{{x}} < {k}", lambda x: x < k),
            _alike(f"are at least {k}", f"{{x}} >= {k}", lambda x: x >= k),
            _alike(f"are at most {k}", f"{{x}} <= {k}", lambda x: x <= k),
            _alike(f"are different from {k}", f"{{x}} != {k}", lambda x: x != k),
            _alike("are negative", "{x} < 0", lambda x: x < 0),
            _alike("are positive", "{x} > 0", lambda x: x > 0),
            _unlike(f"lie between {low} and {high}", f"{low} <= {{x}} <= {high}", f"{{x}} >= {low} && {{x}} <= {high}",
                    lambda x: low <= x <= high),
        ],
    )  # fmt: skip


def _text_tests(k: int, letters: list[str]) -> tuple[list[Piece], ...]:
    n, (first, last, inner) = 3 + k % 5, letters
    return (
        [
            Piece(f"are longer than {n} characters", f"len({{x}}) > {n}", f"{{x}}.length() > {n}", f"len({{x}}) > {n}",
                  lambda x: len(x) > n),
            Piece(f"are shorter than {n} characters", f"len({{x}}) < {n}", f"{{x}}.length() < {n}", f"len({{x}}) < {n}",
                  lambda x: len(x) < n),
            Piece(f"have exactly {n} characters", f"len({{x}}) == {n}", f"{{x}}.length() == {n}", f"len({{x}}) == {n}",
                  lambda x: len(x) == n),
        ],
        [Piece(f"start with '{first}'", f"{{x}}.startswith('{first}')", f'{{x}}.startsWith("{first}")',
               f'strings.HasPrefix({{x}}, "{first}")', lambda x: x[:1] == first)],
        [Piece(f"end with '{last}'", f"{{x}}.endswith('{last}')", f'{{x}}.endsWith("{last}")',
               f'strings.HasSuffix({{x}}, "{last}")', lambda x: x[-1:] == last)],
        [Piece(f"contain '{inner}'", f"'{inner}' in {{x}}", f'{{x}}.contains("{inner}")',
               f'strings.Contains({{x}}, "{inner}")', lambda x: x.count(inner) > 0)],
    )  # fmt: skip


def _number_changes(k: int) -> list[Piece]:
    return [
        _alike("the squares of", "{x} * {x}", lambda x: x**2, "int"),
        _alike("the negatives of", "-{x}", lambda x: 0 - x, "int"),
        _alike(f"{k} times", f"{{x}} * {k}", lambda x: k * x, "int"),
        _alike(f"{k} more than", f"{{x}} + {k}", lambda x: k + x, "int"),
        _alike(f"{k} less than", f"{{x}} - {k}", lambda x: x - k, "int"),
    ]


def _text_changes(letter: str) -> list[Piece]:
    end = letter * 2
    return [
        Piece("the lengths of", "len({x})", "{x}.length()", "len({x})", len, "int"),
        Piece("in upper case", "{x}.upper()", "{x}.toUpperCase()", "strings.ToUpper({x})", str.upper, "text"),
        Piece("in lower case", "{x}.lower()", "{x}.toLowerCase()", "strings.ToLower({x})", str.lower, "text"),
        _unlike(f"with '{end}' put behind", f"{{x}} + '{end}'", f'{{x}} + "{end}"', lambda x: f"{x}{end}", "text"),
        _unlike(f"with '{letter}' put in front", f"'{letter}' + {{x}}", f'"{letter}" + {{x}}', lambda x: f"{letter}{x}", "text"),
    ]  # fmt: skip


class Pipe(NamedTuple):
    """An aggregate over the changed values of a list that pass the tests."""

    kind: str
    """Type of a value: `int` or `text`."""
    aggregate: str
    tests: tuple[Piece, ...]
    change: Piece | None
    separator: str = ""

    def gives(self) -> str:
        """Return the type of the result."""
        changed = self.change.gives if self.change else self.kind
        fixed = {"sum": "int", "count": "int", "any": "bool", "all": "bool", "join": "text"}
        return fixed.get(self.aggregate, f"{changed} list")

    def passes(self, value: Any) -> bool:
        """Return whether `value` passes every test."""
        return all(test.does(value) for test in self.tests)

    def run(self, values: list[Any]) -> Any:
        """Return the result of the pipe on `values`."""
        verdicts = [self.passes(value) for value in values]
        if self.aggregate in ("any", "all"):
            return (True in verdicts) if self.aggregate == "any" else (False not in verdicts)
        kept = [value for value, good in zip(values, verdicts, strict=True) if good]
        changed = [self.change.does(value) for value in kept] if self.change else kept
        results = {"list": changed, "count": len(changed)}
        if self.aggregate == "join":
            return self.separator.join(changed)
        return sum(changed) if self.aggregate == "sum" else results[self.aggregate]

    def words(self, plural: str) -> str:
        """Return the requested result, as a noun phrase or `whether ...`."""
        clause = " and ".join(test.words for test in self.tests)
        if self.aggregate in ("any", "all"):
            return f"whether {'some' if self.aggregate == 'any' else 'all'} {plural} {clause}"
        items = f"the {plural}{f' that {clause}' if clause else ''}"
        if self.change:
            before = self.change.words.startswith("the ") or self.change.words[0].isdigit()
            items = f"{self.change.words} {items}" if before else f"{items}, {self.change.words}"
        if self.aggregate == "join":
            return f"one string of {items}, joined by '{self.separator}'"
        heads = {"sum": "the sum of ", "count": "the number of ", "list": "a list of "}
        return f"{heads[self.aggregate]}{items}"


def _pipe(rng: random.Random, kind: str, *, n_tests: int, gives: str = "", changed: float = 0.5) -> Pipe:
    """Draw a pipe over values of `kind`; `gives` fixes its type."""
    k, m, letters = rng.randint(2, 40), rng.randint(2, 40), rng.sample("aeiorstnmlbcdp", 4)
    groups = _number_tests(k, m) if kind == "int" else _text_tests(k, letters[:3])
    tests = tuple(rng.choice(group) for group in rng.sample(groups, n_tests))
    changes = _number_changes(rng.randint(2, 20)) if kind == "int" else _text_changes(letters[3])
    choices = ["sum", "count", "list", "list"] if kind == "int" else ["count", "list", "list", "join", "sum"]
    choices += ["any", "all"] if n_tests else []
    aggregate = rng.choice([c for c in choices if not gives or gives in (c, "int" if c in ("sum", "count") else c)])
    change = rng.choice(changes) if rng.random() < changed and aggregate in ("sum", "list", "join") else None
    if kind == "text" and aggregate == "sum":
        change = changes[0]
    if kind == "text" and aggregate == "join" and change == changes[0]:
        change = changes[1]
    if aggregate in ("list", "join") and not (tests or change):
        change = changes[1]
    return Pipe(kind, aggregate, tests, change, rng.choice((", ", "-", " ", "; ", "/")))


class Meaning(NamedTuple):
    """Meaning of a function: one pipe, or two that are added, subtracted, or chosen by the number of values."""

    first: Pipe
    second: Pipe | None = None
    joint: str = ""
    """`+`, `-` or `if`."""
    limit: int = 0

    def run(self, values: list[Any]) -> Any:
        """Return the result."""
        if self.second is None:
            return self.first.run(values)
        if self.joint == "if":
            return (self.first if len(values) > self.limit else self.second).run(values)
        return {"+": operator.add, "-": operator.sub}[self.joint](self.first.run(values), self.second.run(values))

    def words(self, plural: str) -> str:
        """Return the request."""
        one = self.first.words(plural)
        if self.second is None:
            return f"Return {one}."
        two = self.second.words(plural)
        if self.joint == "if":
            return f"If there are more than {self.limit} {plural}, return {one}; otherwise return {two}."
        return f"Return {one} {'plus' if self.joint == '+' else 'minus'} {two}."


def _meaning(rng: random.Random, level: int) -> Meaning:
    kind = rng.choice(("int", "int", "text"))
    if level < 3:
        n_tests = rng.choice((1, 1, 2)) if level == 2 else rng.choice((0, 1))
        return Meaning(_pipe(rng, kind, n_tests=n_tests, changed=0.7 if level == 2 or not n_tests else 0.0))
    if rng.random() < 0.5:
        one, two = (_pipe(rng, kind, n_tests=rng.choice((1, 2)), gives="int", changed=0.6) for _ in range(2))
        return Meaning(one, two, rng.choice("+-"))
    one = _pipe(rng, kind, n_tests=rng.choice((1, 2)), changed=0.6)
    two = _pipe(rng, kind, n_tests=1, changed=0.6)
    while two.gives() != one.gives() or two.words("") == one.words(""):
        two = _pipe(rng, kind, n_tests=1, changed=0.6)
    return Meaning(one, two, "if", rng.randint(1, 9))


def _python_value(pipe: Pipe, xs: str, x: str) -> str:
    test = " and ".join(t.python.format(x=x) for t in pipe.tests)
    value = pipe.change.python.format(x=x) if pipe.change else x
    loop = f"for {x} in {xs}" + (f" if {test}" if test else "")
    if pipe.aggregate in ("any", "all"):
        return f"{pipe.aggregate}({test} for {x} in {xs})"
    if pipe.aggregate == "count":
        return f"sum(1 {loop})" if test else f"len({xs})"
    if pipe.aggregate == "sum":
        return f"sum({value} {loop})" if test or pipe.change else f"sum({xs})"
    if pipe.aggregate == "join":
        return f"{pipe.separator!r}.join({value} {loop})"
    return f"[{value} {loop}]"


def _python(name: str, meaning: Meaning, xs: str, x: str) -> str:
    one = _python_value(meaning.first, xs, x)
    lines = [f"return {one}"]
    if meaning.second:
        two = _python_value(meaning.second, xs, x)
        lines = [f"return {one} {meaning.joint} {two}"]
        if meaning.joint == "if":
            lines = [f"if len({xs}) > {meaning.limit}:", f"    return {one}", f"return {two}"]
    return "\n".join([f"def {name}({xs}):", *(f"    {line}" for line in lines)])


class Braces(NamedTuple):
    """The syntax that differs between Java and Go."""

    language: str
    start: dict[str, str]
    """By type, the declaration of an empty variable {v}."""
    loop: str
    add: str
    """The statement that appends {value} to the list {v}."""
    joined: str
    size: str
    opened: str
    closed: str
    end: str


BRACES = {
    "java": Braces(
        "java",
        {"int": "int {v} = 0;", "text list": "List<String> {v} = new ArrayList<>();", "int list": "List<Integer> {v} = new ArrayList<>();"},
        "for ({type} {x} : {xs}) {{", "{v}.add({value});", 'String.join("{separator}", {v})', "{xs}.length", "(", ")", ";",
    ),
    "go": Braces(
        "go",
        {"int": "{v} := 0", "text list": "{v} := []string{{}}", "int list": "{v} := []int{{}}"},
        "for _, {x} := range {xs} {{", "{v} = append({v}, {value})", 'strings.Join({v}, "{separator}")', "len({xs})", "", "", "",
    ),
}  # fmt: skip


def _block(b: Braces, pipe: Pipe, xs: str, x: str, v: str) -> tuple[list[str], str]:
    """Return the statements of a pipe, and the expression for its result after them."""
    texts = [getattr(t, b.language).format(x=x) for t in pipe.tests]
    test = " && ".join(texts)
    value = getattr(pipe.change, b.language).format(x=x) if pipe.change else x
    loop = b.loop.format(type=TYPES[b.language][pipe.kind], x=x, xs=xs)
    if pipe.aggregate in ("any", "all"):
        found = pipe.aggregate == "any"
        hit = test if found else f"!({test})"
        inside = [f"if {b.opened}{hit}{b.closed} {{", f"    return {str(found).lower()}{b.end}", "}"]
        return [loop, *(f"    {line}" for line in inside), "}"], str(not found).lower()
    held = "int" if pipe.aggregate in ("sum", "count") else f"{pipe.change.gives if pipe.change else pipe.kind} list"
    step = {"sum": f"{v} += {value}{b.end}", "count": f"{v}++{b.end}"}.get(
        pipe.aggregate, b.add.format(v=v, value=value)
    )
    inside = [f"if {b.opened}{test}{b.closed} {{", f"    {step}", "}"] if test else [step]
    lines = [b.start[held].format(v=v), loop, *(f"    {line}" for line in inside), "}"]
    return lines, b.joined.format(separator=pipe.separator, v=v) if pipe.aggregate == "join" else v


def _braced(b: Braces, signature: str, meaning: Meaning, xs: str, x: str) -> str:
    first, one = _block(b, meaning.first, xs, x, "result")
    lines = [*first, f"return {one}{b.end}"]
    if meaning.second and meaning.joint == "if":
        second, two = _block(b, meaning.second, xs, x, "other")
        head = f"if {b.opened}{b.size.format(xs=xs)} > {meaning.limit}{b.closed} {{"
        lines = [head, *(f"    {line}" for line in lines), "}", *second, f"return {two}{b.end}"]
    elif meaning.second:
        second, two = _block(b, meaning.second, xs, x, "other")
        lines = [*first, *second, f"return {one} {meaning.joint} {two}{b.end}"]
    return "\n".join([f"{signature} {{", *(f"    {line}" for line in lines), "}"])


VERBS = {
    "sum": ("total", "sum of", "add up"), "count": ("count", "tally", "number of"), "list": ("pick", "select", "collect"),
    "any": ("has some", "any of"), "all": ("check all", "all of"), "join": ("join", "merge", "write out"),
}  # fmt: skip


def _named(words: list[str], language: str) -> str:
    parts = " ".join(words).split()
    return "_".join(parts) if language == "python" else parts[0] + "".join(part.title() for part in parts[1:])


def _over_list(rng: random.Random, language: Language, level: int, words: Mapping[str, Any]) -> Function:
    meaning = _meaning(rng, level)
    kind = meaning.first.kind
    plural, singular = rng.choice(words["numbers" if kind == "int" else "texts"])
    name = _named([rng.choice(VERBS[meaning.first.aggregate]), plural], language)
    gives = meaning.first.gives()
    if language == "python":
        signature, program = f"def {name}({plural}):", _python(name, meaning, plural, singular)
    else:
        types = TYPES[language]
        result = types[gives]
        if language == "java":
            result = {"int list": "List<Integer>", "text list": "List<String>"}.get(gives, result)
            signature = f"static {result} {name}({types[f'{kind} list']} {plural})"
        else:
            signature = f"func {name}({plural} {types[f'{kind} list']}) {result}"
        program = _braced(BRACES[language], signature, meaning, plural, singular)
    found = {repr(values): repr(meaning.run(values)) for values in _lists(rng, meaning)}
    return Function(name, signature, meaning.words(plural), program, found)


def _lists(rng: random.Random, meaning: Meaning) -> Iterator[list[Any]]:
    """Yield lists that tell the function from others: each holds one boundary value of a test, the last all of them."""
    sizes = (meaning.limit + 1, meaning.limit) if meaning.joint == "if" else (1, 1)
    everything: list[Any] = []
    for pipe, size in zip((meaning.first, meaning.second), sizes, strict=True):
        if pipe is not None:
            values = _edges(rng, pipe)
            # A failing value leaves most aggregates unchanged, a passing one leaves `all` unchanged.
            idle = [v for v in values if pipe.passes(v) == (pipe.aggregate == "all")] or values
            yield from ([value, *[idle[0]] * (size - 1)] for value in values)
            everything += values
    rng.shuffle(everything)
    yield everything
    yield everything[: max(3, meaning.limit)]
    yield []


def _edges(rng: random.Random, pipe: Pipe) -> list[Any]:
    """Return two values that pass, and for each test neighbours, one of which fails only that test."""
    pool: list[Any] = list(range(-12, 60)) if pipe.kind == "int" else sorted(_texts(pipe), key=len)
    passing = [value for value in pool if pipe.passes(value)]
    chosen = rng.sample(passing, min(2, len(passing)))
    for test in pipe.tests:
        others = [value for value in pool if all(t.does(value) for t in pipe.tests if t is not test)]
        flips = [pair for pair in itertools.pairwise(others) if test.does(pair[0]) != test.does(pair[1])]
        chosen += [value for pair in rng.sample(flips, min(2, len(flips))) for value in pair]
    return list(dict.fromkeys(chosen)) or pool[:2]


def _texts(pipe: Pipe) -> list[str]:
    """Return made-up words with the letters of the tests, or others, at either end and after the first letter."""
    named = re.findall(r"'(\w)'", " ".join(test.words for test in pipe.tests))
    ends = [*named, "u", "G"]
    return [f"{a}{c}{'hygquhy'[:n]}{b}" for n in range(8) for c in (*named, "") for a in ends for b in ends]


class Term(NamedTuple):
    """Arithmetic over parameters: words, text (the same in all three languages), precedence, value."""

    words: str
    text: str
    binds: int
    value: Callable[[dict[str, int]], int]

    def inner(self, least: int) -> str:
        """Return the text, in brackets if it binds less tightly than `least`."""
        return self.text if self.binds >= least else f"({self.text})"


def _term(rng: random.Random, names: list[str], depth: int) -> Term:
    if depth == 0:
        name = rng.choice(names)
        return Term(name, name, 3, lambda at: at[name])
    a, k = _term(rng, names, depth - 1), rng.randint(2, 30)
    b = _term(rng, names, rng.randint(0, depth - 1))
    by, sum_, difference = max(2, k % 10), f"the sum of {a.words} and", f"the difference of {a.words} and"
    product = f"the product of {a.words} and"
    terms = [
        Term(f"{sum_} {k}", f"{a.text} + {k}", 1, lambda at: a.value(at) + k),
        Term(f"{difference} {k}", f"{a.text} - {k}", 1, lambda at: a.value(at) - k),
        Term(f"{by} times {a.words}", f"{by} * {a.inner(3)}", 2, lambda at: by * a.value(at)),
        Term(f"{product} {b.words}", f"{a.inner(2)} * {b.inner(3)}", 2, lambda at: a.value(at) * b.value(at)),
    ]
    if a.text != b.text:
        terms += [
            Term(f"{sum_} {b.words}", f"{a.text} + {b.inner(2)}", 1, lambda at: a.value(at) + b.value(at)),
            Term(f"{difference} {b.words}", f"{a.text} - {b.inner(2)}", 1, lambda at: a.value(at) - b.value(at)),
        ]
    return rng.choice(terms)


COMPARISONS: dict[str, tuple[str, Callable[[int, int], bool]]] = {
    "greater than": (">", operator.gt), "less than": ("<", operator.lt), "at least": (">=", operator.ge),
    "at most": ("<=", operator.le), "equal to": ("==", operator.eq),
}  # fmt: skip


def _of_numbers(rng: random.Random, language: Language, level: int, words: Mapping[str, Any]) -> Function:
    """Return arithmetic; level 3 chooses between two terms; at other levels one third tests a comparison."""
    names = rng.sample(words["scalars"], min(level + rng.randint(0, 1), 3))
    term, other = _term(rng, names, level), _term(rng, names, level - 1)
    said, k = rng.choice(list(COMPARISONS)), rng.randint(2, 60)
    sign, compare = COMPARISONS[said]
    text = f"{term.text} {other.text}" if level == 3 else term.text
    used = [name for name in names if re.search(rf"\b{name}\b", text)]
    is_question = level < 3 and rng.random() < 0.3
    if is_question and said == "equal to":  # to a value that it can have
        k = term.value({name: rng.randint(-9, 19) for name in used})

    def value(at: dict[str, int]) -> int | bool:
        if is_question:
            return bool(compare(term.value(at), k))
        return term.value(at) if level < 3 or compare(at[used[0]], k) else other.value(at)

    question, one, branch = f"Return {term.words}.", term.text, ""
    if level == 3:
        question = f"If {used[0]} is {said} {k}, return {term.words}; otherwise return {other.words}."
        branch = f"{used[0]} {sign} {k}"
    elif is_question:
        question, one = f"Return whether {term.words} is {said} {k}.", f"{term.text} {sign} {k}"
    verb, noun = rng.choice(("compute", "get", "find", "derive")), rng.choice(("value", "result", "figure"))
    name = _named([verb, *used, noun], language)
    signature = _scalar_signature(language, name, used, "bool" if is_question else "int")
    program = _scalar_program(language, signature, branch, one, other.text)
    places = [{n: rng.randint(-25, 75) for n in used} for _ in range(400 if is_question else 11)]
    if is_question:  # test the comparison at its boundary
        unlike = list({tuple(at.values()): at for at in places}.values())
        places = unlike[:5] + sorted(unlike, key=lambda at: abs(term.value(at) - k))[:7]
    elif level == 3:
        places += [at | {used[0]: k + change} for at, change in zip(places[:3], (-1, 0, 1), strict=True)]
    found = {", ".join(map(str, at.values())): repr(value(at)) for at in places}
    return Function(name, signature, question, program, found)


def _scalar_signature(language: Language, name: str, used: list[str], gives: str) -> str:
    if language == "python":
        return f"def {name}({', '.join(used)}):"
    result = TYPES[language][gives]
    if language == "java":
        return f"static {result} {name}({', '.join(f'int {n}' for n in used)})"
    return f"func {name}({', '.join(f'{n} int' for n in used)}) {result}"


def _scalar_program(language: Language, signature: str, branch: str, one: str, two: str) -> str:
    if language == "python":
        lines = [f"if {branch}:", f"    return {one}", f"return {two}"] if branch else [f"return {one}"]
        return "\n".join([signature, *(f"    {line}" for line in lines)])
    b = BRACES[language]
    lines = [f"return {one}{b.end}"]
    if branch:
        lines = [f"if {b.opened}{branch}{b.closed} {{", f"    {lines[0]}", "}", f"return {two}{b.end}"]
    return "\n".join([f"{signature} {{", *(f"    {line}" for line in lines), "}"])
