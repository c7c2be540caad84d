"""`python -m serving.ask "question"` asks a running solver and prints the answer, the program and how many agreed.

Exit status: 0 answered, 1 not answered, 2 refused or no server. Control characters in a model's text are printed as escapes.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from symbol_llm.ground.errors import Unavailable
from symbol_llm.ground.terminal import shown

TIMEOUT_S = 300


class NoAnswer(click.ClickException, Unavailable):
    """The server refused the question, did not answer in time or is not there."""

    exit_code = 2  # type: ignore[misc]  # a class variable of click's, an instance's of ours


@click.command()
@click.argument("question")
@click.option("--task", help="Task of the question. Default: that of the server.")
@click.option("--context", help="What the question is about, such as a schema, a theory or an ontology.")
@click.option("--k", type=int, help="Number of programs to sample, 1 to 32. Default: that of the server.")
@click.option("--whole", is_flag=True, default=None, help="Run all programs, even where fewer decide the vote.")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Address of the server.")
@click.option("--key", envvar="SYMBOL_LLM_KEY", help="Key, where the server wants one. Also: SYMBOL_LLM_KEY.")
@click.option("--name", default="symbol-llm", show_default=True, help="Name of the served model.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=TIMEOUT_S,
    show_default=True,
    help="Seconds to wait for the answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON that the server sent.")
def main(url: str, key: str | None, name: str, timeout: float, as_json: bool, **instance: object) -> None:
    """Ask a running server QUESTION, and print the answer, the program and the votes."""
    address = f"{url.rstrip('/')}/v1/models/{name}:predict"
    answer = ask(address, {k: v for k, v in instance.items() if v is not None}, timeout, key)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        show(answer, Console())
    sys.exit(0 if answer["status"] == "answered" else 1)


def ask(url: str, instance: dict[str, Any], timeout_s: float = TIMEOUT_S, key: str | None = None) -> dict[str, Any]:
    """Return the server's answer to one instance; NoAnswer says what is wrong and what to do."""
    body = json.dumps({"instances": [instance]}).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310
            answer: dict[str, Any] = json.load(response)["predictions"][0]
    except urllib.error.HTTPError as e:
        raise NoAnswer(f"{url} answered {e.code}: {_reason(e)}") from e
    except (OSError, ValueError) as e:
        why = getattr(e, "reason", e)
        if isinstance(why, TimeoutError):
            raise NoAnswer(f"{url} did not answer within {timeout_s:g} s; is it busy, or another server?") from e
        raise NoAnswer(f"no server answers at {url} ({why}); start one with `make serve`") from e
    return answer


def show(answer: dict[str, Any], console: Console) -> None:
    """Print `answer` as a table."""
    votes, verdict = answer["votes"], answer["verdict"]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("answer", Text(shown(answer["answer"] or answer["status"])))
    if answer["program"]:
        table.add_row("program", Text(shown(answer["program"])))
    spared = f", {votes['spared']} not needed" if votes["spared"] else ""
    repaired = ", repaired" if answer["repaired"] else ""
    table.add_row("votes", f"{votes['agreed']} agreed, {votes['ran']} ran, {votes['k']} asked for{spared}{repaired}")
    if verdict:
        table.add_row("verdict", f"{verdict['status']} in {verdict['seconds']:.3f} s under {verdict['isolation']}")
    for reason in answer["reasons"]:
        table.add_row("no vote", Text(shown(f"{reason['n']} x {reason['status']}: {reason['detail']}")))
    console.print(table)


def _reason(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:200] or error.reason


if __name__ == "__main__":
    main()
