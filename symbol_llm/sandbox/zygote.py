"""What runs in a zygote: it imports libraries once, then forks workers, which end with it or with the caller.

It never sees a program, an argument or an answer.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys

COMMON = (
    "bisect", "calendar", "cmath", "collections", "contextlib", "copy", "datetime", "decimal", "enum", "fractions",
    "functools", "heapq", "itertools", "json", "math", "operator", "os", "random", "re", "statistics", "string", "time",
    "typing",
)  # fmt: skip
"""What programs import most, and what that is small. An import takes a child longer than running it does."""


def serve() -> None:
    """Import what the caller says on standard input, then fork a worker for each two open files that arrive, until it closes."""
    caller = socket.socket(fileno=0)
    os.dup2(1, 3)  # keeps the number free for `child.CONTROL`
    start = json.loads(caller.recv(2**20))
    if complaint := _import(start["modules"]):
        caller.send(complaint.encode())
        return
    from symbol_llm.sandbox import child, confinement

    confinement.settle(start["libraries"], *map(bytes.fromhex, start["filters"]))
    for module in (child, *filter(None, map(sys.modules.get, start["modules"]))):
        getattr(module, "rehearse", int)()
    gc.collect()
    _close_gaps()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    caller.send(b"ready")
    zygote = os.getpid()
    while (message := socket.recv_fds(caller, 1, 2))[0]:
        answers, control = message[1]
        if confinement.fork() == 0:  # where it fails, the caller sees both of them close
            try:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.dup2(answers, child.ANSWERS)
                os.dup2(control, child.CONTROL)
                child.work(zygote)
            finally:
                os._exit(0)
        os.close(answers)
        os.close(control)


def _import(modules: list[str]) -> str:
    """Import what children need, what they use most last; return what went wrong, which the caller raises."""
    for name in COMMON:
        importlib.import_module(name)
    _close_gaps()
    try:
        for name in ("symbol_llm.sandbox.child", *modules):
            module, _, function = name.partition(":")
            loaded = importlib.import_module(module)
            if function:
                getattr(loaded, function)()
    except ModuleNotFoundError as e:
        return f"missing {e.name}"
    except Exception as e:  # whatever an import raises
        return f"{type(e).__name__}: {e}"[:1000]
    return ""


_POOL, _POOL_HEADER, _LARGEST = 16384, 48, 512
"""Bytes: blocks of one size lie together in a pool, behind its header; larger ones are libc's. Were these wrong, children
would be slower and no less right."""
_in_gaps: list[object] = []


def _close_gaps() -> None:
    """Use up free memory between objects, so that what is made from now on lies together.

    A page that a child writes to, if only to count a reference, is copied first: most of what a child costs.
    """
    for size in range(16, _LARGEST + 1, 16):
        last = 0
        for n in range(_POOL):
            block = object() if size == 16 else complex(n, 1) if size == 32 else bytes(size - 33)  # noqa: PLR2004
            _in_gaps.append(block)
            if last % _POOL == _POOL_HEADER and id(block) == last + size:
                break  # the second of a pool that was empty
            last = id(block)
