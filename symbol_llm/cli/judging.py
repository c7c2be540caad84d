"""Commands that judge programs, and the verifiers themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import click

from symbol_llm.cli.group import Existing, Utf8Path, main, say, show
from symbol_llm.ground.errors import InvalidInput


@main.command()
@click.argument("program", type=click.File(encoding="utf-8", errors="replace"), default="-")
@click.option("--task", help="Task that the program solves; see `symbol-llm tasks`.")
@click.option("--family", help="Notation of the program, in place of a task; see `symbol-llm families`.")
@click.option("--answer", help="Value that a right program gives, as JSON (a bare word is taken as text), or @FILE.")
@click.option("--gold", help="A right program, for notations that compare programs, or @FILE.")
@click.option("--question", default="", help="The question that was asked.")
@click.option("--context", default="", help="Schema, theory or similar shown with the question.")
@click.option(
    "--environment",
    default="{}",
    help='JSON object with what the program needs to run, e.g. {"database": "shop.sqlite"}.',
)
@click.option("--reply", is_flag=True, help="PROGRAM is a model's reply: the program in it is looked for.")
@click.option("--rows", type=Existing, help="JSON Lines file with a reply per line; all are judged at once.")
@click.option("--out", type=Utf8Path(path_type=Path, dir_okay=False), help="File for the verdicts of --rows.")
@click.pass_context
def judge(
    ctx: click.Context,
    /,
    program: Any,
    reply: bool,
    rows: Path | None,
    out: Path | None,
    environment: str,
    **asked: Any,
) -> None:
    """Judge a program, or every row of a file.

    The verifier is the one that training uses. PROGRAM is a file; without one, standard input is read.

    \b
    symbol-llm judge --task gsm8k --answer 4 program.txt
    symbol-llm judge --rows replies.jsonl --out verdicts.jsonl

    \b
    A line of replies.jsonl:
    {"task": "gsm8k", "question": "...", "answer": 4, "reply": "answer = 2 + 2"}

    In a `reply`, the program is looked for between prose and fences; `"program": ...` in its place is judged as it is.

    The exit code is 0 if the program was accepted, 1 if it was not, and 3 if it could not be judged. With --rows it is 0 if
    all replies could be judged, otherwise 3.
    """  # noqa: D301 - click wants the character that \b stands for
    from symbol_llm.ground.params import Limits
    from symbol_llm.judging import verify
    from symbol_llm.judging.rows import Asked

    if rows is not None:
        if reply:
            raise InvalidInput("--reply is about one text; a row says itself which it is, by `reply` or `program`")
        _judge_rows(ctx, rows, out)
    if out is not None:
        raise InvalidInput("--out goes with --rows; one verdict is printed")
    needs = _json(environment)
    if not isinstance(needs, dict):
        raise InvalidInput(f"environment {environment!r}: expected a JSON object")
    answer, gold = (_text_or_file(asked.pop(name)) for name in ("answer", "gold"))
    given = None if answer is None else _json(answer, bare=True)
    problem = Asked(**asked, answer=given, gold=gold, environment=needs).as_problem()
    verdict = verify.judge(problem, program.read(), Limits(), is_program=not reply)
    show(ctx, {k: v for k, v in verdict.model_dump().items() if k not in ("candidate", "problem")})
    ctx.exit({"accepted": 0, "unscored": 3}.get(verdict.status, 1))


def _judge_rows(ctx: click.Context, rows: Path, out: Path | None) -> NoReturn:
    """Judge a file of replies, show how many of each task came out how, and end."""
    from symbol_llm.ground import files, outputs
    from symbol_llm.ground.params import Limits
    from symbol_llm.judging.rows import judge_rows, summary

    if out is not None:
        outputs.refuse_file(out, lambda text: b'"verifier"' in text.partition(b"\n")[0])
    found = list(judge_rows(rows, Limits()))
    if out is not None:
        files.write_records(out, (verdict for _, verdict in found))
    show(ctx, summary(found))
    ctx.exit(3 if any(verdict.status == "unscored" for _, verdict in found) else 0)
    raise AssertionError("exit does not return")


def _text_or_file(value: str | None) -> str | None:
    """Return `value`, or the text of the file it names after an @."""
    from symbol_llm.ground import files

    return files.read_text(Path(value[1:])) if value and value.startswith("@") else value


def _json(text: str, *, bare: bool = False) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        if bare:
            return text
        raise InvalidInput(f"{text!r}: not JSON, {e.msg} at column {e.colno}") from e


@main.command()
@click.option("--family", help="Only this notation. Default: all.")
@click.option("--source", type=Existing, help="Folder of public data sets. Default: generated problems.")
@click.option("--per-task", default=100, show_default=True, type=click.IntRange(1), help="Gold programs per data set.")
@click.option("--refused", is_flag=True, help="List the gold programs that were refused, with reasons.")
@click.pass_context
def selftest(ctx: click.Context, family: str | None, source: Path | None, per_task: int, refused: bool) -> None:
    """Judge the verifiers, on gold programs and near misses.

    Gold must be accepted, and near misses of it must not. The exit code is 0 if every data set has at least 99 % of its gold accepted and every notation refuses at least 97 % of
    the near misses and accepts at least 98 % of its listed equivalents; otherwise it is 1.
    """
    import logging

    from symbol_llm.ground.params import Limits
    from symbol_llm.judging.selftest import selftest as judge_all

    logger = logging.getLogger("symbol_llm.judging.verify")
    before = logger.level
    logger.setLevel(logging.ERROR)  # what is unscored stands in the table
    try:
        found = judge_all(family, source, per_task, Limits(timeout_s=20))
    finally:
        logger.setLevel(before)
    if ctx.obj["json"]:
        show(ctx, found.model_dump())
    else:
        show(ctx, [row.model_dump() for row in found.rows])
        if refused and found.refused:
            say()
            show(ctx, [row.model_dump() for row in found.refused])
        elif found.refused:
            say(f"{len(found.refused)} gold programs were refused; --refused lists them")
    ctx.exit(0 if found.passed() else 1)
