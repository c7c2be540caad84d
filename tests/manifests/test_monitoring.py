"""Alerts, dashboard and scaler ask for metrics that there are, and alerts name sections of the runbook that there are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from manifests.resources import Resource, name_of, pods, render
from serving.solver import Settings
from tests.manifests.conftest import OVERLAYS, needs_kubectl

ROOT = OVERLAYS.parents[1]
MONITORING = OVERLAYS.parent / "components" / "monitoring"
HELD = Settings.model_fields["n_waiting"].default
"""Requests that one solver holds before it refuses more."""
THEIRS = {
    "kube_deployment_status_replicas_available",
    "kube_statefulset_status_replicas_ready",
    "kube_pod_status_reason",
    "kube_pod_status_phase",
    "kube_pod_container_status_restarts_total",
    "kube_pod_container_status_last_terminated_reason",
    "kube_cronjob_status_last_successful_time",
    "kube_cronjob_created",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
    "container_memory_working_set_bytes",
    "up",
}
"""Of kube-state-metrics 2, the kubelet, cAdvisor and Prometheus itself, by their documentation."""
WORDS = {"sum", "avg", "by", "le", "pod", "status", "rate", "increase", "and", "on", "namespace", "container", "time"}
WORDS |= {"histogram_quantile", "or", "outcome", "absent"}


@pytest.fixture(scope="module")
def ours() -> set[str]:
    """Give the names of the metrics that the solver exports."""
    import serving.solver  # noqa: F401 - which registers them

    found = set()
    for metric in REGISTRY.collect():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(metric.type, [""])
        found |= {metric.name + ending for ending in endings}
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
    return list(group["rules"])


def panels() -> list[dict[str, Any]]:
    return list(json.loads((MONITORING / "dashboard.json").read_text())["panels"])


def scaler() -> dict[str, Any]:
    text = (OVERLAYS.parent / "components" / "scaling" / "scaler.yaml").read_text()
    return dict(yaml.safe_load(text))


def metrics(expression: str) -> set[str]:
    """Return the metrics of a PromQL expression: words that are no function, no label and no duration."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", expression)
    return set(re.findall(r"(?<![\w.])[a-z_]\w*", bare)) - WORDS


def expressions() -> list[str]:
    asked = [rule["expr"] for rule in rules()] + [t["expr"] for panel in panels() for t in panel["targets"]]
    return [*asked, scaler()["spec"]["triggers"][0]["metadata"]["query"]]


def test_metrics_of_an_expression_are_found() -> None:
    assert metrics('histogram_quantile(0.5, sum by (le) (rate(a_bucket{b="c"}[5m])))') == {"a_bucket"}
    assert metrics('time() - kube_x{a="b"} > 2 * 86400') == {"kube_x"}


@pytest.mark.parametrize("expression", expressions())
def test_expression_asks_for_metrics_that_there_are(expression: str, ours: set[str]) -> None:
    asked = metrics(expression)
    assert asked
    assert asked - ours - THEIRS == set()
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_statuses_that_are_asked_for_are_those_that_are_counted() -> None:
    from typing import get_args, get_type_hints

    from serving.vote import Answer
    from symbol_llm.judging.verify import Execution

    known = {*get_args(get_type_hints(Answer)["status"]), *get_args(get_type_hints(Execution)["status"])}
    asked = {found for e in expressions() for found in re.findall(r'status="(\w+)"', e)}
    assert asked
    assert asked - known == set()


OF_PROMETHEUS = {"namespace", "pod", "le"}
"""Labels that whoever collects the metrics adds, and a histogram's own."""


def test_labels_that_are_asked_for_are_those_of_the_metric() -> None:
    import serving.solver  # noqa: F401 - which registers them

    of = {m._name: set(m._labelnames) for m in set(REGISTRY._names_to_collectors.values()) if hasattr(m, "_labelnames")}
    n_asked = 0
    for expression in expressions():
        ours_there = [name for name in of if re.search(rf"\b{name}(_total|_bucket|_sum|_count)?\b", expression)]
        labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", expression))
        for group in re.findall(r"\bby\s*\(([^)]*)\)", expression):
            labels |= set(re.findall(r"\w+", group))
        if ours_there:
            assert labels - set.union(*(of[name] for name in ours_there)) - OF_PROMETHEUS == set(), expression
            n_asked += 1
    assert n_asked > 5


def test_ends_of_a_trial_that_are_asked_for_are_ends_of_one() -> None:
    from typing import get_args

    from serving.canary import End

    asked = {one for e in expressions() for found in re.findall(r'state=~?"([^"]+)"', e) for one in found.split("|")}
    assert asked == {"rolled back", "not rolled back"}
    assert asked < set(get_args(End))


def test_a_solver_that_was_never_made_is_missed_too() -> None:
    (rule,) = (rule for rule in rules() if rule["alert"] == "NoSolver")
    asked, _, absent = rule["expr"].partition(" or ")
    assert absent == f"absent({asked.removesuffix(' < 1')})"


def test_alert_says_what_is_wrong_and_where_the_remedy_stands() -> None:
    runbook = (ROOT / "docs" / "guides" / "runbook.md").read_text()
    anchors = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", runbook, flags=re.M)}
    assert len(rules()) == len({rule["alert"] for rule in rules()})
    for rule in rules():
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (ROOT / file).is_file()
        assert anchor in anchors
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_panels_do_not_overlap_and_take_their_source_from_the_variable() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        grid = panel["gridPos"]
        cells = {(grid["x"] + i, grid["y"] + j) for i in range(grid["w"]) for j in range(grid["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len({panel["id"] for panel in panels()}) == len(panels())


@needs_kubectl
def test_dashboard_and_monitor_arrive_as_grafana_and_prometheus_look_for_them() -> None:
    found = {name_of(r): r for r in render(OVERLAYS / "prod")}
    dashboard = found["ConfigMap/symbol-llm-dashboard"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["dashboard.json"])["uid"] == "symbol-llm"
    (endpoint,) = found["PodMonitor/solver"]["spec"]["podMetricsEndpoints"]
    solver = next(pod for pod in pods(list(found.values())) if pod.owner == "InferenceService/symbol-llm")
    assert [p["containerPort"] for p in solver.containers[0]["ports"]] == [endpoint["portNumber"]]


@needs_kubectl
def test_scaler_moves_the_deployment_that_kserve_makes_within_the_bounds_of_the_service() -> None:
    found: dict[str, Resource] = {name_of(r): r for r in render(OVERLAYS / "prod")}
    scaled, service = found["ScaledObject/solver"]["spec"], found["InferenceService/symbol-llm"]
    assert scaled["scaleTargetRef"]["name"] == f"{service['metadata']['name']}-predictor"
    predictor = service["spec"]["predictor"]
    bounds = scaled["minReplicaCount"], scaled["maxReplicaCount"]
    assert bounds == (predictor["minReplicas"], predictor["maxReplicas"])
    assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "external"
    (trigger,) = scaled["triggers"]
    assert 0 < int(trigger["metadata"]["threshold"]) < HELD


def test_alert_of_a_full_solver_comes_before_it_refuses() -> None:
    (rule,) = (rule for rule in rules() if rule["alert"] == "SolverFull")
    assert HELD - 4 < int(rule["expr"].rpartition("> ")[2]) < HELD


@needs_kubectl
def test_a_solver_that_prometheus_cannot_reach_is_missed_by_the_name_of_its_monitor() -> None:
    (rule,) = (rule for rule in rules() if rule["alert"] == "SolverUnseen")
    (monitor,) = (r for r in render(OVERLAYS / "prod") if r["kind"] == "PodMonitor")
    made = f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}"  # as Prometheus' operator names a job
    assert f'job="{made}"' in rule["expr"]


def test_no_expression_is_of_another_namespace() -> None:
    text = "".join(expressions())
    assert set(re.findall(r'namespace="([^"]+)"', text)) == {"symbol-llm", "$namespace"}
