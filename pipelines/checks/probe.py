"""How a cluster is asked, and what comes of it. What is asked is in the modules beside this one."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

from pipelines.placement import Placement, Role
from symbol_llm.ground.errors import InvalidInput

ANSWER_S = 10
IN_CLUSTER = "KUBERNETES_SERVICE_HOST"


class Finding(NamedTuple):
    """What came of one check: it passed, failed, or was left `unchecked`; `remedy` says what to do where it failed."""

    check: str
    state: str
    said: str
    remedy: str = ""


class View(NamedTuple):
    """What is looked at: a placement, in a namespace, with a client that is whoever asks, and one that is the run's account."""

    placement: Placement
    namespace: str
    api: Any
    runner: Any
    mlflow: str = ""
    host: str = ""
    token: str = ""
    cookie: str = ""

    @property
    def roles(self) -> dict[str, Role]:
        """Return the roles that make pods."""
        found = {"light": self.placement.light, "sample": self.placement.sample, "tune": self.placement.tune}
        return {name: role for name, role in found.items() if role}

    @property
    def is_inside(self) -> bool:
        """Say whether this runs in a pod of the cluster."""
        return IN_CLUSTER in os.environ


class Unseen(Exception):
    """The cluster does not let us look; the message says why."""


class Absent(Exception):
    """There is no such object."""


def look(call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """Return `call(...)`; Absent, Unseen, or InvalidInput with the words of the cluster."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        return call(*arguments, **more, _request_timeout=(ANSWER_S, ANSWER_S))
    except HTTPError as e:
        raise Unseen(f"no answer from the cluster ({type(e).__name__})") from e
    except ApiException as e:
        said = _message(e)
        if e.status == HTTPStatus.NOT_FOUND:
            raise Absent(said) from e
        if e.status == HTTPStatus.UNAUTHORIZED or (e.status == HTTPStatus.FORBIDDEN and " cannot " in said):
            raise Unseen(said) from e
        raise InvalidInput(said) from e


def _message(e: Any) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return " ".join(str(json.loads(e.body)["message"]).split())
    return f"{e.status} {e.reason}"
