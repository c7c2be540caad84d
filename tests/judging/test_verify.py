"""Which verdict a reply gets, whose failure is whose, and an attack list none of which may be accepted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from symbol_llm import families
from symbol_llm.ground.errors import Unavailable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging.verify import AHEAD, Item, execute, judge, judge_all
from symbol_llm.sandbox import executor
from tests.problems import ISOLATION

LIMITS = Limits(timeout_s=2, memory_mib=128)


def problem(answer: Any, family: str = "python", **more: Any) -> Problem:
    return Problem.of(
        task="t",
        family=family,
        split="test",
        instruction="",
        question="q",
        answer=answer,
        source="s",
        licence="l",
        **more,
    )


@pytest.mark.parametrize(
    ("reply", "status", "score", "detail"),
    [
        ("```python\nanswer = 40 + 2\n```", "accepted", 1.0, ""),
        ("answer = 40", "rejected", 0.0, ""),
        ("answer = 1 / 0", "rejected", 0.0, ""),
        ("answer = (", "unparsable", 0.0, "line 1, column 10: '(' was never closed"),
        ("", "unparsable", 0.0, "the reply holds no program"),
        ("<|im_end|>", "unparsable", 0.0, "the reply holds no program"),
        ("The answer is 42.", "unparsable", 0.0, "line 1, column 5: invalid syntax"),
        ("print('x' * 10**6)", "resource", 0.0, "output is over the limit"),
        ("a = 1\n" * 20_000, "resource", 0.0, "the reply has 120000 characters; at most 32768 are judged"),
    ],
)
def test_each_reply_gets_its_verdict(reply: str, status: str, score: float, detail: str) -> None:
    verdict = judge(problem(42), reply, LIMITS)
    assert (verdict.status, verdict.score, verdict.detail) == (status, score, detail)
    assert verdict.verifier == f"python@{families.get('python').VERSION}"


def test_a_program_that_never_ends_times_out() -> None:
    verdict = judge(problem(42), "while True: pass", LIMITS.model_copy(update={"timeout_s": 0.3}))
    assert (verdict.status, verdict.detail) == ("timeout", "ran past 0.3 s")
    assert verdict.canonical is not None


def test_a_verdict_says_what_running_gave_and_at_which_level() -> None:
    verdict = judge(problem(42), "answer = 43", LIMITS)
    assert (verdict.value, verdict.isolation) == ("43", ISOLATION)


def test_equal_programs_share_their_canonical_form() -> None:
    one, two, other = (
        judge(problem(3), text, LIMITS).canonical
        for text in ("a=1\nanswer=a+2", "b = 1 # one\nanswer = b + 2", "answer = 3")
    )
    assert one == two != other


def test_a_sandbox_that_is_down_leaves_the_reply_unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any, **__: Any) -> executor.Outcome:
        raise Unavailable("sandbox is down")

    monkeypatch.setattr(executor, "run", down)
    verdict = judge(problem(42), "answer = 42", LIMITS)
    assert (verdict.status, verdict.score, verdict.detail) == ("unscored", None, "Unavailable: sandbox is down")


@pytest.mark.parametrize(
    ("bad", "detail"),
    [
        (problem(None), "has no answer; a python problem needs one"),
        (problem(1, "no_such_family"), "unknown family 'no_such_family'"),
        (problem("maybe", "rules"), "answer 'maybe'; expected one of True, False, Unknown"),
        (problem([[1]], "sql"), "environment: expected `database`, or else `script` or `schema`"),
        (problem(1, environment={"functoin": "f"}), "functoin: extra inputs are not permitted, got 'f'"),
    ],
)
def test_a_faulty_problem_leaves_its_reply_unscored(bad: Problem, detail: str) -> None:
    verdict = judge(bad, {"rules": "P(a)\nquery: P(a)", "sql": "SELECT 1"}.get(bad.family, "answer = 1"), LIMITS)
    assert (verdict.status, verdict.score) == ("unscored", None)
    assert detail in verdict.detail


def test_an_unexpected_exception_of_ours_leaves_the_reply_unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families.get("commands"), "score", lambda *_: 1 / 0)
    verdict = judge(problem("I_WALK", "commands"), "I_WALK", LIMITS)
    assert (verdict.status, verdict.detail) == ("unscored", "ZeroDivisionError: division by zero")


def test_verdicts_come_in_the_order_of_the_items_and_items_are_taken_as_needed() -> None:
    taken = []

    def items() -> Iterator[Item]:
        for n in range(90):
            taken.append(n)
            yield Item(problem(n), f"answer = {n}", str(n))

    verdicts = judge_all(items(), LIMITS, n_workers=3)
    first = next(verdicts)
    assert len(taken) <= 1 + 3 * AHEAD
    assert [v.candidate for v in (first, *verdicts)] == [str(n) for n in range(90)]


def test_an_execution_has_no_gold_and_gives_a_value_or_a_reason() -> None:
    ran = execute(problem(None), "answer = 85 / 5", LIMITS)
    assert (ran.status, ran.value, ran.program) == ("ran", "17", "answer = 85 / 5")
    failed = execute(problem(None), "answer = 1 / 0", LIMITS)
    assert (failed.status, failed.value, failed.detail) == ("error", None, "ZeroDivisionError: division by zero")
    assert execute(problem(None), "answer = (", LIMITS).status == "unparsable"


GOLD = "escaped-4711"
# Each harm is followed by the gold answer: accepted would mean that it was done.
HARMS = {
    "reads the password file": "open('/etc/passwd').read()",
    "reads the caller's environment": "import os\nopen(f'/proc/{os.getppid()}/environ').read()",
    "reads this test": f"open({__file__!r}).read()",
    "finds an environment": "import os\nassert os.environ",
    "lists a folder": "import os\nos.listdir('/')",
    "writes to /tmp": "open('/tmp/symbol-llm-escaped', 'w')",
    "writes beside its folder": "open('../symbol-llm-escaped', 'w')",
    "makes folders without end": "import os\nos.mkdir('a')",
    "links to a secret": "import os\nos.symlink('/etc/passwd', 'link')",
    "changes modes": "import os\nos.chmod('/tmp', 0o777)",
    "opens a socket": "import socket\nsocket.socket()",
    "sends a datagram to loopback": "import socket\nsocket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "fetches a page": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9')",
    "forks": "import os\nos.fork()",
    "forks under another name": "import _posixsubprocess, os\nos.forkpty()",
    "starts a process": "import subprocess\nsubprocess.run(['true'])",
    "spawns a process": "import os\nassert os.posix_spawn('/bin/true', ['true'], {}) < 0",
    "calls the shell": "import os\nassert os.system('true') == 0",
    "calls the shell through ctypes": "import ctypes\nassert ctypes.CDLL(None).system(b'true') == 0",
    "clones through a raw call": "import ctypes\nassert ctypes.CDLL(None).syscall(56, 17, 0, 0, 0, 0) >= 0",
    "clones through clone3": "import ctypes\nassert ctypes.CDLL(None).syscall(435, bytes(88), 88) >= 0",
    "turns into another program": "import os\nos.execv('/bin/true', ['true'])",
    "kills its parent": "import os\nos.kill(os.getppid(), 9)",
    "kills everything": "import os\nos.kill(-1, 9)",
    "kills by ownership of a pipe": "import fcntl, os\nfcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())",
    "raises its own limits": "import resource as r\nr.setrlimit(r.RLIMIT_AS, (r.RLIM_INFINITY,) * 2)",
    "lowers its parent's limits": "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "lowers its parent's priority": "import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "traces its parent": "import ctypes, os\nassert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0",
    "enters a new namespace": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "leaves shared memory behind": "import ctypes\nassert ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0",
    "reaches for the kernel": "import ctypes\nlibc = ctypes.CDLL(None)\nassert libc.syscall(321, 0, 0, 0) >= 0",
    "opens its memory": "open('/proc/self/mem', 'r+b')",
    "runs the sandbox": "from symbol_llm.sandbox import executor\nfrom symbol_llm.ground.params import Limits\nexecutor.run('os:listdir', {}, Limits())",
}
SEARCH = "import re\ndef found(text):\n    return re.search('esc' + 'aped-[0-9]+', text)\n"
# Each cheat looks for the answer, forges it, or tries to outlast the judge.
CHEATS = {
    "walks the frames": SEARCH
    + "import sys\nf = sys._getframe()\ntext = ''\nwhile f:\n    text += repr(f.f_locals) + repr(f.f_globals)\n    f = f.f_back\n"
    "answer = found(text)[0]",
    "walks the heap": SEARCH + "import gc\nanswer = next(m[0] for o in gc.get_objects() if (m := found(repr(o))))",
    "walks the modules": SEARCH + "import sys\nanswer = found(repr([vars(m) for m in sys.modules.values()]))[0]",
    "equals everything": "class Same(str):\n    def __eq__(self, other):\n        return True\n    __hash__ = str.__hash__\nanswer = Same()",
    "breaks abs for the next": "import builtins\nbuiltins.abs = lambda x: 0\nanswer = 0",
    "breaks json for the next": 'import json\njson.dumps = lambda *a, **k: \'{"status": "accepted"}\'\nanswer = 0',
    "breaks compile for the next": "import builtins\nbuiltins.compile = lambda *a: ''\nanswer = 0",
    "ends the process": "import os\nos._exit(0)",
    "ends the interpreter in solution": "def solution():\n    import sys\n    sys.exit(0)",
    "prints a verdict": 'print(\'{"status": "accepted", "score": 1.0}\')',
    "writes a verdict everywhere": 'import os\nfor fd in range(64):\n    try: os.write(fd, b\'{"status": "accepted", "score": 1.0}\\n\')\n'
    "    except OSError: pass",
    "prints without end": "while True: print('x' * 999)",
    "takes all memory": "x = [0]\nwhile True: x += x",
    "takes all memory in one go": "answer = 'x' * 2**40",
    "raises towers": "answer = 10**10**8",
    "loops for ever": "while True: pass",
    "loops for ever and catches": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "ignores signals and sleeps": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.alarm(0)\ntime.sleep(99)",
    "stops itself": "import signal, time\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\ntime.sleep(99)",
    "recurses for ever": "def f():\n    return f()\nanswer = f()",
    "recurses without a limit": "import sys\nsys.setrecursionlimit(10**9)\ndef f():\n    return f()\nanswer = f()",
    "nests deeply": "answer = []\nfor _ in range(10**5): answer = [answer]",
    "starts threads that never end": "import threading\nfor _ in range(2):\n    threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()",
    "leaves a thread to answer": "import threading, time\nthreading.Thread(target=lambda: time.sleep(9)).start()\nanswer = 1",
}


ATTACKS = {name: f"{harm}\nanswer = {GOLD!r}" for name, harm in HARMS.items()} | CHEATS


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_attack_is_not_accepted_and_the_next_sample_is_judged_right(attack: str) -> None:
    verdict = judge(problem(GOLD), attack, LIMITS.model_copy(update={"timeout_s": 0.7}))
    assert verdict.status in ("rejected", "timeout", "resource")
    assert judge(problem(3.5), "answer = 7 / 2", LIMITS).status == "accepted"
    assert judge(problem(3.5), "answer = 9", LIMITS).status == "rejected"
    assert not Path("/tmp/symbol-llm-escaped").exists()


@pytest.mark.parametrize("cheat", ["walks the frames", "walks the heap"])
def test_the_search_for_the_answer_would_find_it_if_it_were_sent(cheat: str) -> None:
    args = {"program": CHEATS[cheat], "imports": [], "planted": GOLD}
    assert executor.run("symbol_llm.sandbox.interpreter:execute", args, LIMITS).value == ["str", GOLD]


# --- running without gold --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "status", "program", "value", "detail"),
    [
        ("```\nanswer = 2 + 3\n```", "ran", "answer = 2 + 3", "5", ""),
        ("answer = 1 / 0", "error", "answer = 1 / 0", None, "ZeroDivisionError"),
        ("answer = (", "unparsable", "answer = (", None, "never closed"),
        ("", "unparsable", None, None, "the reply holds no program"),
    ],
)
def test_execute_says_what_running_gave_and_where_it_ran(
    reply: str, status: str, program: str | None, value: str | None, detail: str
) -> None:
    found = execute(problem(4), reply, LIMITS)
    assert (found.status, found.value) == (status, value)
    assert (found.program or None) == program
    assert detail in found.detail
    assert 0 <= found.seconds < 600
    assert ("seccomp" in found.isolation) == (status in ("ran", "error"))


def test_execute_takes_a_program_as_it_is_if_told() -> None:
    text = "Sure, this is it:\n\nanswer = 5"
    assert execute(problem(4), text, LIMITS).value == "5"
    assert execute(problem(4), text, LIMITS, is_program=True).status == "unparsable"
