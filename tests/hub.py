"""A Hugging Face hub on this machine, as far as downloading a data set repository goes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

API, FILES = "/api/datasets/", "/datasets/"


class Hub(ThreadingHTTPServer):
    """Serves the files below `folder` as the one commit of `repository`; `asked` are the paths asked for."""

    def __init__(self, folder: Path, repository: str, commit: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.repository, self.commit = folder, repository, commit
        self.asked: list[str] = []

    def answer(self, path: str) -> object:
        """Return what the API says at `path`: the commit of a revision, or the tree of a commit; None: no such thing."""
        name = f"{API}{self.repository}"
        if path in (f"{name}/revision/{self.commit}", f"{name}/revision/main"):
            return {"id": self.repository, "sha": self.commit, "siblings": []}
        if path == f"{name}/tree/{self.commit}":
            return [
                {
                    "type": "file",
                    "path": file.relative_to(self.folder).as_posix(),
                    "oid": "0",
                    "size": file.stat().st_size,
                }
                for file in self.folder.rglob("*")
                if file.is_file()
            ]
        return None


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        base = f"{FILES}{self.server.repository}/resolve/{self.server.commit}/"
        file = self.server.folder / path.removeprefix(base)
        if path.startswith(base) and file.is_file():
            self._send(200, file.read_bytes(), ETag=f'"{hashlib.sha1(file.read_bytes()).hexdigest()}"')
        elif (found := self.server.answer(path)) is not None:
            self._send(200, json.dumps(found).encode(), **{"Content-Type": "application/json"})
        else:
            self._send(404, b"{}", **{"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "X-Repo-Commit": self.server.commit, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path, repository: str, commit: str) -> Iterator[Hub]:
    """Run a hub as long as the block lasts."""
    with Hub(folder, repository, commit) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()
