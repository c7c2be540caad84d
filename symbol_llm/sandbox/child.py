"""What runs in a worker and in the children that it forks, one for each program.

A worker is confined once for all its children: what it has given up, they never had. It waits for a request but does not
read it, so nothing of one can be found in the memory of the next. The child reads it, gives up what only its worker needs,
calls what it asks for, answers and ends; or it becomes the command asked for. The worker says how it ended.

Little is imported here, since all that a worker holds makes forking it slower.
"""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from symbol_llm.sandbox import confinement

ANSWERS, CONTROL = 0, 3
"""Open files of a worker: what its children answer and commands print on, and where it is told what to do and says how
they ended. Children keep the first alone. It takes the place of input, at whose end a program finds itself."""
LENGTH = struct.Struct("Q")
"""Bytes of the settings that follow."""
GO = b"g"
"""Has a worker fork a child, which reads the rest: `REQUEST` and what it announces."""
REQUEST = struct.Struct("QQ")
"""Bytes of the request that follows; tasks of this user beyond which the child starts none."""
ENDED = struct.Struct("i")
"""How a child ended, as waitpid tells."""
FAILED = -1
"""In place of how a child ended: it could not be confined."""
MAX_DETAIL = 300
REHEARSALS = 30
"""After which Python learns no more about code that runs always alike."""
_CHUNK = 65536


class TooMuchError(BaseException):
    """More output, files or threads than the limits allow; no `except Exception` of a program stops it."""


# --- the worker -------------------------------------------------------------------------------------------------------


def work(zygote: int) -> None:
    """Confine this fresh fork of `zygote` as it is told on `CONTROL`, then fork a child a request until the caller hangs up."""
    os.setsid()
    confinement.end_with(zygote)
    settings = json.loads(_read_exactly(*LENGTH.unpack(_read_exactly(LENGTH.size))))
    try:
        isolation = confinement.confine(settings, keep=CONTROL + 1)
    except OSError as e:
        _write(CONTROL, _ENCODER.encode({"unavailable": f"sandbox cannot confine its child: {e}"}))
        return
    worker = os.getpid()
    _write(CONTROL, _ENCODER.encode({"isolation": isolation, "pid": worker}))
    become = _become if "executable" in settings else None
    printed = Printed(settings["limits"]["output_kib"] * 1024)
    while _read(CONTROL, 1):
        pid = _fork()
        if pid == 0:
            _be_child(worker, printed, become)
        _tell(CONTROL, _pack_end(_wait(pid, 0)[1] if pid > 0 else FAILED))


# --- the child --------------------------------------------------------------------------------------------------------

# Looked up ahead, as in `confinement.py`, since all that a worker and its child write to is copied.
_read, _tell, _wait, _close, _exit = os.read, os.write, os.waitpid, os.closerange, os._exit
_fork, _end_with, _confine = confinement.fork, confinement.end_with, confinement.confine_child
_pack_end, _unpack_request, _N_HEADER = ENDED.pack, REQUEST.unpack_from, REQUEST.size
_MAX_OPEN_FILES = confinement.MAX_OPEN_FILES


def _be_child(worker: int, printed: Printed, become: Callable[[bytes], NoReturn] | None) -> NoReturn:
    """Take the request, give up what `worker` needs, answer or become the command asked for, end."""
    try:
        _end_with(worker)
        data = _read(CONTROL, _CHUNK)
        n_bytes, most_tasks = _unpack_request(data)
        if len(data) < _N_HEADER + n_bytes:
            data += _read_exactly(_N_HEADER + n_bytes - len(data))
        if (become is None or confinement.keep_signals_at_home()) and _confine(most_tasks):
            _close(CONTROL, _MAX_OPEN_FILES)
            if become:
                become(data[_N_HEADER:])
            answer(data[_N_HEADER:], printed)
        else:
            _tell(CONTROL, _pack_end(FAILED))
    finally:
        _exit(0)


_ENVIRONMENT = {"HOME": ".", "TMPDIR": ".", "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"}
"""Of a command. Threads that share one arena take little address space beyond their stacks."""


def _become(request: bytes) -> NoReturn:
    """Turn into the command asked for; what it prints goes to the caller."""
    argv = json.loads(request)
    os.dup2(ANSWERS, 1)
    os.dup2(ANSWERS, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execve(argv[0], argv, _ENVIRONMENT)  # noqa: S606 - this is the sandbox
    except OSError as e:
        os.write(1, f"cannot execute {argv[0]}: {e.strerror}\n".encode())
        os._exit(127)


class Printed(io.TextIOBase):
    """What the program prints, up to a limit."""

    def __init__(self, max_chars: int) -> None:
        self.max_chars = self._left = max_chars
        self._parts: list[str] = []

    def write(self, text: str) -> int:
        """Keep `text`; TooMuchError if that is more than fits."""
        self._left -= len(text)
        if self._left < 0:
            raise TooMuchError
        self._parts.append(text)
        return len(text)

    def text(self) -> str:
        """Return what was printed."""
        return "".join(self._parts)


def rehearse() -> None:
    """Answer a few times to nobody, in the zygote.

    Python keeps what it learns about code beside the code, and that no child has to learn it anew saves it a third of its time.
    """
    with open(os.devnull, "wb") as nobody:
        streams = sys.stdout, sys.stderr
        for _ in range(REHEARSALS):
            answer(b'{"entry": "builtins:len", "args": {}}', Printed(MAX_DETAIL), nobody.fileno())
        sys.stdout, sys.stderr = streams


def answer(request: bytes, printed: Printed, file: int = ANSWERS) -> None:
    """Call what the request asks for and say what it gave."""
    sys.stdout = sys.stderr = printed
    try:
        asked, _ = _DECODER.raw_decode(request.decode())
        module, _, name = asked["entry"].partition(":")
        function: Callable[[Any], Any] = getattr(sys.modules[module], name)
        value = function(asked["args"])
        text = _ENCODER.encode({"status": "ok", "value": value, "detail": "", "stdout": printed.text()})
        if len(text) > printed.max_chars:
            raise TooMuchError  # noqa: TRY301
    except BaseException as e:  # the program may raise anything, SystemExit included
        said = printed.text()[: printed.max_chars // 8]
        text = _ENCODER.encode({"status": _classify(e), "detail": _describe(e), "stdout": said})
    _write(file, text)


def _classify(e: BaseException) -> str:
    if isinstance(e, MemoryError | TooMuchError):
        return "resource"
    if isinstance(e, OSError) and e.errno in (errno.EFBIG, errno.EMFILE, errno.ENOMEM, errno.ENOSPC):
        return "resource"
    return "refused" if isinstance(e, PermissionError) else "error"


def _describe(e: BaseException) -> str:
    if isinstance(e, TooMuchError):
        return "output is over the limit"
    try:
        text = f"{type(e).__name__}: {e}".removesuffix(": ")
    except BaseException:  # a hostile __str__
        text = "an exception that cannot be printed"
    return text[:MAX_DETAIL]


# --- messages ---------------------------------------------------------------------------------------------------------

_DECODER = json.JSONDecoder()
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def _read_exactly(n: int) -> bytes:
    """Return the next `n` bytes on `CONTROL`; ends the process if the caller has hung up."""
    data = b""
    while len(data) < n:
        more = os.read(CONTROL, n - len(data))
        if not more:
            os._exit(1)
        data += more
    return data


def _write(file: int, text: str) -> None:
    data = text.encode(errors="replace") + b"\n"
    while data:
        data = data[os.write(file, data) :]
