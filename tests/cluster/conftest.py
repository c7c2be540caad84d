"""A strict API server for each test, empty but for the namespace, and a Trainer that does as it is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import apiserver
from tests.cluster.apiserver import Cluster
from tests.cluster.players import CRDS, Server, Trainer, namespace

SERVED = ("trainer.kubeflow.org_train", "kueue.x-k8s.io_localqueues")


@pytest.fixture(scope="session")
def kinds() -> list[apiserver.Kind]:
    return Cluster(CRDS if CRDS.is_dir() else None, *SERVED).kinds


@pytest.fixture
def server(kinds: list[apiserver.Kind]) -> Iterator[Server]:
    cluster = Cluster()
    cluster.kinds = list(kinds)
    cluster.put(namespace())
    with apiserver.serving(cluster) as address:
        yield Server(cluster, address)


@pytest.fixture
def trainer(server: Server) -> Trainer:
    return Trainer(server.cluster)
