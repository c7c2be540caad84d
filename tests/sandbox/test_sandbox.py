"""What a program cannot do, whom a failure is put down to, and that calls do not disturb one another."""

import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyseccomp
import pytest

from symbol_llm.ground.errors import MissingDependency, Unavailable
from symbol_llm.ground.params import Limits
from symbol_llm.sandbox import confinement, executor, processes, syscalls
from tests.problems import ISOLATION

RUN = "symbol_llm.sandbox.interpreter:execute"
LIMITS = Limits(timeout_s=5)
ROOT = Path(__file__).parents[2]
QUICK = Limits(timeout_s=0.5)
PATIENT = Limits(timeout_s=60)


def run(program: str, limits: Limits = LIMITS) -> executor.Outcome:
    return executor.run(RUN, {"program": program, "imports": []}, limits)


@pytest.fixture
def weak(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SYMBOL_LLM_SANDBOX", "weak")
    yield


def test_a_value_comes_back_with_the_level_it_ran_at() -> None:
    outcome = run("print('hello')\nanswer = 6 * 7")
    assert (outcome.status, outcome.value, outcome.stdout) == ("ok", ["int", "42"], "hello\n")
    assert outcome.isolation == ISOLATION
    assert 0 < outcome.seconds < LIMITS.timeout_s


def test_any_function_of_ours_can_be_an_entry() -> None:
    assert executor.run("json:dumps", {"b": [1]}, LIMITS).value == '{"b": [1]}'


def test_an_exception_is_told_in_one_line() -> None:
    outcome = run("raise ValueError('one\\ntwo')")
    assert (outcome.status, outcome.value, outcome.detail) == ("error", None, "ValueError: one two")


def test_an_exception_that_cannot_be_printed_is_contained() -> None:
    outcome = run("class E(Exception):\n    def __str__(self):\n        raise SystemExit\nraise E")
    assert (outcome.status, outcome.detail) == ("error", "an exception that cannot be printed")


def test_a_loop_without_end_times_out() -> None:
    outcome = run("while True: pass", QUICK)
    assert (outcome.status, outcome.detail) == ("timeout", "ran past 0.5 s")


def test_waiting_for_a_core_is_not_charged() -> None:
    """As many programs as may run at once each need 0.6 s of a core: by the wall clock all of them would be late."""
    program = "import time\nwhile time.process_time() < 0.6:\n    pass\nanswer = 1"
    with ThreadPoolExecutor(executor.PLACES) as pool:
        found = list(pool.map(lambda _: run(program, Limits(timeout_s=1.0)), range(executor.PLACES)))
    assert {outcome.status for outcome in found} == {"ok"}
    assert executor.PLACES == 1 or max(outcome.seconds for outcome in found) > 1.0


def test_sleeping_is_charged_and_keeps_no_core_from_others() -> None:
    with ThreadPoolExecutor(confinement.N_CORES + 1) as pool:
        run("answer = 1")
        asleep = [pool.submit(run, "import time\ntime.sleep(4)", PATIENT) for _ in range(confinement.N_CORES)]
        assert run("answer = 1").value == ["int", "1"]
        assert not any(sleeper.done() for sleeper in asleep)
    assert run("import time\ntime.sleep(600)", QUICK).status == "timeout"


def test_a_program_that_closes_its_channel_and_lives_on_times_out() -> None:
    assert run("import os\nos.closerange(0, 64)\nwhile True: pass", QUICK).status == "timeout"


def test_a_program_that_ends_its_process_gave_no_result() -> None:
    outcome = run("import os\nos._exit(0)")
    assert (outcome.status, outcome.detail) == ("error", "ended with status 0 before it gave a result")


def test_a_crash_of_the_interpreter_is_the_programs_error() -> None:
    assert run("import ctypes\nctypes.string_at(1)").detail == "died of signal 11, Segmentation fault"


@pytest.mark.parametrize(
    "program",
    [
        "answer = bytearray(2**40)",
        "x = [0]\nwhile True: x += x",
        "answer = 'x' * 100_000",
        "print('x' * 100_000)\nanswer = 1",
        "while True:\n    try: print('x' * 1000)\n    except Exception: pass",
        "import os\nwhile True: os.write(0, b'x' * 65536)",
        "open('f', 'wb').write(bytes(3_000_000))",
        "answer = [open('f', 'w') for _ in range(1000)]",
    ],
)
def test_too_much_memory_output_or_files_is_a_matter_of_resources(program: str) -> None:
    assert run(program).status == "resource"


def test_own_folder_is_empty_writable_and_gone_afterwards() -> None:
    program = (
        "import os\nbefore = os.listdir()\nopen('f', 'w').write('x')\nanswer = [before, os.listdir(), os.getcwd()]"
    )
    empty, written, folder = run(program).value[1]
    assert (empty, written) == (["list", []], ["list", [["str", "f"]]])
    assert not Path(folder[1]).exists()


def test_only_the_files_named_for_the_call_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "given").write_text("here")
    (tmp_path / "other").write_text("there")
    args = {"program": f"answer = open({str(tmp_path / 'given')!r}).read()", "imports": []}
    assert executor.run(RUN, args, LIMITS, readable=[tmp_path / "given"]).value == ["str", "here"]
    args["program"] = args["program"].replace("given", "other")
    assert executor.run(RUN, args, LIMITS, readable=[tmp_path / "given"]).status == "refused"


def test_a_program_has_no_environment_and_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    assert run("import os\nanswer = str(dict(os.environ))").value == ["str", "{}"]
    assert run("answer = input()").detail == "EOFError: EOF when reading a line"


def test_threads_work_and_do_not_outlive_the_call() -> None:
    program = (
        "import threading\nt = threading.Thread(target=lambda: x.append(5))\nx = []\nt.start()\nt.join()\nanswer = x[0]"
    )
    assert run(program).value == ["int", "5"]
    assert run(
        "import threading\nthreading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()\nanswer = 1"
    ).value


def test_sets_of_strings_and_random_numbers_are_the_same_every_time() -> None:
    program = "import random\nanswer = [list({'one', 'two', 'three', 'four'}), random.random()]"
    first = run(program).value
    executor.close()
    assert run(program).value == first


@pytest.mark.parametrize(
    "forged",
    [
        b"nonsense\n",
        b'{"status": "unscored"}\n',
        b'{"status": "ok", "value": NaN, "stdout": ""}\n',
        b'{"status": "ok", "value": "\\ud800", "stdout": ""}\n',
        b'{"status": "ok", "value": ' + b"9" * 5000 + b', "stdout": ""}\n',
        b"[" * 60_000 + b"\n",
        b"\xff\n",
    ],
)
def test_a_forged_result_that_is_not_well_formed_is_the_programs_error(forged: bytes) -> None:
    assert run(f"import os\nos.write(0, {forged!r})\nwhile True: pass").detail == "the result is not well formed"


def test_a_forged_result_is_worth_what_returning_it_would_be() -> None:
    forged = '{"status": "ok", "value": ["int", "7"], "detail": "", "stdout": "", "isolation": "x", "score": 1}\n'
    outcome = run(f"import os\nos.write(0, {forged.encode()!r})\nanswer = 8")
    assert (outcome.value, outcome.isolation) == (["int", "7"], ISOLATION)


def test_a_hundred_threads_get_each_their_own_answer() -> None:
    with ThreadPoolExecutor(100) as pool:
        values = list(pool.map(lambda n: run(f"answer = {n} * 2").value, range(300)))
    assert values == [["int", str(n * 2)] for n in range(300)]


def test_a_killed_zygote_is_replaced() -> None:
    assert run("answer = 1").status == "ok"
    for zygote in list(executor._zygotes.values()):
        zygote._process.kill()
        zygote._process.wait()
    assert run("answer = 2").value == ["int", "2"]


def test_a_zygote_killed_under_a_running_program_costs_no_verdict() -> None:
    run("answer = 1")
    zygote = executor._zygotes[("symbol_llm.sandbox.interpreter",)]
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(run, "answer = sum(range(10**7))")
        zygote._process.kill()
        assert call.result().value == ["int", "49999995000000"]


def test_a_zygote_that_cannot_start_is_our_failure() -> None:
    with pytest.raises(MissingDependency, match="no_such_library"):
        executor.run("json:dumps", {}, LIMITS, preload=("no_such_library",))
    with pytest.raises(Unavailable, match="Empty module name"):
        executor.run("json:dumps", {}, LIMITS, preload=("",))


def test_the_zygote_ends_with_its_caller() -> None:
    code = (
        "from symbol_llm.sandbox import executor\nfrom symbol_llm.ground.params import Limits\nimport os, signal\n"
        "executor.run('json:dumps', {}, Limits())\n"
        "print([z._process.pid for z in executor._zygotes.values()][0], flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert ends(int(done.stdout))


def ends(pid: int) -> bool:
    """Say whether the process is gone, or a zombie, within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
    return False


def test_a_forked_copy_of_the_caller_starts_its_own_zygote() -> None:
    assert run("answer = 1").status == "ok"
    pid = os.fork()
    if pid == 0:
        os._exit(0 if run("answer = 2").value == ["int", "2"] else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert run("answer = 3").value == ["int", "3"]


# A kernel without Landlock, made by a filter over the caller that its zygote inherits.
WITHOUT_LANDLOCK = """
from symbol_llm.sandbox import confinement, executor
from symbol_llm.ground.params import Limits
import pyseccomp
calls = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
calls.add_rule(pyseccomp.ERRNO(1), "landlock_create_ruleset")
calls.load()
print(executor.run("json:dumps", {}, Limits()).isolation)
"""


def test_without_landlock_the_sandbox_refuses_to_run() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LANDLOCK], capture_output=True, text=True, check=False)
    assert "Unavailable" in done.stderr
    assert "this machine offers seccomp; set SYMBOL_LLM_SANDBOX=weak" in done.stderr


def test_weak_runs_without_landlock_and_says_so(weak: None) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LANDLOCK], capture_output=True, text=True, check=False)
    assert done.stdout == "seccomp+rlimits\n"


WITHOUT_LIBSECCOMP = """
import ctypes.util
from symbol_llm.sandbox import executor
from symbol_llm.ground.params import Limits
find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if name == "seccomp" else find(name)
print(executor.run("json:dumps", {}, Limits()).isolation)
"""


def test_without_libseccomp_the_sandbox_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LIBSECCOMP], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert "libseccomp is not installed (apt-get install libseccomp2); set SYMBOL_LLM_SANDBOX=weak" in done.stderr


def test_weak_runs_without_libseccomp_and_says_so(weak: None) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LIBSECCOMP], capture_output=True, text=True, check=False)
    assert done.stdout == f"landlock{confinement.landlock_version()}+rlimits\n"


@pytest.mark.parametrize("machine", [pyseccomp.Arch.X86_64, pyseccomp.Arch.AARCH64])
def test_each_call_the_filter_names_is_one_of_the_kernels(machine: int) -> None:
    names = {*syscalls.ALLOWED, *syscalls.ALLOWED_TO_COMMANDS, *syscalls.ALLOWED_TO_WORKERS, *syscalls.ALLOWED_WITH}
    assert [name for name in names if pyseccomp.resolve_syscall(machine, name) == -1] == []


# Calls of which each has no business in a program of a model; the filter names none of them.
REFUSED = """
socket connect bind listen accept accept4 sendto sendmsg sendmmsg recvfrom recvmsg getsockopt setsockopt
shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl
mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr inotify_init1 inotify_add_watch fanotify_init
io_setup io_submit io_destroy io_uring_setup io_uring_enter io_uring_register timer_create timerfd_create signalfd4
truncate fallocate flock link linkat symlink symlinkat mkdir mkdirat rmdir mknod mknodat chmod fchmod fchmodat chown
utimensat setxattr getxattr ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_open pidfd_getfd
pidfd_send_signal kill tkill rt_sigqueueinfo rt_tgsigqueueinfo fork vfork clone3 wait4 waitid setsid setpgid execveat
mount umount2 pivot_root chroot open_tree move_mount fsopen fsmount mount_setattr unshare setns personality
memfd_create memfd_secret userfaultfd perf_event_open bpf keyctl add_key request_key init_module finit_module
kexec_load reboot swapon settimeofday clock_settime adjtimex sethostname syslog acct iopl ioperm modify_ldt vhangup
quotactl setpriority ioprio_set sched_setaffinity sched_setscheduler sched_setparam sched_setattr setrlimit
migrate_pages move_pages mbind set_mempolicy mlock mlockall setuid setgid setgroups capset seccomp
landlock_create_ruleset name_to_handle_at open_by_handle_at splice tee vmsplice sync syncfs
""".split()
ATTEMPT = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
answered = []
for name, number in {numbers}.items():
    ctypes.set_errno(0)
    returned = libc.syscall(number, *[ctypes.c_long(0)] * 6)
    if returned != -1 or ctypes.get_errno() not in (1, 38):
        answered.append((name, returned, ctypes.get_errno()))
"""


def numbers_here() -> dict[str, int]:
    found = {name: pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) for name in REFUSED}
    return {name: number for name, number in found.items() if number >= 0}


def test_no_other_call_is_answered() -> None:
    attempt = ATTEMPT.replace("{numbers}", repr(numbers_here()))
    assert len(numbers_here()) > 100
    assert run(f"{attempt}\nanswer = repr(answered)").value == ["str", "[]"]
    assert run_text(f"{attempt}\nprint(answered)").stdout == "[]\n"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is of x86-64")
def test_a_call_by_another_convention_ends_the_program() -> None:
    outcome = run("import ctypes\nanswer = ctypes.CDLL(None).syscall(0x40000000 + 39)")
    assert (outcome.status, outcome.detail) == ("error", "died of signal 31, Bad system call")


@pytest.mark.parametrize(
    "attempt",
    [
        "fcntl.fcntl(1, fcntl.F_SETFL, os.O_APPEND)",
        "os.set_blocking(1, False)",
        "fcntl.fcntl(open('f', 'w'), fcntl.F_SETLEASE, fcntl.F_WRLCK)",
        "fcntl.fcntl(open('f', 'w'), 1036, bytes(8))",
        "fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid())",
        "fcntl.ioctl(0, 0x8901, os.getppid().to_bytes(4, 'little'))",
        "libc(libc.prctl(1, 0, 0, 0, 0))",
        "resource.prlimit(os.getppid(), resource.RLIMIT_CPU)",
        "os.truncate('f', 0)",
        "os.mkdir('g')",
    ],
)
def test_a_call_is_refused_by_what_it_asks_for(attempt: str) -> None:
    program = f"""
import ctypes, fcntl, os, resource
open('f', 'w').close()
prctl = ctypes.CDLL(None, use_errno=True).prctl
class Libc:
    def prctl(self, *words):
        return ctypes.CDLL(None, use_errno=True).prctl(*words)
    def __call__(self, returned):
        if returned < 0:
            raise PermissionError(ctypes.get_errno(), "refused")
libc = Libc()
{attempt}
answer = 1
"""
    assert run(program).status == "refused"


def test_the_processes_of_others_do_not_count_against_a_thread() -> None:
    """Six hundred tasks of one ordinary user are there already; its right program with a thread is still right."""
    code = f"""
import os, sys, threading
gate = threading.Event()
for _ in range(600):
    threading.Thread(target=gate.wait, daemon=True).start()
from symbol_llm.sandbox import executor
from symbol_llm.ground.params import Limits
program = "import threading\\nt = threading.Thread(target=int)\\nt.start()\\nt.join()\\nanswer = 1"
print(executor.run({RUN!r}, {{"program": program, "imports": []}}, Limits()).status)
gate.set()
"""
    ordinary: dict[str, Any] = {"user": 65532, "group": 65532, "extra_groups": []} if os.getuid() == 0 else {}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, **ordinary
        )
    except PermissionError:
        pytest.skip("the interpreter is this user's alone")
    assert done.stdout == "ok\n", done.stderr


def test_many_more_programs_at_once_than_one_may_have_files(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 2 * confinement.MAX_OPEN_FILES
    monkeypatch.setattr(executor, "_running", threading.BoundedSemaphore(n))
    with ThreadPoolExecutor(n) as pool:
        outcomes = list(pool.map(lambda k: run(f"import time\ntime.sleep(2)\nanswer = {k}", PATIENT), range(n)))
    assert [outcome.value for outcome in outcomes] == [["int", str(k)] for k in range(n)]


def test_a_program_among_many_inherits_no_open_file(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 2 * confinement.MAX_OPEN_FILES
    monkeypatch.setattr(executor, "_running", threading.BoundedSemaphore(n))
    look = (
        "import os, time\ntime.sleep(1)\nanswer = []\nfor fd in range(3, 1024):\n"
        "    try:\n        os.fstat(fd)\n        answer.append(fd)\n    except OSError: pass"
    )
    with ThreadPoolExecutor(n) as pool:
        assert {str(outcome.value) for outcome in pool.map(lambda _: run(look, PATIENT), range(n))} == {"['list', []]"}


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("for n in range(1000): open(str(n), 'w').close()\nanswer = 1", "over 256 files"),
        ("for n in range(20): open(str(n), 'wb').write(bytes(2**20))\nanswer = 1", "files are over 8 MiB together"),
        (
            "for n in range(20): open(str(n), 'wb').write(bytes(2**20))\nwhile True: pass",
            "files are over 8 MiB together",
        ),
        (
            "import os\nfor n in range(999): open(str(n), 'w').close()\nos.close(0)\nwhile True: pass",
            "over 256 files",
        ),
        (
            "import os, time\nfor n in range(999): open(str(n), 'w').close()\nwhile True: os.write(0, b'x'); time.sleep(0.01)",
            "over 256 files",
        ),
    ],
)
def test_the_folder_has_a_budget(program: str, detail: str) -> None:
    outcome = run(program)
    assert (outcome.status, outcome.detail) == ("resource", detail)
    assert outcome.seconds < LIMITS.timeout_s / 2


def test_what_an_earlier_command_left_is_not_counted_against_the_next() -> None:
    write = "for n in range(20): open(str(n), 'wb').write(bytes(2**20))"
    roomy = LIMITS.model_copy(update={"file_mib": 4})
    commands = [command("-I", "one.py", limits=roomy), command("-I", "two.py"), command("-I", "three.py")]
    texts = {
        "one.py": write,
        "two.py": "open('x', 'wb').write(bytes(2**20))",
        "three.py": write.replace("str(n)", "f'y{n}'"),
    }
    outcomes = executor.run_commands(commands, texts, executable=[PYTHON])
    assert [(o.status, o.detail) for o in outcomes] == [
        ("ok", ""), ("ok", ""), ("resource", "files are over 8 MiB together"),
    ]  # fmt: skip


def test_threads_of_little_stack_are_counted() -> None:
    program = (
        "import threading, time\nthreading.stack_size(32768)\nfor _ in range(5000):\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nwhile True: pass"
    )
    outcome = run(program)
    assert outcome.status in ("resource", "error")
    assert outcome.detail in ("over 512 threads", "RuntimeError: can't start new thread")


def test_annotations_of_a_program_are_evaluated_as_python_does() -> None:
    assert run("def f(x: int) -> int: return x\nanswer = str(f.__annotations__['x'])").value == ["str", "<class 'int'>"]
    assert run("def f(x: Unknown): return x\nanswer = 1").detail == "NameError: name 'Unknown' is not defined"


# --- older kernels: Landlock's interface had fewer rights in each of its versions before ours ---------------------------


@pytest.fixture(params=range(1, confinement.NEWEST_LANDLOCK))
def older(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Have children confined as on a kernel with an older Landlock, and return its version."""
    version: int = request.param
    if confinement.landlock_version() < version:
        pytest.skip("the kernel's Landlock is older still")
    monkeypatch.setattr(confinement, "NEWEST_LANDLOCK", version)
    return version


def test_with_an_older_landlock_the_level_says_so_and_right_programs_are_right(older: int) -> None:
    program = (
        "import os\nopen('f', 'w').write('one')\nopen('f', 'w').write('two')\nos.rename('f', 'g')\n"
        "file = open('g', 'r+')\nfile.truncate(1)\nanswer = open('g').read() + str(os.listdir())"
    )
    outcome = run(program)
    assert (outcome.value, outcome.isolation) == (["str", "t['g']"], f"landlock{older}+seccomp+rlimits")
    assert run_text("print(1)").isolation == f"landlock{older}+seccomp+rlimits"


@pytest.mark.parametrize(
    "attempt",
    [
        "open(given, 'w')",
        "open(given, 'r+')",
        "os.open(given, os.O_RDONLY | os.O_TRUNC)",
        "os.open(given, os.O_ACCMODE | os.O_TRUNC)",
        "os.open(given, os.O_RDONLY | os.O_TRUNC | os.O_CREAT)",
        "libc(libc.syscall(2, given.encode(), os.O_TRUNC))",
        "os.truncate(given, 0)",
        "os.unlink(given)",
        "os.link(given, 'f')",
        "open(other)",
        "open(other, 'w')",
        "os.mkdir('folder')",
        "socket.socket()",
        "os.kill(os.getppid(), 9)",
        "os.fork()",
    ],
)
def test_with_an_older_landlock_what_it_does_not_know_of_is_refused_too(
    older: int, attempt: str, tmp_path: Path
) -> None:
    """The file may be read, and its owner, who runs the child, may write to it."""
    if "syscall" in attempt and platform.machine() != "x86_64":
        pytest.skip("a number of x86-64")
    given, other = tmp_path / "given", tmp_path / "other"
    given.write_text("whole")
    other.write_text("whole")
    text = f"""
import ctypes, os, socket
given, other = {str(given)!r}, {str(other)!r}
class Libc:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    def __call__(self, returned):
        if returned < 0:
            raise OSError(ctypes.get_errno(), "refused")
libc = Libc()
try:
    {attempt}
except PermissionError:
    print("refused")
"""
    outcome = executor.run(RUN, {"program": f"{text}\nanswer = 1", "imports": []}, LIMITS, readable=[given])
    assert (outcome.value, outcome.stdout) == (["int", "1"], "refused\n")
    outcome = executor.run_commands([command("-I", "one.py")], {"one.py": text}, executable=[PYTHON], readable=[given])[
        0
    ]
    assert outcome.stdout == "refused\n"
    assert (given.read_text(), other.read_text()) == ("whole", "whole")


# --- workers: what one child leaves must not reach the next -------------------------------------------------------------

WORKER = "import os\nanswer = os.getppid()"


def test_children_of_one_worker_follow_one_another_and_are_each_their_own() -> None:
    executor.close()
    assert len({str(run(WORKER).value) for _ in range(5)}) == 1
    assert len({str(run("import os\nanswer = os.getpid()").value) for _ in range(5)}) == 5


@pytest.mark.parametrize(
    "program",
    [
        "open('f', 'w').write('x')\nanswer = 1",
        "open('f', 'w').close()\nimport os\nos.remove('f')\nanswer = 1",
        'import os\nos.write(0, b\'{"status": "ok", "value": ["int", "1"], "stdout": ""}\\n\')\nanswer = 2',
        "import os\nos.write(0, b'half a line')\nos._exit(0)",
        "import os\nos._exit(1)",
        "import ctypes\nctypes.string_at(1)",
    ],
)
def test_a_worker_whose_child_left_a_trace_or_did_not_just_answer_is_not_used_again(program: str) -> None:
    before = run(WORKER).value
    run(program)
    assert run(WORKER).value != before
    assert run("import os\nanswer = os.listdir()").value == ["list", []]


def test_a_child_killed_in_time_leaves_its_worker_to_no_other() -> None:
    before = run(WORKER, QUICK).value
    assert run("import time\ntime.sleep(60)", QUICK).status == "timeout"
    assert run(WORKER, QUICK).value != before


def test_workers_are_replaced_after_so_many_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "MAX_CHILDREN", 3)
    executor.close()
    workers = [str(run(WORKER).value) for _ in range(9)]
    assert len(set(workers)) == 3
    assert workers[0] == workers[1] == workers[2]


def test_a_program_finds_nothing_of_the_one_before_in_memory() -> None:
    search = (
        "import gc\nown = ['own-' + 'tr' + 'ace']\ntexts = []\n"
        "for o in gc.get_objects():\n    texts += list(o.values()) if isinstance(o, dict) else o if isinstance(o, list) else []\n"
        "answer = sorted({t for t in map(str, texts) if t.endswith('-tr' + 'ace') and len(t) < 20})"
    )
    run("kept = ['secret-' + 'tr' + 'ace']\nanswer = kept[0]")
    assert run(search).value == ["list", [["str", "own-trace"]]]


# --- commands: the interpreter plays the tool -------------------------------------------------------------------------

PYTHON = Path(os.path.realpath(sys.executable))


def command(*args: str, limits: Limits = LIMITS, tool: str | Path = PYTHON) -> executor.Command:
    return executor.Command([str(tool), *args], limits, reserved_mib=256)


def run_files(*names: str, limits: Limits = LIMITS, **files: str) -> list[executor.Outcome]:
    texts = {f"{name}.py": text for name, text in files.items()}
    commands = [command("-I", f"{name}.py", limits=limits) for name in names]
    return executor.run_commands(commands, texts, executable=[PYTHON])


def run_text(text: str, limits: Limits = LIMITS) -> executor.Outcome:
    return run_files("one", limits=limits, one=text)[0]


def test_a_command_finds_its_files_and_what_it_prints_on_either_stream_comes_back() -> None:
    text = "import os, sys\nprint(sorted(os.listdir()), sys.stdin.read(), flush=True)\nprint('é', file=sys.stderr)"
    outcome = run_text(text)
    assert (outcome.status, outcome.value, outcome.stdout) == ("ok", 0, "['one.py'] \né\n")
    assert outcome.isolation == ISOLATION


def test_commands_follow_one_another_in_one_folder_until_one_fails() -> None:
    wrote = "open('left', 'w').write('here')"
    outcomes = run_files("one", "two", "one", one=wrote, two="raise SystemExit(open('left').read() == 'here' and 7)")
    assert [(o.status, o.value, o.detail) for o in outcomes] == [("ok", 0, ""), ("error", 7, "ended with status 7")]


def test_a_tool_that_is_not_there_or_not_allowed_is_told_from_one_that_fails(tmp_path: Path) -> None:
    (tmp_path / "tool").symlink_to(PYTHON)
    for tool in (tmp_path / "none", "/bin/true"):
        outcome = executor.run_commands([command(tool=tool)], {}, executable=[PYTHON])[0]
        assert (outcome.status, outcome.value) == ("error", 127)
        assert f"cannot execute {tool}: " in outcome.stdout
    assert executor.run_commands([command("-V", tool=tmp_path / "tool")], {}, executable=[PYTHON])[0].value == 0


def test_what_a_command_made_can_be_executed() -> None:
    copy = (
        f"import os\nwith os.fdopen(os.open('made', 65, 0o700), 'wb') as f: f.write(open({str(PYTHON)!r}, 'rb').read())"
    )
    limits = LIMITS.model_copy(update={"file_mib": 64})
    commands = [command("-I", "-S", "one.py", limits=limits), command("-V", tool="./made")]
    assert executor.run_commands(commands, {"one.py": copy}, executable=[PYTHON])[-1].stdout.startswith("Python 3")


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/passwd')",
        "open('/tmp/symbol-llm-escaped-command', 'w')",
        "os.mkdir('folder')",
        "os.symlink('/etc', 'link')",
        "os.chmod('one.py', 0o4755)",
        "socket.socket()",
        "os.fork()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), 9)",
        "os.kill(os.getpid(), 0)",
        "signal.pidfd_send_signal(os.pidfd_open(os.getpid()), 0)",
        "os.setpriority(os.PRIO_PROCESS, 0, 5)",
        "resource.prlimit(os.getppid(), resource.RLIMIT_CPU)",
        "libc(libc.syscall(234, os.getppid(), os.getppid(), 9))",
        "libc(libc.syscall(319, b'x', 0))",
    ],
)
def test_a_command_is_refused_what_any_program_is(attempt: str) -> None:
    if "syscall" in attempt and platform.machine() != "x86_64":
        pytest.skip("numbers of x86-64")
    text = f"""
import ctypes, os, resource, signal, socket
class Libc:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    def __call__(self, returned):
        if returned < 0:
            raise OSError(ctypes.get_errno(), "refused")
libc = Libc()
try:
    {attempt}
except PermissionError:
    print("refused")
"""
    assert run_text(text).stdout == "refused\n"
    assert not list(Path("/tmp").glob("symbol-llm-escaped-*"))


def test_a_command_that_becomes_another_is_no_freer() -> None:
    inner = "try:\n    open('/etc/passwd')\nexcept PermissionError:\n    print('refused')"
    outer = f"import os\nos.execv({str(PYTHON)!r}, ['python', '-I', 'two.py'])"
    assert run_files("one", one=outer, two=inner)[0].stdout == "refused\n"


def test_a_command_has_no_capabilities_and_an_environment_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    text = (
        "import ctypes, os, struct\nheld = ctypes.create_string_buffer(24)\n"
        "ctypes.CDLL(None).capget(struct.pack('Ii', 0x20080522, 0), held)\nprint(held.raw == bytes(24), sorted(os.environ))"
    )
    assert run_text(text).stdout == "True ['HOME', 'LC_ALL', 'MALLOC_ARENA_MAX', 'TMPDIR']\n"


def test_threads_of_a_command_may_signal_one_another_and_end_with_it() -> None:
    text = (
        "import signal, threading\nsignal.signal(signal.SIGUSR1, lambda *_: print('signalled', flush=True))\n"
        "threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()\n"
        "signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)"
    )
    assert run_text(text).stdout == "signalled\n"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("while True: pass", "timeout"),
        ("import os\nos.closerange(0, 3)\nwhile True: pass", "timeout"),
        (
            "import threading\nfor _ in range(8): threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()",
            "timeout",
        ),
        ("import time\nprint('one', flush=True)\ntime.sleep(60)", "timeout"),
        ("while True: print('x' * 1000)", "resource"),
        ("bytearray(2**34)", "error"),
        ("open('f', 'wb').write(bytes(3_000_000))", "error"),
        ("import ctypes\nctypes.string_at(1)", "error"),
    ],
)
def test_a_command_that_takes_too_much_is_ended_and_leaves_nothing(
    text: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run_text(text, Limits(timeout_s=0.5)).status == status
    assert run_text("print(1)").stdout == "1\n"
    assert list(tmp_path.iterdir()) == []
    zygote = executor._zygotes[processes.COMMANDS]._process.pid
    assert all(ends(int(pid)) for pid in Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split())


def test_programs_that_are_no_commands_execute_nothing_still() -> None:
    assert run_text("").status == "ok"
    assert run(f"import os\nos.execv({str(PYTHON)!r}, ['python', '-V'])").status == "refused"


def test_a_killed_zygote_of_commands_is_replaced() -> None:
    assert run_text("").status == "ok"
    process = executor._zygotes[processes.COMMANDS]._process
    process.kill()
    process.wait()
    assert run_text("print(1)").stdout == "1\n"


def test_an_ordinary_user_without_capabilities_is_confined_alike() -> None:
    code = (
        "import os\nfrom symbol_llm.sandbox import executor\nfrom symbol_llm.ground.params import Limits\n"
        "print(os.getuid(), executor.run('json:dumps', {}, Limits()).isolation)"
    )
    user = ["unshare", "--user", "--map-user=1000"] if os.getuid() == 0 else []
    done = subprocess.run([*user, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("no user namespaces here")
    assert done.stdout == f"{1000 if user else os.getuid()} {ISOLATION}\n"
