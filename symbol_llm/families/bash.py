r"""One-line shell commands in Bash. Equal means: the same normal form of what tree-sitter parses.

    find . -name "*.c" | xargs grep -n -i `cat word`   =   find . -name '*.c' | xargs grep -in $(cat word)

Not counted: white space, comments, the style of quoting (`"a b"`, `'a b'`, `a\ b`; but `"$X"` and `$X` differ), braces
around a plain variable, `$(...)` or backticks, a newline or a semicolon between commands, the order of plain tests of
find and, for the commands in `OPTIONS`, the order, repetition and bundling of adjacent options that do not undo each
other, their long names (`--ignore-case` is `-i`), a space before an option's argument (`-n5` is `-n 5`, or `-5` for
head), and a minus before tar's first letters. Quoted text on the right of `=~` is literal, so it differs from the same
text unquoted if that is a pattern. Gold is `problem.program`, or any of `environment["gold"]`, since NL2Bash (Lin et al.
2018) has several commands per question.

Nothing is run: the sandbox lets no child start a process, which is what a shell does. Hence two commands that do the
same in different words are different here. Here-documents, `case`, `for ((...))`, functions, and anything that the
grammar does not read the same way twice are compared as written.
A command's name needs a letter or digit: to a grammar `%%%` is a command like any other.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tree_sitter_bash
from tree_sitter import Language, Node

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import grammar, replies
from symbol_llm.notation.grammar import Form

VERSION = 6
METRIC = "normal form"


class Options(NamedTuple):
    """The known options of a command, as in GNU's version."""

    flags: str
    """Letters of options without an argument."""
    takes: str = ""
    """Letters of options with an argument."""
    undo: Sequence[str] = ()
    """Letters of which the last one wins: if two occur, all options stay in order."""
    long: Mapping[str, str] = {}
    """Letters by long name."""
    digits: str = ""
    """The letter that `-5` abbreviates."""
    same: str = ""
    """Two letters for one option."""
    bundle_first: bool = False
    """Whether the first argument is a bundle of letters also without a minus, as in `tar czf a.tgz b`."""


_GREP = Options(
    "cEFGPHhilnoqrRsvwxaz", "mABCef", ("EFGP", "Hh", "rR", "ef"),
    {
        "ignore-case": "i", "count": "c", "recursive": "r", "dereference-recursive": "R", "invert-match": "v",
        "line-number": "n", "files-with-matches": "l", "word-regexp": "w", "line-regexp": "x", "extended-regexp": "E",
        "fixed-strings": "F", "basic-regexp": "G", "perl-regexp": "P", "only-matching": "o", "quiet": "q", "silent": "q",
        "no-messages": "s", "no-filename": "h", "with-filename": "H", "text": "a", "null-data": "z", "max-count": "m",
        "after-context": "A", "before-context": "B", "context": "C", "regexp": "e", "file": "f",
    },
    "C",
)  # fmt: skip
_LISTED = {"lines": "n", "bytes": "c", "quiet": "q", "silent": "q", "verbose": "v", "zero-terminated": "z"}
OPTIONS = {
    "ls": Options("aAdFhilrRstSU1gGnop", "wI", ("aA", "tSU", "lgnop1"), {
        "all": "a", "almost-all": "A", "directory": "d", "human-readable": "h", "inode": "i", "reverse": "r",
        "recursive": "R", "size": "s", "no-group": "G", "numeric-uid-gid": "n", "ignore": "I", "width": "w",
    }),
    "grep": _GREP, "egrep": _GREP, "fgrep": _GREP,
    "sort": Options("bdfghinMruzVsc", "kto", ("ghMnVd", "k"), {
        "reverse": "r", "numeric-sort": "n", "unique": "u", "ignore-case": "f", "ignore-leading-blanks": "b",
        "dictionary-order": "d", "general-numeric-sort": "g", "human-numeric-sort": "h", "month-sort": "M",
        "version-sort": "V", "stable": "s", "check": "c", "zero-terminated": "z", "key": "k", "field-separator": "t",
        "output": "o",
    }),
    "head": Options("qvz", "nc", ("nc", "qv"), _LISTED, "n"),
    "tail": Options("fqvz", "nc", ("nc", "qv"), _LISTED, "n"),
    "wc": Options("clmwL", "", (), {
        "bytes": "c", "chars": "m", "lines": "l", "words": "w", "max-line-length": "L",
    }),
    "cat": Options("AbeEnstTv", "", ("bn",), {
        "show-all": "A", "number": "n", "number-nonblank": "b", "squeeze-blank": "s", "show-ends": "E", "show-tabs": "T",
    }),
    "uniq": Options("cdiuz", "fsw", (), {
        "count": "c", "repeated": "d", "unique": "u", "ignore-case": "i", "zero-terminated": "z", "skip-fields": "f",
        "skip-chars": "s", "check-chars": "w",
    }),
    "rm": Options("rRdvfiI", "", ("fiI",), {
        "recursive": "r", "force": "f", "dir": "d", "verbose": "v",
    }, same="rR"),
    "cp": Options("aprRvuflnid", "t", ("fni", "alrR"), {
        "archive": "a", "recursive": "r", "verbose": "v", "update": "u", "force": "f", "no-clobber": "n",
        "interactive": "i", "link": "l", "target-directory": "t",
    }, same="rR"),
    "tar": Options("cxtrvzjJkpmO", "fCT", ("cxtr", "zjJ"), {
        "create": "c", "extract": "x", "get": "x", "list": "t", "append": "r", "verbose": "v", "gzip": "z", "bzip2": "j",
        "xz": "J", "keep-old-files": "k", "preserve-permissions": "p", "touch": "m", "to-stdout": "O", "file": "f",
        "directory": "C", "files-from": "T",
    }, bundle_first=True),
    "mv": Options("vufni", "t", ("fni",), {
        "verbose": "v", "update": "u", "force": "f", "no-clobber": "n", "interactive": "i", "target-directory": "t",
    }),
    "mkdir": Options("pv", "m", (), {"parents": "p", "verbose": "v", "mode": "m"}),
    "rmdir": Options("pv", "", (), {"parents": "p", "verbose": "v"}),
    "ln": Options("svfin", "t", ("fi",), {
        "symbolic": "s", "verbose": "v", "force": "f", "no-dereference": "n", "target-directory": "t",
    }),
    "du": Options("acsxhkm", "d", ("hkm",), {
        "all": "a", "total": "c", "summarize": "s", "one-file-system": "x", "human-readable": "h", "max-depth": "d",
    }),
    "df": Options("aiTlhkH", "t", ("hkH",), {
        "all": "a", "inodes": "i", "print-type": "T", "local": "l", "human-readable": "h", "type": "t",
    }),
    "cut": Options("sz", "dfbc", ("fbc",), {
        "only-delimited": "s", "delimiter": "d", "fields": "f", "bytes": "b", "characters": "c", "zero-terminated": "z",
    }),
    "tr": Options("cCds", "", (), {"complement": "c", "delete": "d", "squeeze-repeats": "s"}),
    "tee": Options("ai", "", (), {"append": "a", "ignore-interrupts": "i"}),
    "touch": Options("acm", "drt", ("drt",), {"no-create": "c", "date": "d", "reference": "r"}),
    "chmod": Options("Rvf", "", (), {"recursive": "R", "verbose": "v", "silent": "f", "quiet": "f"}),
    "chown": Options("Rvf", "", (), {"recursive": "R", "verbose": "v", "silent": "f", "quiet": "f"}),
    "diff": Options("qrNbBiw", "", (), {
        "brief": "q", "recursive": "r", "new-file": "N", "ignore-space-change": "b", "ignore-blank-lines": "B",
        "ignore-case": "i", "ignore-all-space": "w",
    }),
    "xargs": Options("0rtpx", "InPLds", ("InL", "0d"), {
        "null": "0", "no-run-if-empty": "r", "verbose": "t", "interactive": "p", "max-args": "n", "max-procs": "P",
        "delimiter": "d", "max-chars": "s",
    }),
    "ps": Options("efA"), "uname": Options("asnrvmpio"), "netstat": Options("alntupre"), "comm": Options("123z"),
    "rsync": Options("avzruht"), "id": Options("urn"), "file": Options("bikLz"),
    "awk": Options("", "Fvf", ("vf",)), "fold": Options("bs", "w", (), {"bytes": "b", "spaces": "s", "width": "w"}),
    "split": Options("d", "lbna", ("lbn",), {
        "numeric-suffixes": "d", "lines": "l", "bytes": "b", "number": "n", "suffix-length": "a",
    }),
}  # fmt: skip
_FIND_TESTS = frozenset((
    "-name -iname -path -ipath -wholename -iwholename -regex -iregex -type -xtype -size -mtime -atime -ctime -mmin -amin -cmin"
    " -newer -anewer -cnewer -perm -user -group -uid -gid -links -inum -samefile -fstype -lname -ilname -maxdepth -mindepth"
).split())  # fmt: skip
"""Tests of one argument that only inspect the file, and the depth options, which hold wherever they stand."""
_FIND_BARE_TESTS = frozenset("-empty -readable -writable -executable -nouser -nogroup".split())

MAX_CHARS = 8192
"""Most characters of a command. The grammar takes seconds to find the fault in four times as many."""


class Environment(Needs):
    """What judging needs besides program and gold."""

    gold: tuple[str, ...] = ()
    """Right commands; if empty, the problem's program alone."""


_COMMAND = re.compile(r"[a-z./~$({!_][\w./-]*(?=[ \t\n]|\Z)(?![^\n]*\w\w[.:!][ \t]*(?:\n|\Z))")
"""Matches a line that is a command rather than a sentence."""

_PROMPT = re.compile(r"^\$[ \t]+(?=[\w./~])", re.MULTILINE)


def program_of(reply: str) -> str:
    """Return the command in `reply`, without a prompt `$` before it; without a fence, up to the first blank line that is not inside the command.

    What follows it is prose unless it begins like another command: then the whole text is the program. Open quotes, brackets,
    here-documents, loops, `if`, `|` and `&&` go on over a blank line unless one is never closed.
    """
    found = replies.program(reply)
    program = _PROMPT.sub("", found.program) if _PROMPT.match(found.program) else found.program
    first = replies.BLANK_LINE.search(program)
    if found.fenced or first is None:
        return program
    end = _end(program) or first.start()
    return program if _COMMAND.match(program[end:].lstrip()) else program[:end].strip()


def canonical(program: str) -> str:
    """Return the commands with uniform quoting, spacing and bundling of options."""
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
    """Yield `program` with a word removed, changed or unquoted, a number raised by 1, or a sign exchanged."""
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
        bare = (
            [token[1:-1]] if re.fullmatch(r"\S*[*?.^$[\]]\S*", token[1:-1]) else []
        )  # whose signs then mean something
        return [f"{token[:-1]}~{token[-1]}", *bare]
    if re.fullmatch(r"[\w./-]+", token):
        return ["", f"{token}2"]
    return [_SWAPS[token]] if token in _SWAPS else []


def _forms(texts: list[str], limits: Limits) -> tuple[list[Form], str]:
    """Return the form of each text; Unparsable if the first, the program, has none, LimitExceeded if it is too long."""
    if len(texts[0]) > MAX_CHARS:
        raise LimitExceeded(f"the command has {len(texts[0])} characters; at most {MAX_CHARS} are compared")
    forms, isolation = grammar.normal_forms(f"{__name__}:read", texts, limits)
    if forms[0].fault:
        raise Unparsable(forms[0].fault)
    return forms, isolation


# --- where a command ends ---------------------------------------------------------------------------------------------

_PIECE = re.compile(
    r"""(?P<skip>\\.|\$?'(?:[^'])*'|"(?:[^"\\]|\\.)*"|\$\{[^{}\n]*\}|\{\}|[ \t]+|(?<![^\s;&|(])\#[^\n]*)
    |<<-?[ \t]*(?P<quote>['"\\]?)(?P<document>\w+)(?P=quote)?
    |(?P<open>\$?\(|\{)
    |(?P<close>[)}])
    |(?P<blank>\n[ \t]*(?=\n))
    |(?P<sign>\|\||&&|[|;&\n])
    |(?P<stray>['"])
    |(?P<word>[^\s;&|(){}'"\\$]+|.)""",
    re.VERBOSE | re.DOTALL,
)
_OPENS, _CLOSES = frozenset(("if", "for", "while", "until", "case", "select")), frozenset(("fi", "done", "esac"))
_BEFORE_COMMAND = _OPENS - {"for", "case", "select"} | {"do", "then", "else", "elif", "!", "time"}


def _end(text: str) -> int:
    """Return the start of the first blank line outside any open construct, else the end; 0 if one stays open."""
    at, n_brackets, n_blocks, begins, last = 0, 0, 0, True, ""
    documents: list[str] = []
    while at < len(text) and (piece := _PIECE.match(text, at)):
        kind, at = piece.lastgroup, piece.end()
        if kind == "stray":
            return 0
        if kind == "document":
            documents.append(piece["document"])
        if documents and kind in ("sign", "blank") and piece[0].startswith("\n"):
            after = re.compile(rf"^\t*{re.escape(documents.pop(0))}[ \t]*$", re.MULTILINE).search(
                text, piece.start() + 1
            )
            if after is None:
                return 0
            at = after.end()
        elif kind == "blank" and not (n_brackets or n_blocks) and last not in ("|", "&&", "||"):
            return piece.start()
        if kind in ("open", "close"):
            n_brackets = max(0, n_brackets + (1 if kind == "open" else -1))
        elif kind == "word" and begins:
            n_blocks = max(0, n_blocks + (piece[0] in _OPENS) - (piece[0] in _CLOSES))
        if kind != "skip":
            begins = kind in ("open", "sign", "blank") or (kind == "word" and piece[0] in _BEFORE_COMMAND)
            last = last if piece[0].isspace() else piece[0]
        elif not piece[0].isspace():
            begins = False
    return 0 if n_brackets or n_blocks or documents else at


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
"""White space to the grammar but part of a word to a shell; in a comment they are neither."""
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
    # A here-document depends on its lines; a form whose own form differs is not reliable.
    again = grammar.parse(_LANGUAGE, normal)
    is_own = _show(again) == normal and not grammar.first_fault(again) and not _no_command(again)
    return {"normal": normal if is_own and "<<" not in text.replace("<<<", "") else text}


def _no_command(root: Node) -> str:
    """Return the fault of a command with an impossible name or an unpaired quote, or of no command; else empty."""
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
    if kind == "binary_expression" and "=~" in (grammar.text_of(child) for child in node.children[1:-1]):
        return _match(node)
    return " ".join(_show(child) for child in node.children if child.type != "comment")


def _match(node: Node) -> str:
    """Show `left =~ right`; signs in quotes on the right are literal, elsewhere quotes make no difference."""
    *left, right = node.children
    text = grammar.text_of(right)
    literal = right.type in ("raw_string", "string") and re.fullmatch(r"[\w /:@%,=-]+", text[1:-1], re.ASCII)
    return " ".join([*map(_show, left), _show(right) if literal else text])


def _group(node: Node) -> str:
    """Show commands separated by semicolons, since newlines leave no trace in the tree."""
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
    if (fd == "1" and parts[0].startswith(">")) or (fd == "0" and parts[0].startswith("<")):
        fd = ""  # what is redirected anyway
    space = "" if parts[0] in (">&", "<&") else " "
    return f"{fd}{parts[0]}{space}{' '.join(parts[1:])}"


def _command(node: Node) -> str:
    before: list[str] = []
    name = ""
    arguments: list[_Argument] = []
    for child in node.children:
        if child.type == "command_name":
            name = _word(_pieces(child))
            before.append(f"'{name}'" if name in _RESERVED else name)
        elif not name:
            before.append(_show(child))
        else:
            arguments.append(_Argument(_show(child), _pieces(child) if child.type in _WORDS else []))
    shown = _find(arguments) if name == "find" else list(_optioned(name, arguments))
    return " ".join([*before, *shown])


class _Argument(NamedTuple):
    shown: str
    pieces: list[_Piece]


def _optioned(name: str, arguments: list[_Argument]) -> Iterator[str]:
    """Yield the arguments, adjacent options in one form; `xargs grep` has options of both."""
    known = OPTIONS.get(name)
    run: list[tuple[str, str | None]] = []
    takes_next = ended = False
    begins = True
    previous = ""
    at = 0
    while at < len(arguments):
        options = None if known is None or takes_next or ended else _options(known, arguments, at)
        if known is not None and known.bundle_first and begins:
            options = _bundle(known, arguments, at) or options
        begins = False
        if options:
            run += options[0]
            at += options[1]
            continue
        if known is not None:
            yield from _run(known, run)
            run = []
        argument = arguments[at].shown
        if argument in OPTIONS and ((name in _RUN_OTHERS and not takes_next) or previous in _FIND_RUNS):
            known, begins = OPTIONS[argument], True
        # An unknown option may take the next argument, whatever it looks like.
        takes_next, ended = argument.startswith("-"), ended or argument == "--"
        previous = argument
        yield argument
        at += 1
    if known is not None:
        yield from _run(known, run)


def _bundle(known: Options, arguments: list[_Argument], at: int) -> tuple[list[tuple[str, str | None]], int] | None:
    """Return what `_options` does, of letters without a minus, whose arguments follow in the order of the letters."""
    pieces = _merged(arguments[at].pieces)
    letters = pieces[0][1] if len(pieces) == 1 and pieces[0][0] == "text" else ""
    values = iter(arguments[at + 1 :])
    n_values = sum(letter in known.takes for letter in letters)
    if not letters or not set(letters) <= {*known.flags, *known.takes} or at + n_values >= len(arguments):
        return None
    return [(letter, next(values).shown if letter in known.takes else None) for letter in letters], 1 + n_values


def _options(known: Options, arguments: list[_Argument], at: int) -> tuple[list[tuple[str, str | None]], int] | None:
    """Return the options in the argument at `at`, each with its own argument, and how many arguments they take up.

    None if it holds none, or an unknown one.
    """
    pieces = _merged(arguments[at].pieces)
    if not pieces or pieces[0][0] != "text" or not re.match(r"-[^-]|--[a-z]", pieces[0][1]):
        return None
    letters, joined = _letters(known, pieces[0][1], pieces[1:])
    letters = letters.replace(known.same[1:], known.same[:1]) if known.same else letters
    if not letters:
        return None
    flags: list[tuple[str, str | None]] = [(letter, None) for letter in letters if letter not in known.takes]
    if len(flags) == len(letters):
        return None if joined else (flags, 1)
    if joined:
        return [*flags, (letters[-1], _word(joined))], 1
    return ([*flags, (letters[-1], arguments[at + 1].shown)], 2) if at + 1 < len(arguments) else None


def _letters(known: Options, text: str, rest: list[_Piece]) -> tuple[str, list[_Piece]]:
    """Return the letters of the options that begin with `text`, and the part of it and `rest` that the last one takes.

    No letters if one is unknown.
    """
    if known.digits and text[1:].isdecimal() and not rest:
        return known.digits, [("text", text[1:])]
    if text.startswith("--"):
        long, sign, value = text[2:].partition("=")
        letter = known.long.get(long, "")
        return (letter if sign or not rest else ""), [("text", value), *rest] if sign else []
    first = next((n for n, letter in enumerate(text) if letter in known.takes), len(text))
    argument = text[first + 1 :]
    is_known = set(text[1:first]) <= set(known.flags)
    return (text[1 : first + 1] if is_known else ""), [*([("text", argument)] if argument else []), *rest]


def _run(known: Options, run: list[tuple[str, str | None]]) -> Iterator[str]:
    """Yield adjacent options: those without an argument as one, then the others, each kind in order."""
    letters = [letter for letter, _ in run]
    undone = any(len({*letters} & {*group}) > 1 for group in known.undo)
    flags = [letter for letter, value in run if value is None]
    if flags:
        yield f"-{''.join(dict.fromkeys(flags) if undone else sorted(set(flags)))}"
    with_value = [(letter, value) for letter, value in run if value is not None]
    for letter, value in with_value if undone else sorted(with_value, key=lambda one: one[0]):
        yield f"-{letter}"
        yield value


_NOT = ("'!'", "-not")


def _find(arguments: list[_Argument]) -> list[str]:
    """Return the arguments of find, adjacent plain tests sorted by their texts."""
    shown = [argument.shown for argument in arguments]
    found: list[str] = []
    tests: list[list[str]] = []
    at = 0
    while at < len(shown):
        start = at + (shown[at] in _NOT)
        word = shown[start] if start < len(shown) else ""
        size = 2 if word in _FIND_TESTS and start + 1 < len(shown) else 1 if word in _FIND_BARE_TESTS else 0
        if size:
            tests.append([_NOT[0]] * (start - at) + shown[start : start + size])
            at = start + size
        elif word in ("-a", "-and") and start == at and tests:
            at += 1  # as if it were not there
        else:
            found += (
                [*_sorted_tests(tests), *_optioned("find", arguments[at:])]
                if word in _FIND_RUNS
                else [*_sorted_tests(tests), shown[at]]
            )
            tests = []
            at = len(shown) if word in _FIND_RUNS else at + 1
    return [*found, *_sorted_tests(tests)]


def _sorted_tests(tests: list[list[str]]) -> Iterator[str]:
    return (word for test in sorted(tests) for word in test)


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
"""Literal `text`, a `sign` that the shell expands, or an expansion, `bare` or `quoted`."""


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
    """Return the pieces of a double-quoted string; everything outside expansions is text, including white space."""
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
    """Show the commands of a substitution without its delimiters."""
    shown = _group(node).split(" ", 1)
    return shown[1].rsplit(" ", 1)[0].removesuffix(" ;") if len(shown) > 1 else ""


def _merged(pieces: list[_Piece]) -> list[_Piece]:
    """Return the pieces with neighbouring texts merged."""
    merged: list[_Piece] = []
    for piece in pieces:
        kind, text = piece
        if piece == ("sign", "}") and merged[-1:] == [("sign", "{")]:  # stands for itself, as `{}` does
            merged.pop()
            kind, text = "text", "{}"
        if kind == "text" and merged and merged[-1][0] == "text":
            text = merged.pop()[1] + text
        merged.append((kind, text))
    return merged


def _word(pieces: list[_Piece]) -> str:
    shown = "".join(
        _quoted(text) if kind == "text" else f'"{text}"' if kind == "quoted" else text for kind, text in _merged(pieces)
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
