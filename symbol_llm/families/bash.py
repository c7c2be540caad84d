r"""One-line shell commands in Bash. Equal means: the same normal form of what tree-sitter parses.

    find . -name "*.c" | xargs grep -n -i `cat word`   =   find . -name '*.c' | xargs grep -in $(cat word)

Not counted: white space, comments, how a text is quoted (`"a b"`, `'a b'`, `a\ b`; `"$X"` and `$X` do differ), braces
around a plain variable, `$(...)` or backticks, a newline or a semicolon between commands, and, for the commands in
`COMMUTING`, the order, doubling and bundling of options that stand together, take no argument and do not undo each other.
Gold is `problem.program`, or any of `environment["gold"]`, as NL2Bash (Lin et al. 2018) has several commands a question.

Nothing is run: the sandbox lets no child start a process, which is what a shell does. Hence two commands that do the same
in different words differ here. A here-document, `case`, `for ((...))`, a function, and what the grammar does not read the same
way twice are compared as they are written.
A command's name needs a letter or digit: to a grammar `%%%` is a command like any other.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import tree_sitter_bash
from tree_sitter import Language, Node

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import grammar, replies
from symbol_llm.notation.grammar import Form

VERSION = 2
METRIC = "normal form"

COMMUTING = {
    "ls": "adFhilrRst", "grep": "cEinoqrsvwx", "egrep": "cinoqrsvwx", "fgrep": "cinoqrsvwx", "sort": "bdfinruz",
    "wc": "clmwL", "cat": "AbeEnstTv", "uniq": "cdiuz", "rm": "rRdv", "cp": "aprRvu", "mv": "vu", "mkdir": "pv",
    "ln": "sv", "du": "acsxh", "df": "aiTl", "ps": "efA", "chmod": "Rvf", "chown": "Rvf", "diff": "qrNbBiw",
    "cut": "s", "tr": "cds", "tee": "ai", "touch": "acm", "uname": "asnrvmpio", "netstat": "alntupre",
    "rsync": "avzruht", "comm": "123", "id": "urn", "file": "bikLz", "rmdir": "pv", "tail": "fqv", "xargs": "0rtp",
}  # fmt: skip


class Environment(Needs):
    """What judging needs besides program and gold."""

    gold: tuple[str, ...] = ()
    """Right commands; none: the problem's program alone."""


program_of = replies.up_to_a_blank_line


def canonical(program: str) -> str:
    """Return the commands with one way of quoting, spacing and bundling options."""
    return _forms([program], Limits())[0][0].normal


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form: nothing is run."""
    forms, isolation = _forms([program], limits)
    return Ran(forms[0].normal, "", isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` has the form of a gold command, else 0.0."""
    golds = needs(problem, Environment).gold or ([problem.program] if problem.program else [])
    forms, isolation = _forms([program, *golds], limits)
    if not golds or any(form.fault for form in forms[1:]):
        faults = "; ".join(form.fault for form in forms[1:] if form.fault)
        raise InvalidInput(f"problem {problem.id}: {f'gold fails: {faults}' if golds else 'no gold command'}")
    return Result(float(forms[0] in forms[1:]), forms[0].normal, isolation)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a word left out or changed, a number raised by 1, or a sign exchanged, of another form."""
    form = canonical(program)
    tokens = [match[0] for match in _TOKEN.finditer(program)]
    changes = [(n, new) for n, token in enumerate(tokens) for new in _changes(token)]
    rng.shuffle(changes)
    for n, new in changes:
        mutant = "".join([*tokens[:n], new, *tokens[n + 1 :]])
        try:
            if canonical(mutant) != form:
                yield mutant
        except Unparsable:
            continue


_TOKEN = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"|&&|\|\||>>|\d+|[\w./-]+|\s+|.", re.DOTALL)
_SWAPS = {"&&": "||", "||": "&&", ">>": ">", ">": ">>", "|": ";", ";": "&&"}


def _changes(token: str) -> list[str]:
    if token.isdecimal():
        return [str(int(token) + 1)]
    if re.fullmatch(r"-[A-Za-z]+", token):
        return ["", f"{token}q"]
    if token[0] in "'\"" and len(token) > 2:
        return [f"{token[:-1]}~{token[-1]}"]
    if re.fullmatch(r"[\w./-]+", token):
        return ["", f"{token}2"]
    return [_SWAPS[token]] if token in _SWAPS else []


def _forms(texts: list[str], limits: Limits) -> tuple[list[Form], str]:
    """Return the form of each text; Unparsable if the first, which is the program, has none."""
    forms, isolation = grammar.normal_forms(f"{__name__}:read", texts, limits)
    if forms[0].fault:
        raise Unparsable(forms[0].fault)
    return forms, isolation


# --- in the child: commands -------------------------------------------------------------------------------------------

_LANGUAGE = Language(tree_sitter_bash.language())
_VERBATIM = ("case_statement", "c_style_for_statement", "function_definition", "array", "subscript")
_STATEMENTS = (
    "command", "pipeline", "list", "redirected_statement", "negated_command", "subshell", "compound_statement",
    "for_statement", "while_statement", "if_statement", "case_statement", "c_style_for_statement", "test_command",
    "declaration_command", "unset_command", "variable_assignment", "variable_assignments", "function_definition",
)  # fmt: skip
_RUN_OTHERS = ("xargs", "sudo", "nohup", "time", "exec", "env", "nice")
_FIND_RUNS = ("-exec", "-execdir", "-ok", "-okdir")
_GROUPS = ("program", "do_group", "if_statement", "elif_clause", "else_clause", "while_statement", "subshell",
           "compound_statement", "command_substitution", "process_substitution", "for_statement")  # fmt: skip
_OPENS_BLOCK = ("do_group", "then")
_NO_SEMICOLON = frozenset("; & do then else ( { if elif while until for in $( <( >( `".split()) | {""}
_STRAY = re.compile(r"^[^#]*(?:[\x0b\x0c]|\r(?!\n)|\\[ \t])", re.MULTILINE)
"""Blanks to the grammar, parts of a word to a shell; in a comment they are neither."""
_LONE_QUOTE = re.compile(r"(?:[^\\'\"]|\\.)*['\"]", re.DOTALL)
_PLAIN_NAME = re.compile(r"[\w./~+:@%,^-]*[A-Za-z0-9][\w./~+:@%,^-]*|\[|:|\.", re.ASCII)
_RESERVED = frozenset("if then else elif fi do done case esac while until for in function { } ! [[ ]] select".split())


def read(args: dict[str, Any]) -> list[dict[str, str]]:
    """Return the normal form, the first fault or the limit hit of each text. Only ever called in a sandbox child."""
    return [_read(text.strip()) for text in args["texts"]]


def _read(text: str) -> dict[str, str]:
    root = grammar.parse(_LANGUAGE, text)
    if fault := grammar.first_fault(root) or _no_command(root) or grammar.first_stray(root, text, _STRAY):
        return {"fault": fault}
    if grammar.is_too_deep(root):
        return {"limit": f"the command has more than {grammar.MAX_DEPTH} levels"}
    normal = _show(root)
    # A here-document is bound to its lines; a form that is not its own is not to be trusted.
    again = grammar.parse(_LANGUAGE, normal)
    is_own = _show(again) == normal and not grammar.first_fault(again) and not _no_command(again)
    return {"normal": normal if is_own and "<<" not in text.replace("<<<", "") else text}


def _no_command(root: Node) -> str:
    """Return the place of the first command whose name can be none or quote without its pair, or that there is none."""
    stack, found = [root], False
    while stack:
        node = stack.pop()
        found = found or node.type in _STATEMENTS
        if node.type == "word" and _LONE_QUOTE.match(grammar.text_of(node)):
            return f"{grammar.place(node)}: a quote without its pair in {grammar.text_of(node)[:40]!r}"
        if node.type == "command_name" and not grammar.is_too_deep(node):
            pieces = _pieces(node)
            name = "".join(text for _, text in pieces)
            if all(kind in ("text", "sign") for kind, _ in pieces) and not _PLAIN_NAME.fullmatch(name):
                return f"{grammar.place(node)}: expected a command, got {name[:40]!r}"
        stack += reversed(node.children)
    return "" if found else "line 1, column 1: expected a command"


def _show(node: Node) -> str:  # noqa: PLR0911 - one return a kind of node
    kind = node.type
    if kind in _VERBATIM:
        return grammar.text_of(node)
    if kind in _WORDS:
        return _word(_pieces(node))
    if kind == "command":
        return _command(node)
    if kind == "file_redirect":
        return _redirect(node)
    if kind == "variable_assignment":
        return "".join(map(_show, node.children))
    if kind in _GROUPS:
        return _group(node)
    if not node.child_count:
        return grammar.text_of(node)
    return " ".join(_show(child) for child in node.children if child.type != "comment")


def _group(node: Node) -> str:
    """Show commands with a semicolon between, which a newline does not leave a trace of."""
    parts: list[str] = []
    for child in node.children:
        text = ";" if child.type in (";", "\n") else _show(child)
        last = parts[-1] if parts else ""
        if child.type == "comment" or (text == ";" and last in _NO_SEMICOLON):
            continue
        after_command = child.type in _STATEMENTS or child.type in ("fi", "done", "elif_clause", "else_clause", "}")
        if (child.type in _OPENS_BLOCK or after_command) and last not in _NO_SEMICOLON:
            parts.append(";")
        if text == ")" and last == ";":
            parts.pop()
        parts.append(text)
    while parts and parts[-1] == ";":
        parts.pop()
    return " ".join(parts)


def _redirect(node: Node) -> str:
    parts = [_show(child) for child in node.children]
    fd = parts.pop(0) if node.children[0].type == "file_descriptor" else ""
    space = "" if parts[0] in (">&", "<&") else " "
    return f"{fd}{parts[0]}{space}{' '.join(parts[1:])}"


def _command(node: Node) -> str:
    before: list[str] = []
    name = ""
    arguments: list[str] = []
    for child in node.children:
        if child.type == "command_name":
            name = _word(_pieces(child))
            before.append(f"'{name}'" if name in _RESERVED else name)
        elif not name:
            before.append(_show(child))
        else:
            arguments.append(_show(child))
    return " ".join([*before, *_bundled(name, arguments)])


def _bundled(name: str, arguments: list[str]) -> Iterator[str]:
    """Yield the arguments, neighbouring options that commute as one; `xargs grep` has options of both."""
    flags = COMMUTING.get(name, "")
    bundle: set[str] = set()
    takes_next = ended = False
    previous = ""
    for argument in arguments:
        letters = argument[1:] if argument.startswith("-") else ""
        if letters and not takes_next and not ended and set(letters) <= set(flags):
            bundle |= set(letters)
            continue
        if bundle:
            yield f"-{''.join(sorted(bundle))}"
            bundle = set()
        if argument in COMMUTING and ((name in _RUN_OTHERS and not takes_next) or previous in _FIND_RUNS):
            flags = COMMUTING[argument]
        # Another option may take the next argument, whatever it looks like.
        takes_next, ended = argument.startswith("-"), ended or argument == "--"
        previous = argument
        yield argument
    if bundle:
        yield f"-{''.join(sorted(bundle))}"


# --- in the child: words ----------------------------------------------------------------------------------------------

_WORDS = (
    "word", "string", "raw_string", "ansi_c_string", "translated_string", "concatenation", "simple_expansion", "expansion",
    "number", "brace_expression", "arithmetic_expansion", "command_substitution", "process_substitution", "extglob_pattern",
    "variable_name", "special_variable_name",
)  # fmt: skip
_EXPANSIONS = ("simple_expansion", "expansion", "command_substitution", "arithmetic_expansion")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\d|[@*#?$!-])", re.ASCII)
_SIGNS = "*?[]{}~"
_SAFE = re.compile(r"(?:[\w./:=@%+,^-]|\{\})+", re.ASCII)

_Piece = tuple[str, str]
"""`text` as it is meant, a `sign` that the shell expands, or an expansion, `bare` or `quoted`."""


def _pieces(node: Node) -> list[_Piece]:
    text = grammar.text_of(node)
    match node.type:
        case "command_name" | "concatenation":
            return _joined_pieces(node)
        case "word" | "number" | "variable_name" | "special_variable_name":
            return _unquoted(text)
        case "raw_string":
            return [("text", text[1:-1])]
        case "string":
            return _string(node)
    return [("bare", _expansion(node))]


def _joined_pieces(node: Node) -> list[_Piece]:
    pieces: list[_Piece] = []
    for child in node.children or [node]:
        pieces += _unquoted(grammar.text_of(child)) if child == node else _pieces(child)
    return pieces


def _unquoted(text: str) -> list[_Piece]:
    pieces: list[_Piece] = []
    for match in re.finditer(r"\\\n|\\.|\{\}|.", text, re.DOTALL):
        token = match[0]
        if token[0] == "\\" and len(token) > 1:
            pieces.append(("text", token[1:].replace("\n", "")))
        else:
            pieces.append(("sign" if token in set(_SIGNS) else "text", token))
    return pieces


def _string(node: Node) -> list[_Piece]:
    """Return the pieces of a double-quoted string; what no expansion covers is text, white space included."""
    source = node.text or b""
    pieces: list[_Piece] = []
    at = 1
    for child in node.children:
        if child.type in _EXPANSIONS:
            # The grammar counts white space before a variable as part of it.
            blank = len(child.text or b"") - len((child.text or b"").lstrip())
            start = child.start_byte - node.start_byte + blank
            pieces += [("text", _unescaped(source[at:start])), ("quoted", _expansion(child))]
            at = child.end_byte - node.start_byte
    return [*pieces, ("text", _unescaped(source[at:-1]))]


def _unescaped(text: bytes) -> str:
    return re.sub(r'\\([$`"\\]|\n)', lambda m: m[1].replace("\n", ""), text.decode(errors="replace"))


def _expansion(node: Node) -> str:
    text = grammar.text_of(node).lstrip()
    if node.type == "simple_expansion" and _VARIABLE.fullmatch(text):
        return f"${{{text[1:]}}}"
    if node.type == "command_substitution" and not (text[0] == "`" and "\\" in text):
        inner = _group_inside(node)
        return f"$( {inner})" if inner.startswith("(") else f"$({inner})"  # $(( is arithmetic
    if node.type == "process_substitution":
        return f"{text[:2]}{_group_inside(node)})"
    return text


def _group_inside(node: Node) -> str:
    """Show the commands of a substitution without what stands around them."""
    shown = _group(node).split(" ", 1)
    return shown[1].rsplit(" ", 1)[0].removesuffix(" ;") if len(shown) > 1 else ""


def _word(pieces: list[_Piece]) -> str:
    merged: list[_Piece] = []
    for piece in pieces:
        kind, text = piece
        if piece == ("sign", "}") and merged[-1:] == [("sign", "{")]:  # stands for itself, as `{}` does
            merged.pop()
            kind, text = "text", "{}"
        if kind == "text" and merged and merged[-1][0] == "text":
            text = merged.pop()[1] + text
        merged.append((kind, text))
    shown = "".join(
        _quoted(text) if kind == "text" else f'"{text}"' if kind == "quoted" else text for kind, text in merged
    )
    return shown or "''"


def _quoted(text: str) -> str:
    if not text or _SAFE.fullmatch(text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


_COUNT = """find src -name '*.py' -type f | xargs grep -in "to do" | wc -l > count.txt"""


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="bash", split="train", instruction="Write a shell command.",
        question="Count the lines of src's Python files that say `to do` in any case, into count.txt?", program=_COUNT,
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _COUNT, 1.0),
    _example(
        "different-looking equal",
        r"""find src  -name "*.py" -type f|xargs grep -n -i to\ do |  wc -l >count.txt # all""",
        1.0,
    ),
    _example("similar-looking different", _COUNT.replace("'*.py'", "*.py"), 0.0),
    _example("prefix of gold", _COUNT.removesuffix(" > count.txt"), 0.0),
    _example("a quote without end", _COUNT.replace("'*.py'", "'*.py"), None),
    _example("ill-formed", "find src -name '*.py' | (", None),
)
