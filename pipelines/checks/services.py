"""Whether what tasks talk to answers, and knows us: MLflow, the object store, Kubeflow Pipelines, the data repository."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from pipelines.checks.objects import given, keyed
from pipelines.checks.probe import ANSWER_S, Absent, Finding, Unseen, View, look
from pipelines.place import ADDRESSES, DATA_SECRET
from pipelines.placement import Claim
from symbol_llm.ground.errors import InvalidInput, SymbolLLMError
from symbol_llm.tracking import git, versions

AUTHORITY = "MLFLOW_TRACKING_SERVER_CERT_PATH"
"""Variable with the file of the certificate that signed MLflow's, as MLflow's own client reads it."""
GUARDED = ("mlflow-db", 5432)
"""What is there, as long as MLflow answers, and where a task has no way to."""
TRIES, PAUSE_S, SHORT_S = 3, 5.0, 3.0
"""Policies may hold of a pod some seconds after its start."""


def addresses(view: View) -> Iterator[Finding]:
    """Whether MLflow and the object store have names and answer, as tasks know them; seen from inside the cluster alone."""
    found = {key: os.environ[key] for key in ADDRESSES if "://" in os.environ.get(key, "")}
    if not view.is_inside:
        yield Finding("addresses", "unchecked", "names of services are known inside the cluster alone")
    elif not found:
        yield Finding(
            "addresses", "failed", "none in the environment", f"give the task the ConfigMap {view.placement.config}"
        )
    for address in sorted(set(found.values())) if view.is_inside else ():
        place = urlsplit(address)
        port = place.port or (443 if place.scheme == "https" else 80)
        try:
            with socket.create_connection((place.hostname or "", port), timeout=ANSWER_S):
                yield Finding(address, "passed", "answers")
        except socket.gaierror as e:
            yield Finding(
                address, "failed", f"no such name ({e.strerror})", "check the Service, and that egress to DNS is open"
            )
        except OSError as e:
            yield Finding(
                address, "failed", f"no connection ({e})", "check its pods, and the network policies of both ends"
            )


def isolation(view: View) -> Iterator[Finding]:
    """Whether network policies are enforced: a task that reaches the database of MLflow has been stopped by none."""
    title, (host, port) = "network policies", GUARDED
    if not view.is_inside:
        yield Finding(title, "unchecked", "are tried inside the cluster alone")
        return
    for number in range(TRIES):
        time.sleep(PAUSE_S if number else 0)
        try:
            with socket.create_connection(GUARDED, timeout=SHORT_S):
                pass
        except socket.gaierror:
            yield Finding(title, "unchecked", f"there is no {host} to try them at")
            return
        except OSError:
            yield Finding(title, "passed", f"let no task connect to {host}")
            return
    remedy = "use a network plug-in that enforces NetworkPolicies: without one every pod reaches every other, and the internet"
    yield Finding(title, "failed", f"are not enforced: this task can connect to {host}:{port}", remedy)


def mlflow(view: View) -> Iterator[Finding]:
    """Whether MLflow answers, and takes the name and password of the tasks."""
    uri = view.mlflow or (os.environ.get("MLFLOW_TRACKING_URI", "") if view.is_inside else "")
    if not uri.startswith(("http://", "https://")):
        said = "--mlflow ADDRESS is not given; kubectl port-forward service/mlflow 5000 makes one"
        yield Finding("MLflow", "unchecked", said)
        return
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    user, password = (os.environ.get(name) or _secret(view, name) for name in names)
    headers = {}
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    remedy = f"check {' and '.join(names)} in the Secret {view.placement.keys}"
    yield _answers("MLflow", f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1", headers, remedy)


def _secret(view: View, key: str) -> str:
    from kubernetes import client

    with contextlib.suppress(Unseen, Absent, InvalidInput):
        data = look(client.CoreV1Api(view.api).read_namespaced_secret, view.placement.keys, view.namespace).data or {}
        return base64.b64decode(data.get(key, "")).decode()
    return ""


def pipelines(view: View) -> Iterator[Finding]:
    """Whether Kubeflow Pipelines answers, and knows who asks."""
    if not view.host:
        yield Finding("Kubeflow Pipelines", "unchecked", "--host ADDRESS is not given")
        return
    headers = {"Authorization": f"Bearer {view.token}"} if view.token else {}
    if view.cookie:
        headers["Cookie"] = view.cookie
    address = f"{view.host.rstrip('/')}/apis/v2beta1/runs?page_size=1&namespace={view.namespace}"
    yield _answers("Kubeflow Pipelines", address, headers, "give --token or --cookie, or another --namespace")


def _answers(title: str, address: str, headers: Mapping[str, str], remedy: str) -> Finding:
    request = urllib.request.Request(address, headers=dict(headers))  # noqa: S310 - http and https, by who starts it
    try:
        trusted = ssl.create_default_context(cafile=os.environ.get(AUTHORITY) or None)
        with urllib.request.urlopen(request, timeout=ANSWER_S, context=trusted) as answer:  # noqa: S310
            is_api = answer.read(64).lstrip().startswith(b"{")
        if is_api:
            return Finding(title, "passed", "answers, and knows us")
        return Finding(title, "failed", "answers with a page instead of JSON; is a login before it?", remedy)
    except urllib.error.HTTPError as e:
        if e.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return Finding(title, "failed", f"answers {e.code} {e.reason}", remedy)
        return Finding(title, "failed", f"answers {e.code} {e.reason}", f"look at its log; {address} was asked for")
    except (OSError, ValueError) as e:
        return Finding(title, "failed", f"no answer: {e}", f"is {address} right, and its pod ready?")


def data_repository(view: View) -> Iterator[Finding]:
    """Whether data sets under version outlive their task and, where they are shared, git and DVC's remote take our keys."""
    title, where, state = "data repository", _shared(view), view.placement.light.state
    if not versions.is_url(where):
        if isinstance(state, Claim):
            yield Finding(title, "passed", f"lies on the claim {state.claim}")
            return
        remedy = f"set `light.state` to a claim, or {git.REPO_VARIABLE} in the ConfigMap {view.placement.config} (docs/guides/dvc.md)"
        yield Finding(title, "failed", "data sets under version would go with the pod that records them", remedy)
        return
    has_keys = True
    if wanted := _wanted(where):
        found = _shown(view, wanted)
        has_keys = found.state != "failed"
        yield found
    if not view.is_inside:
        yield Finding(
            title, "unchecked", f"{git.hidden(where)} is tried inside the cluster alone, and DVC's remote with it"
        )
    elif has_keys:
        yield _takes_sets(view, title)


def _shared(view: View) -> str:
    """Return where the data repository is, as tasks are told; empty where they are told nothing."""
    from kubernetes import client

    if view.is_inside:
        return os.environ.get(git.REPO_VARIABLE, "")
    name = view.placement.config
    try:
        found = look(client.CoreV1Api(view.api).read_namespaced_config_map, name, view.namespace).data or {}
    except Absent as e:
        raise Unseen(f"the ConfigMap {name} is not there") from e
    return str(found.get(git.REPO_VARIABLE, ""))


def _wanted(where: str) -> tuple[str, ...]:
    """Return the keys without which git gets nowhere at the address `where`."""
    address = urlsplit(where)
    if address.scheme in ("http", "https"):
        return () if address.password else (git.TOKEN_VARIABLE,)
    return (git.KEY_VARIABLE, git.HOSTS_VARIABLE) if address.scheme in ("", "ssh") else ()


def _shown(view: View, wanted: tuple[str, ...]) -> Finding:
    """Say whether tasks that record sets find the keys `wanted`."""
    from kubernetes import client

    title, made = f"Secret {DATA_SECRET}", f"kubectl create secret generic {DATA_SECRET} --from-file={wanted[0]}=FILE"
    if view.is_inside:
        return given(title, wanted, made)
    read = client.CoreV1Api(view.api).read_namespaced_secret
    return keyed(title, read, DATA_SECRET, view.namespace, wanted, made)


def _takes_sets(view: View, title: str) -> Finding:
    try:
        return Finding(title, "passed", versions.ask())
    except SymbolLLMError as e:
        remedy = (
            f"mend {git.REPO_VARIABLE} and {versions.REMOTE_VARIABLE} in the ConfigMap {view.placement.config}, the Secrets "
            f"{DATA_SECRET} and {view.placement.keys}, or the network policies; docs/guides/dvc.md says what each is"
        )
        return Finding(title, "failed", str(e), remedy)
