"""Any OpenAI-compatible chat endpoint: vLLM's server, KServe, a hosted model. It samples; it cannot score a given reply.

The address is OPENAI_BASE_URL (`http://host/v1`), the key OPENAI_API_KEY, the model OPENAI_MODEL (default: the first one
served). A vLLM server started with VLLM_SERVER_DEV_MODE=1 also takes new weights in place.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from symbol_llm.engines import Completion
from symbol_llm.ground.errors import InvalidInput, Unavailable
from symbol_llm.ground.records import Messages

TIMEOUT_S = 600
TRIES = 3


def start(checkpoint: Path, *, batch: int) -> OpenAIEngine:
    """Return the engine of OPENAI_BASE_URL after it took `checkpoint`."""
    engine = connect(batch=batch)
    engine.load(checkpoint)
    return engine


def connect(*, batch: int) -> OpenAIEngine:
    """Return the engine of OPENAI_BASE_URL with the model it serves."""
    url = os.environ.get("OPENAI_BASE_URL")
    if not url:
        raise InvalidInput("engine 'openai' needs OPENAI_BASE_URL, for example http://localhost:8000/v1")
    return OpenAIEngine(url, os.environ.get("OPENAI_API_KEY", ""), os.environ.get("OPENAI_MODEL"), batch=batch)


class OpenAIEngine:
    """One model behind an endpoint; `batch` requests are in flight at once."""

    name = "openai"

    def __init__(self, url: str, key: str = "", model: str | None = None, *, batch: int = 16) -> None:
        """Ask `url` which model it serves, unless `model` says so."""
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"OPENAI_BASE_URL {url!r}: expected http://host/v1 or https://host/v1")
        self.url, self.key, self.batch = url.rstrip("/"), key, batch
        self.model = model or str(self._call("GET", f"{self.url}/models")["data"][0]["id"])

    def generate(
        self, prompts: Sequence[Messages], *, n: int, temperature: float, top_p: float, max_tokens: int, seed: int
    ) -> list[list[Completion]]:
        """See `Engine.generate`. Equal seeds give equal replies only where the endpoint keeps its word on `seed`."""

        def ask(item: tuple[int, Messages]) -> list[Completion]:
            number, messages = item
            body = {"model": self.model, "messages": messages, "n": n, "temperature": temperature, "top_p": top_p}
            body |= {"max_tokens": max_tokens, "seed": seed + number, "logprobs": True}
            url = f"{self.url}/chat/completions"
            answer = self._call("POST", url, body)
            try:
                found = [_completion(c) for c in answer["choices"]]
            except (KeyError, TypeError) as e:
                raise InvalidInput(f"{url}: not a chat completion: {str(answer)[:200]!r}") from e
            if len(found) != n:
                raise InvalidInput(f"{url}: {len(found)} replies, asked for n={n}")
            return found

        with ThreadPoolExecutor(self.batch) as pool:
            return list(pool.map(ask, enumerate(prompts)))

    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        """Raise InvalidInput: chat endpoints do not score a given reply."""
        raise InvalidInput(
            "engine 'openai' cannot score replies; set explore.rescore=published, or take vllm or transformers"
        )

    def load(self, checkpoint: Path) -> None:
        """Have a vLLM server in development mode take the weights of `checkpoint`; leave any other server as it is."""
        root = self.url.removesuffix("/v1")
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(checkpoint.absolute())}}
        try:
            self._call("POST", f"{root}/collective_rpc", body)
        except InvalidInput as e:
            if re.search(r"/collective_rpc: 40[45] ", str(e)):
                return  # no such route: the server keeps the model it was started with
            raise
        self._call("POST", f"{root}/reset_prefix_cache")

    def _call(self, method: str, url: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - http(s) checked in __init__
        for left in reversed(range(TRIES)):
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - as above
                    text = response.read()
            except urllib.error.HTTPError as e:
                if e.code < 500 and e.code != 429:
                    raise InvalidInput(f"{url}: {e.code} {e.read()[:200].decode(errors='replace')}") from e
                reason = f"{e.code} {e.reason}"
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as e:
                reason = str(e)
            else:
                try:
                    return json.loads(text) if text.strip() else None
                except ValueError as e:
                    raise InvalidInput(f"{url}: not JSON: {text[:200]!r}") from e
            if left == 0:
                raise Unavailable(f"{url}: no answer after {TRIES} tries: {reason}")
        raise AssertionError("the loop returns or raises")


def _completion(choice: Any) -> Completion:
    tokens = ((choice.get("logprobs") or {}).get("content")) or []
    total = sum(t["logprob"] for t in tokens)
    text = (choice["message"]["content"] or "").encode(errors="replace").decode()
    return Completion(text, len(tokens), total / max(1, len(tokens)))
