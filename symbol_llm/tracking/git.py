"""Git as a child process, with the key or token of the data repository, and with failures that say what to do about them.

Nothing is ever asked for at a terminal. The key is a private SSH key (`SYMBOL_LLM_DATA_KEY`), whose host has to be among
`SYMBOL_LLM_DATA_KNOWN_HOSTS` or the user's own known hosts; the token (`SYMBOL_LLM_DATA_TOKEN`) is for HTTPS. Both come from
the environment and go to git alone, never onto a command line or into a message. Without them git uses what the user has.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from symbol_llm.ground.errors import InvalidInput, SymbolLLMError, Unavailable

REPO_VARIABLE = "SYMBOL_LLM_DATA_REPO"
KEY_VARIABLE = "SYMBOL_LLM_DATA_KEY"
HOSTS_VARIABLE = "SYMBOL_LLM_DATA_KNOWN_HOSTS"
"""Lines as `ssh-keyscan` prints them."""
TOKEN_VARIABLE = "SYMBOL_LLM_DATA_TOKEN"  # noqa: S105 - a name
"""The token, or `user:token` where the server wants a user of its own."""
TALKING = frozenset({"clone", "fetch", "ls-remote", "push"})
TIMEOUT_S = 300.0
MAX_SAID = 300
"""Characters of git's own words in a message."""


class Moved(Unavailable):
    """Somebody else pushed first."""


# What git and ssh say, whether the caller can mend it, and how.
FAULTS: tuple[tuple[str, type[SymbolLLMError], str], ...] = (
    (
        r"\[rejected\]|cannot lock ref|failed to update ref|incorrect old value|stale info",
        Moved,
        "others pushed to it meanwhile; try again",
    ),
    (
        r"host key verification failed|no \S+ host key is known",
        InvalidInput,
        f"the host is unknown; put what `ssh-keyscan` says of it, once checked, into {HOSTS_VARIABLE}",
    ),
    (
        r"hook declined|protected branch|gh006",
        InvalidInput,
        "the server refuses pushes to this branch; allow them for the key or token",
    ),
    (
        r"permission denied|authentication failed|could not read (username|password)|invalid credentials|error: 40[13]|read[- ]only|"
        r"write access|error in libcrypto|invalid format",
        InvalidInput,
        f"access is refused; put a deploy key that may write into {KEY_VARIABLE}, or for HTTPS a token into {TOKEN_VARIABLE}",
    ),
    (
        r"could not resolve host|couldn't connect|failed to connect|connection (refused|timed out|reset)|unreachable|timed out|"
        r"could not connect|error: 5\d\d",
        Unavailable,
        f"it does not answer; check {REPO_VARIABLE}, and that a NetworkPolicy lets the task reach it",
    ),
    (
        r"does not appear to be a git repository|repository .*not found|does not exist|error: 404",
        InvalidInput,
        f"there is no repository; make it, empty, or mend {REPO_VARIABLE}",
    ),
)


def run(folder: Path, *arguments: str, timeout_s: float = TIMEOUT_S) -> str:
    """Return what `git` prints, called in `folder`.

    Moved if a branch or tag has moved; InvalidInput for what the caller can mend, such as a key that is refused; Unavailable
    for what may pass.
    """
    identity = ("-c", "user.name=symbol-llm", "-c", "user.email=symbol-llm@localhost")
    command = ["git", "-C", str(folder), *identity, *arguments]
    with _credentials(arguments[0]) as given:
        environment = os.environ | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"} | given
        how = {"capture_output": True, "text": True, "env": environment, "stdin": subprocess.DEVNULL}
        try:
            done = subprocess.run(command, check=True, timeout=timeout_s, **how)  # type: ignore[call-overload]  # noqa: S603 - fixed words
        except FileNotFoundError as e:
            raise InvalidInput("git is not installed; versions of data sets need it") from e
        except subprocess.TimeoutExpired as e:
            raise Unavailable(f"git {arguments[0]} in {folder} took more than {timeout_s:g} s; try again") from e
        except subprocess.CalledProcessError as e:
            raise _failure(arguments[0], folder, e.stderr.strip() or e.stdout.strip()) from e
    return str(done.stdout).strip()


def _failure(verb: str, folder: Path, text: str) -> SymbolLLMError:
    said = hidden(
        "; ".join(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("hint:"))
    )
    said = said[:MAX_SAID]
    if verb in TALKING:
        for pattern, kind, remedy in FAULTS:
            if re.search(pattern, text, re.IGNORECASE):
                where = hidden(os.environ.get(REPO_VARIABLE, "")) or str(folder)
                return kind(f"data repository {where}: {remedy} (git {verb}: {said})")
    return Unavailable(f"git {verb} in {folder} failed: {said}")


def hidden(text: str) -> str:
    """Return `text` without names and passwords in its addresses."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)


@contextmanager
def _credentials(verb: str) -> Iterator[dict[str, str]]:
    """Give the variables by which git finds the key or the token, if it is to talk to a server and they are set."""
    key, token = os.environ.get(KEY_VARIABLE), os.environ.get(TOKEN_VARIABLE)
    if verb not in TALKING or not (key or token):
        yield {}
        return
    given = _with_token(token) if token else {}
    if not key:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="symbol-llm-key-") as name:  # its mode is 0700
        yield given | {"GIT_SSH_COMMAND": _ssh(Path(name), key)}


def _with_token(token: str) -> dict[str, str]:
    """Return what has git send `token` to the host of the data repository, and to no other."""
    address = urlsplit(os.environ.get(REPO_VARIABLE, ""))
    if address.scheme not in ("http", "https"):
        return {}
    host = f"{address.scheme}://{address.netloc.rpartition('@')[2]}/"
    pair = token.strip() if ":" in token else f"git:{token.strip()}"  # most servers take any user with a token
    n = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    return {
        "GIT_CONFIG_COUNT": str(n + 1),
        f"GIT_CONFIG_KEY_{n}": f"http.{host}.extraHeader",
        f"GIT_CONFIG_VALUE_{n}": f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}",
    }


def _ssh(folder: Path, key: str) -> str:
    """Write the key, and the hosts that are known, to `folder`; return the command of ssh that uses them and asks nothing."""
    words = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]
    for name, text in (("key", key), ("hosts", os.environ.get(HOSTS_VARIABLE, ""))):
        if text:
            file = folder / name
            file.touch(mode=0o600)
            file.write_text(f"{text.strip()}\n")
            words += ["-i", str(file)] if name == "key" else ["-o", f"UserKnownHostsFile={file}"]
    return shlex.join(words)
