"""Any OpenAI-compatible chat endpoint: vLLM's server, KServe, a hosted model. It samples; it cannot score a given reply.

The address is OPENAI_BASE_URL (`http://host/v1`), the key OPENAI_API_KEY, the model OPENAI_MODEL (default: the first one
served), OPENAI_TIMEOUT_S the seconds to wait for an answer (default: 600). A vLLM server started with VLLM_SERVER_DEV_MODE=1 also takes new weights in place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import httpx
import tenacity

from symbol_llm.engines import Completion, Ended, Engine, Request
from symbol_llm.ground.errors import InvalidInput, Unavailable
from symbol_llm.ground.records import Messages

TIMEOUT_S = 600
TRIES = 3
MAX_WAIT_S = 60.0
_BACK_OFF = tenacity.wait_exponential_jitter(initial=0.1, max=5.0, jitter=0.1)
"""Seconds before another try, where the endpoint does not say how long (Retry-After)."""


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


class OpenAIEngine(Engine):
    """One model behind an endpoint; `batch` requests are in flight at once."""

    name = "openai"

    def __init__(self, url: str, key: str = "", model: str | None = None, *, batch: int = 16) -> None:
        """Ask `url` which model it serves, unless `model` says so."""
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"OPENAI_BASE_URL {url!r}: expected http://host/v1 or https://host/v1")
        self.url, self.batch = url.rstrip("/"), batch
        self.runs_on = self.url
        self._gives_logprobs = True
        limits = httpx.Limits(max_connections=batch, max_keepalive_connections=batch)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.timeout_s = _timeout_s()
        self._client = httpx.Client(headers=headers, timeout=self.timeout_s, limits=limits)
        self.model = model or str(self._call("GET", f"{self.url}/models")["data"][0]["id"])

    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        """See `Engine.stream`. Equal seeds give equal replies only where the endpoint keeps its word on `seed`."""
        pool = ThreadPoolExecutor(self.batch, thread_name_prefix="ask")
        try:
            places = {
                pool.submit(self._ask, request, place): (number, place)
                for number, request in enumerate(requests)
                for place in range(len(request.prompts))
            }
            for answered in as_completed(places):
                yield Ended(*places[answered], answered.result())
        finally:
            pool.shutdown(cancel_futures=True)

    def _ask(self, request: Request, place: int) -> list[Completion]:
        n, temperature, top_p, max_tokens = request.sampling
        body = {"model": self.model, "messages": request.prompts[place], "n": n, "temperature": temperature}
        body |= {"top_p": top_p, "max_tokens": max_tokens, "seed": request.seed + place}
        url = f"{self.url}/chat/completions"
        answer = self._answer(url, body)
        try:
            found = [_completion(c) for c in answer["choices"]]
        except (KeyError, TypeError) as e:
            raise InvalidInput(f"{url}: not a chat completion: {str(answer)[:200]!r}") from e
        if len(found) != n:
            raise InvalidInput(f"{url}: {len(found)} replies, asked for n={n}")
        return found

    def _answer(self, url: str, body: dict[str, Any]) -> Any:
        """Return what `url` answers, with log-probabilities unless the endpoint has refused to give any."""
        if self._gives_logprobs:
            try:
                return self._call("POST", url, body | {"logprobs": True})
            except _RefusedError as e:
                if "logprobs" not in str(e):
                    raise
                self._gives_logprobs = False
        return self._call("POST", url, body)

    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        """Raise InvalidInput: chat endpoints do not score a given reply."""
        raise InvalidInput(
            "engine 'openai' cannot score replies; set explore.rescore=published, or take vllm or transformers"
        )

    def load(self, checkpoint: Path) -> None:
        """Have a vLLM server in development mode take the weights of `checkpoint`.

        Unavailable if the server cannot: it would go on sampling the weights it was started with.
        """
        root = self.url.removesuffix("/v1")
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(checkpoint.absolute())}}
        try:
            self._call("POST", f"{root}/collective_rpc", body)
        except _RefusedError as e:
            if e.status in (404, 405):
                raise Unavailable(
                    f"{self.url} cannot take the weights of {str(checkpoint)!r} ({e.status} at /collective_rpc), and would go "
                    "on with its own: start vLLM with VLLM_SERVER_DEV_MODE=1, or choose the engine vllm or transformers"
                ) from e
            raise
        self._call("POST", f"{root}/reset_prefix_cache")

    def _call(self, method: str, url: str, body: Any = None) -> Any:
        """Return the JSON value at `url`, None for an empty answer; passing trouble is waited out, TRIES times in all."""
        again = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(TRIES),
            wait=_wait,
            retry=tenacity.retry_if_exception_type(_PassingError),
            reraise=True,
        )
        try:
            response: httpx.Response = again(self._request, method, url, body)
        except _PassingError as e:
            raise Unavailable(f"{url}: no answer after {TRIES} tries: {e}") from e
        try:
            return response.json() if response.content.strip() else None
        except ValueError as e:
            raise InvalidInput(f"{url}: not JSON: {response.content[:200]!r}") from e

    def _request(self, method: str, url: str, body: Any) -> httpx.Response:
        try:
            response = self._client.request(method, url, json=body)
        except httpx.TimeoutException as e:  # another wait as long as this one would not be a passing trouble
            raise Unavailable(f"{url}: no answer within {self.timeout_s:g} s (OPENAI_TIMEOUT_S)") from e
        except (httpx.TransportError, httpx.DecodingError) as e:
            raise _PassingError(str(e) or type(e).__name__) from e
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
            said = response.headers.get("Retry-After", "")
            wait_s = float(said) if said.isdecimal() else 0.0
            raise _PassingError(f"{response.status_code} {response.reason_phrase}", wait_s)
        if not response.is_success:
            raise _RefusedError(f"{url}: {response.status_code} {response.text[:200]}", response.status_code)
        return response


def _timeout_s() -> float:
    said = os.environ.get("OPENAI_TIMEOUT_S", str(TIMEOUT_S))
    if not said.replace(".", "", 1).isdecimal() or not float(said):
        raise InvalidInput(f"OPENAI_TIMEOUT_S {said!r}: expected seconds, as in 600")
    return float(said)


class _PassingError(Exception):
    """The endpoint may answer later, not before `wait_s` if it said so."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _RefusedError(InvalidInput):
    """The endpoint answered, and said no."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds before the next try: what the endpoint asked for, at least a back-off with jitter, at most MAX_WAIT_S."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait_s if isinstance(error, _PassingError) else 0.0
    return min(MAX_WAIT_S, max(asked, _BACK_OFF(state)))


def _completion(choice: Any) -> Completion:
    tokens = ((choice.get("logprobs") or {}).get("content")) or []
    total = sum(t["logprob"] for t in tokens)
    text = (choice["message"]["content"] or "").encode(errors="replace").decode()
    return Completion(text, len(tokens), total / max(1, len(tokens)))
