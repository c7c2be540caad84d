"""What this machine has and lacks, for `symbol-llm doctor`. Reads only; imports nothing heavy but torch, to ask for a GPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from symbol_llm import __version__
from symbol_llm.ground.errors import MissingDependency
from symbol_llm.sandbox import toolchain

PACKAGES = {
    "torch": "model",
    "transformers": "model",
    "deepspeed": "deepspeed",
    "peft": "lora",
    "vllm": "",
    "mlflow": "tracking",
    "dvc": "versions",
    "kfp": "pipelines",
    "kserve": "serving",
    "kubernetes": "serving",
    "sympy": "",
    "z3-solver": "",
}
"""Package and the extra that brings it."""
ROOT_VARIABLE = "SYMBOL_LLM_SAID_ROOT"
ROOT = "running as root, which nothing here needs: an ordinary user has less to lose, and programs are confined better"
TOOLS = ("git", "kubectl", "g++")


def inspect() -> dict[str, Any]:
    """Return flat facts: versions are None where the package is not installed."""
    facts: dict[str, Any] = {
        "symbol-llm": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": _gpu(),
        "engine": "vllm" if importlib.util.find_spec("vllm") else "transformers",
        "sandbox": _isolation(),
        "user": "root" if os.geteuid() == 0 else str(os.geteuid()),
    }
    facts |= {name: _version(name) for name in PACKAGES}
    facts |= {tool: shutil.which(tool) for tool in TOOLS}
    chains = {"jdk": toolchain.jdk("Main"), "go": toolchain.go()}
    return facts | {name: str(chain.home) if chain else None for name, chain in chains.items()}


def warn_if_root() -> None:
    """Say once, to this process and those it starts, that root is not needed."""
    if os.geteuid() == 0 and not os.environ.get(ROOT_VARIABLE):
        os.environ[ROOT_VARIABLE] = "1"
        print(textwrap.fill(ROOT, shutil.get_terminal_size().columns), file=sys.stderr)


def advice(facts: dict[str, Any]) -> list[str]:
    """Return a line for each thing missing: what it is for and how to get it."""
    lines = [
        f"missing: {name}; pip install 'symbol-llm[{extra}]'"
        for name, extra in PACKAGES.items()
        if facts[name] is None and extra
    ]
    if facts["vllm"] is None:
        lines.append(
            "missing: vllm, which samples faster; make setup-vllm (CPU) or pip install 'symbol-llm[vllm]' (GPU)"
        )
    for name, needed in (("jdk", toolchain.JDK), ("go", toolchain.GO)):
        if facts[name] is None:
            lines.append(f"missing: {needed}; without it, programs with tests are accepted in gold's form alone")
    if facts["user"] == "root":
        lines.append(ROOT)
    if facts["gpu"] is None:
        lines.append("no GPU: everything runs on the CPU, with small models only")
    return lines


def preflight(*arguments: str) -> tuple[int, str]:
    """Run `pipelines.preflight`, of this checkout or on PYTHONPATH, and return its exit code and what it printed.

    The library knows no cluster, and its wheel has no pipelines. What lies in the working folder does not count.
    """
    beside = Path(__file__).parents[1]
    paths = [str(beside)] if (beside / "pipelines" / "preflight.py").is_file() else []
    paths += filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if not any((Path(path) / "pipelines" / "preflight.py").is_file() for path in paths):
        raise MissingDependency("a cluster is asked by pipelines.preflight, which is in the checkout and in the images")
    command = [sys.executable, "-P", "-m", "pipelines.preflight", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, env=environment, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return done.returncode, done.stdout.rstrip("\n")


def missing(module: str) -> str | None:
    """Return how to get the package of an import that failed, if one of our extras brings it, else None."""
    name = module.partition(".")[0].replace("_", "-").lower()
    for line in importlib.metadata.requires("symbol-llm") or ():
        found = re.match(r"([\w.-]+).*; extra == ['\"]([\w-]+)['\"]", line)
        if found and found[1].lower() == name and found[2] not in ("all", "dev"):
            return f"this needs {name}, which is not installed: pip install 'symbol-llm[{found[2]}]'"
    return None


def _version(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _isolation() -> str:
    """Return the level a program really ran at, or why none could."""
    from symbol_llm.ground.errors import Unavailable
    from symbol_llm.ground.params import Limits
    from symbol_llm.sandbox import executor

    try:
        return executor.run("symbol_llm.sandbox.interpreter:execute", {"program": "answer = 1"}, Limits()).isolation
    except Unavailable as e:
        return f"none: {e}"


def _gpu() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
