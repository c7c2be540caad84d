"""Tool chains that build programs in other languages, where they are on this machine: a JDK, Go. It judges nothing.

A driver of ours is built with the program, calls its functions and prints, behind `MARK`, what they gave. The two share
a process, so what follows the mark is what the program claims; hence no driver built with it holds what is right.

Building runs no text of the program: javac is told to run no annotation processors, and Go's compiler and linker are
called directly, without the go command, so that neither C nor assembly nor a generator has a part in it. What was built
runs in the same private folder, confined alike (see `sandbox.run_commands`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from symbol_llm.ground.errors import LimitExceeded, TimedOut, Unavailable
from symbol_llm.ground.params import Limits
from symbol_llm.sandbox import executor
from symbol_llm.sandbox.child import MAX_DETAIL

MARK = "\x02results "
BUILD_S = 3.0
"""Seconds that each step of building may take beyond the program's own time limit."""
BUILD_FILE_MIB = 64
OURS = Limits(timeout_s=60)
"""For what holds no text of a model."""
JDK = "a JDK: apt-get install default-jdk-headless"
GO = "Go with its packages built: apt-get install golang-go; from Go 1.20 on, also GODEBUG=installgoroot=all go install std"

_EXHAUSTED = re.compile(
    "OutOfMemoryError|out of memory|insufficient memory|cannot allocate memory"
    "|unable to create native thread|failed to create new OS thread",
    re.IGNORECASE,
)
"""What the JVM and Go's runtime say when they are out of memory or threads, wherever in them that is first noticed."""
_CANNOT_EXECUTE = 127


class Toolchain(NamedTuple):
    """How a program in one language is built and started; words are as for `sandbox.Command`."""

    home: Path
    build: tuple[tuple[str, ...], ...]
    """Commands that read `SOURCES` in the private folder."""
    start: tuple[str, ...]
    reserved_mib: int
    executable: tuple[Path, ...]
    readable: tuple[Path, ...]


class Claim(NamedTuple):
    """What a program says that its calls gave, on one line; None, and why, if it was not built or did not end well."""

    text: str | None
    detail: str
    isolation: str


def ask(tools: Toolchain, sources: Mapping[str, str], limits: Limits) -> Claim:
    """Build `sources` (text by file name, in the order of the compiler's command line), start it, return its claim.

    The program's own time counts against `limits`; each step of building has `BUILD_S` more.
    Raises TimedOut, LimitExceeded (the program's fault), Unavailable (ours).
    """
    build_limits = limits.model_copy(update={"timeout_s": limits.timeout_s + BUILD_S, "file_mib": BUILD_FILE_MIB})
    steps = [executor.Command(_fill(words, sources, limits), build_limits, tools.reserved_mib) for words in tools.build]
    steps.append(executor.Command(_fill(tools.start, sources, limits), limits, tools.reserved_mib))
    outcomes = executor.run_commands(steps, sources, executable=tools.executable, readable=tools.readable)
    last = outcomes[-1]
    is_built = len(outcomes) == len(steps)
    if last.value == _CANNOT_EXECUTE and not is_built:
        raise Unavailable(last.stdout.strip())
    last.check_limits()
    if last.status != "ok" and _EXHAUSTED.search(last.stdout):
        raise LimitExceeded(_complaint(last), last.isolation)
    _, mark, claimed = last.stdout.rpartition(MARK)
    if last.status != "ok" or not mark:
        return Claim(None, _complaint(last), last.isolation)
    return Claim(claimed.partition("\n")[0], "", last.isolation)


def work_out(tools: Toolchain, sources: Mapping[str, str]) -> str:
    """Return the claim of `sources` that hold no text of a model; Unavailable where there is none."""
    try:
        claim = ask(tools, sources, OURS)
    except (TimedOut, LimitExceeded) as e:
        raise Unavailable(f"what the tests want cannot be worked out: {e}") from e
    if claim.text is None:
        raise Unavailable(f"what the tests want cannot be worked out: {claim.detail}")
    return claim.text


def _fill(words: tuple[str, ...], sources: Mapping[str, str], limits: Limits) -> list[str]:
    filled = [word.replace("MEMORY_MIB", str(limits.memory_mib)) for word in words]
    return [name for word in filled for name in (sources if word == "SOURCES" else [word])]


def _complaint(outcome: executor.Outcome) -> str:
    """Return the first line that tells of an error, or the first, or how it ended."""
    lines = [" ".join(line.split()) for line in outcome.stdout.splitlines() if re.search(r"[^\W_]", line)]
    telling = [line for line in lines if "error:" in line or line.startswith(("panic:", "fatal error:"))]
    return next(iter(telling + lines), outcome.detail or "ended before it gave a result")[:MAX_DETAIL]


# One thread compiles and one collects garbage; code and classes have bounds of their own beside the heap.
_JVM = (
    "-Xshare:auto", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-XX:ReservedCodeCacheSize=32m",
    "-XX:CompressedClassSpaceSize=32m", "-XX:MaxMetaspaceSize=96m", "-XX:ErrorFile=/dev/null", "-XmxMEMORY_MIBm",
)  # fmt: skip
_JVM_RESERVED_MIB = 640
_GO_RESERVED_MIB = 1536
"""Go 1.27 sets 1.2 GB aside, Go 1.19 0.7 GB."""


def jdk(main: str) -> Toolchain | None:
    """Return the JDK that `javac` on the path belongs to, to start the class `main`; None if there is none."""
    home = _home("javac")
    if home is None or not (home / "bin" / "java").exists():
        return None
    options = ("-proc:none", "-implicit:none", "-nowarn", "-Xmaxerrs", "5", "-encoding", "UTF-8", "-d", ".")
    javac = (str(home / "bin" / "javac"), *(f"-J{option}" for option in _JVM), *options, "SOURCES")
    java = (str(home / "bin" / "java"), *_JVM, "-cp", ".", main)
    settings = (home / "lib" / "jvm.cfg").resolve().parent  # which Debian keeps elsewhere
    return Toolchain(home, (javac,), java, _JVM_RESERVED_MIB, (home,), (settings,))


def go() -> Toolchain | None:
    """Return the tool chain that `go` on the path belongs to; None if there is none, or none with packages built."""
    home = _home("go")
    tools = next(iter((home / "pkg" / "tool").glob("linux_*/compile")), None) if home else None
    packages = home / "pkg" / tools.parent.name if home and tools else None
    if home is None or tools is None or packages is None or not (packages / "fmt.a").exists():
        return None
    compiling = (str(tools), "-p", "main", "-complete", "-pack", "-I", str(packages), "-o", "program.a", "SOURCES")
    linking = ("-s", "-w", "-tmpdir", ".", "-L", str(packages), "-o", "program", "program.a")
    build = (compiling, (str(tools.parent / "link"), *linking))
    return Toolchain(home, build, ("./program",), _GO_RESERVED_MIB, (tools.parent,), (packages,))


def _home(tool: str) -> Path | None:
    found = shutil.which(tool)
    return Path(found).resolve().parents[1] if found else None
