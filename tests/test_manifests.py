"""Every overlay passes; a broken copy fails with the message that names the fault."""

from __future__ import annotations

import base64
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from manifests import check, resources
from pipelines import placement
from pipelines.checks import objects
from symbol_llm import __version__

ROOT = Path(check.__file__).parent
OVERLAYS = ("dev", "laptop", "multi-node", "prod")
CRDS = Path(os.environ.get("CRDS") or ROOT / "crds")
DEFAULT_PLACE = "workflows.argoproj.io/default-artifact-repository"

needs_kubectl = pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kubectl, which renders the overlays, is not installed"
)
needs_crds = pytest.mark.skipif(not CRDS.is_dir(), reason="no CRDs; set CRDS to the folder that holds KServe's")


@pytest.fixture(scope="module", autouse=True)
def core_schemas_are_read_once() -> Iterator[None]:
    """Keep what kubernetes-validate reads anew for every resource, megabytes each time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("all_versions", "schema_contents"):
            patch.setattr(kubernetes_validate.utils, name, functools.cache(getattr(kubernetes_validate.utils, name)))
        yield


@pytest.fixture(scope="module")
def schemas() -> check.Schemas:
    return check.load_schemas(CRDS)


@functools.cache
def rendered(overlay: str) -> list[resources.Resource]:
    return resources.render(ROOT / "overlays" / overlay)


def faults_after(
    edit: Callable[[str], str], file: str, tmp_path: Path, schemas: check.Schemas | None = None, overlay: str = "laptop"
) -> list[str]:
    copy = shutil.copytree(ROOT, tmp_path / "manifests")
    text = (copy / file).read_text()
    assert edit(text) != text, f"the edit leaves {file} as it is"
    (copy / file).write_text(edit(text))
    return [
        f"{resource}: {message}"
        for resource, message in check.check(resources.render(copy / "overlays" / overlay), schemas)
    ]


@needs_kubectl
@needs_crds
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_has_no_fault(overlay: str, schemas: check.Schemas) -> None:
    assert list(check.check(rendered(overlay), schemas)) == []


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_keeps_our_rules_where_no_crd_is_at_hand(overlay: str) -> None:
    assert list(check.check(rendered(overlay))) == []


BREAKS = {
    "a limit is missing": (
        "base/mlflow.yaml",
        ('limits: {cpu: "1", memory: 1536Mi, ', 'limits: {cpu: "1", '),
        "Deployment/mlflow: container 'mlflow' has no memory limit",
    ),
    "a request is above its limit": (
        "base/mlflow.yaml",
        ("requests: {cpu: 250m", 'requests: {cpu: "2"'),
        "Deployment/mlflow: container 'mlflow' requests 2 cpu, more than its limit 1",
    ),
    "an image is latest": (
        "components/versions/kustomization.yaml",
        ("localhost/symbol-llm/light, newTag: 0.1.0", "localhost/symbol-llm/light, newTag: latest"),
        "Deployment/mlflow: container 'mlflow' has image 'localhost/symbol-llm/light:latest'; name a version, not latest",
    ),
    "an image has no tag": (
        "components/versions/kustomization.yaml",
        ("  - {name: localhost/symbol-llm/light, newTag: 0.1.0}\n", ""),
        "Deployment/mlflow: container 'mlflow' has image 'localhost/symbol-llm/light' without a tag; see images:",
    ),
    "a field is unknown": (
        "base/mlflow.yaml",
        ("strategy: {type: Recreate}", "strateggy: {type: Recreate}"),
        "Deployment/mlflow: spec: Additional properties are not allowed ('strateggy' was unexpected)",
    ),
    "a secret dangles": (
        "overlays/laptop/kustomization.yaml",
        ("- name: credentials", "- name: credentail"),
        "Deployment/mlflow: Secret/credentials is not in the render; add it, or declare it in symbol-llm/external",
    ),
    "a key of a secret is missing": (
        "overlays/laptop/secret.example.env",
        ("POSTGRES_PASSWORD=database-password\n", ""),
        "StatefulSet/mlflow-db: Secret/credentials has no key 'POSTGRES_PASSWORD'",
    ),
    "a service account dangles": (
        "base/mlflow.yaml",
        ("serviceAccountName: mlflow", "serviceAccountName: mlfow"),
        "Deployment/mlflow: ServiceAccount/mlfow is not in the render; add it, or declare it in symbol-llm/external",
    ),
    "a pod may escalate": (
        "base/serving.yaml",
        ("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"),
        "InferenceService/symbol-llm: "
        "container 'kserve-container' must have securityContext.allowPrivilegeEscalation: false",
    ),
    "a pod may be root": (
        "base/database.yaml",
        ("runAsNonRoot: true", "runAsNonRoot: false"),
        "StatefulSet/mlflow-db: pod securityContext.runAsNonRoot must be true",
    ),
    "a pod takes a token": (
        "base/serving.yaml",
        ("automountServiceAccountToken: false", "automountServiceAccountToken: true"),
        "InferenceService/symbol-llm: "
        "automountServiceAccountToken must be false, or symbol-llm/needs-token say why not",
    ),
    "a service selects nothing": (
        "base/mlflow.yaml",
        ("selector: {app.kubernetes.io/name: mlflow}", "selector: {app.kubernetes.io/name: mlfow}"),
        "Service/mlflow: its selector {'matchLabels': {'app.kubernetes.io/name': 'mlfow'}} finds no pod",
    ),
    "everything may come in": (
        "base/network.yaml",
        ("  policyTypes: [Ingress, Egress]\n---\n# Names", "  policyTypes: [Egress]\n---\n# Names"),
        "Job/make-bucket: no NetworkPolicy says anything of its ingress",
    ),
    "names are not resolved": (
        "base/network.yaml",
        ("{protocol: UDP, port: 53}", "{protocol: UDP, port: 5353}"),
        "a task of Kubeflow Pipelines: may not ask the cluster's DNS",
    ),
    "a client may not go out to its server": (
        "base/network.yaml",
        ("  policyTypes: [Ingress, Egress]\n  ingress:", "  policyTypes: [Ingress]\n  ingress:"),
        "InferenceService/symbol-llm: has the address mlflow:5000 and may not connect to Deployment/mlflow",
    ),
    "a server does not let its client in": (
        "base/network.yaml",
        ("        - podSelector:\n            matchLabels: {serving.kserve.io/inferenceservice: symbol-llm}\n", ""),
        "Deployment/mlflow: lets nothing in from InferenceService/symbol-llm, which has the address mlflow:5000",
    ),
    "the database lets in only what has another label": (
        "base/mlflow.yaml",
        ('mlflow-upgrade, symbol-llm/database-client: "true"', 'mlflow-upgrade, symbol-llm/database-clinet: "true"'),
        "StatefulSet/mlflow-db: lets nothing in from Job/mlflow-upgrade, which has the address mlflow-db:5432",
    ),
    "an address has another port": (
        "base/storage.yaml",
        ("MLFLOW_TRACKING_URI: http://mlflow:5000", "MLFLOW_TRACKING_URI: http://mlflow:5001"),
        "a task of Kubeflow Pipelines: has the address mlflow:5001, and Service/mlflow has no port 5001",
    ),
    "an address leads out of the cluster": (
        "base/storage.yaml",
        ("MLFLOW_TRACKING_URI: http://mlflow:5000", "MLFLOW_TRACKING_URI: https://mlflow.example.org:8443"),
        "a task of Kubeflow Pipelines: has the address mlflow.example.org:8443 and may not connect to any network there",
    ),
    "tasks may not speak to the Kubernetes API": (
        "base/network.yaml",
        ("        - {protocol: TCP, port: 443}\n", ""),
        "a task of Kubeflow Pipelines: has a token and may not reach the Kubernetes API, port 443",
    ),
    "tasks may not speak to Kubeflow": (
        "base/network.yaml",
        ("        - {protocol: TCP, port: 8887}\n", ""),
        "a task of Kubeflow Pipelines: may not reach Kubeflow, port 8887",
    ),
    "tasks may not speak to Kubeflow's metadata store": (
        "base/network.yaml",
        ("        - {protocol: TCP, port: 8080}\n    - to:\n        - ipBlock", "    - to:\n        - ipBlock"),
        "a task of Kubeflow Pipelines: may not reach Kubeflow, port 8080",
    ),
    "a role gives Secrets": (
        "base/accounts.yaml",
        ("resources: [pods]", "resources: [pods, secrets]"),
        "Role/pipeline-runner: must not give resources secrets",
    ),
    "a role gives everything": (
        "base/accounts.yaml",
        ("verbs: [create, patch]", 'verbs: ["*"]'),
        "Role/pipeline-runner: must not give verbs *",
    ),
    "the quota is less than what always runs": (
        "base/limits.yaml",
        ('requests.cpu: "8"', "requests.cpu: 500m"),
        "ResourceQuota/symbol-llm: requests.cpu 500m is less than the 0.700 of what always runs",
    ),
    "volumes are more than the quota": (
        "base/limits.yaml",
        ("requests.storage: 100Gi", "requests.storage: 20Gi"),
        "ResourceQuota/symbol-llm: requests.storage 20Gi is less than the 32212254720 of what always runs",
    ),
    "containers without a size get none": (
        "base/limits.yaml",
        ("defaultRequest: {cpu: 50m, memory: 64Mi,", "defaultRequest: {memory: 64Mi,"),
        "LimitRange/symbol-llm: must have a defaultRequest of cpu, as the quota counts it",
    ),
    "something lies elsewhere": (
        "components/object-store/object-store.yaml",
        ("  namespace: symbol-llm\n  name: make-bucket", "  namespace: default\n  name: make-bucket"),
        "Job/make-bucket: must have the namespace 'symbol-llm', not 'default'",
    ),
    "a service aims at no port": (
        "base/mlflow.yaml",
        ("targetPort: http}", "targetPort: web}"),
        "Service/mlflow: its target port web is no port of its pods",
    ),
}


@needs_kubectl
@pytest.mark.parametrize("case", BREAKS)
def test_a_fault_is_found_when(case: str, tmp_path: Path) -> None:
    file, (old, new), message = BREAKS[case]
    assert message in faults_after(lambda text: text.replace(old, new), file, tmp_path)


@needs_kubectl
def test_an_address_of_the_pods_own_at_which_nothing_listens_is_found(tmp_path: Path) -> None:
    file, old, new = "components/vllm/solver.yaml", "{containerPort: 8000,", "{containerPort: 8001,"
    faults = faults_after(lambda text: text.replace(old, new), file, tmp_path, overlay="prod")
    said = "has the address 127.0.0.1:8000, and none of its containers has port 8000"
    assert f"InferenceService/symbol-llm: {said}" in faults


@needs_kubectl
@needs_crds
def test_an_unknown_field_of_a_custom_resource_is_found(tmp_path: Path, schemas: check.Schemas) -> None:
    def edit(text: str) -> str:
        return text.replace("minReplicas:", "minimumReplicas:")

    unknown = "Additional properties are not allowed ('minimumReplicas' was unexpected)"
    assert f"InferenceService/symbol-llm: spec.predictor: {unknown}" in faults_after(
        edit, "base/serving.yaml", tmp_path, schemas
    )


@needs_kubectl
@needs_crds
def test_a_broken_rule_of_a_custom_resource_is_found(tmp_path: Path, schemas: check.Schemas) -> None:
    def edit(text: str) -> str:
        return text.replace("    torch: {}", "    torch: {}\n    jax: {}")

    runtime, file = "TrainingRuntime/symbol-llm-torch", "components/training/runtime.yaml"
    found = faults_after(edit, file, tmp_path, schemas, overlay="dev")
    assert f"{runtime}: spec.mlPolicy: Only one of the policy can be configured" in found


@needs_kubectl
def test_the_command_prints_the_fault_and_fails(tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT, tmp_path / "manifests")
    network = copy / "base" / "network.yaml"
    network.write_text(network.read_text().replace("name: mlflow-db}", "name: database}", 1))
    done = CliRunner().invoke(check.main, ["--root", str(copy)])
    assert done.exit_code == 1
    assert (
        "NetworkPolicy/mlflow-db: its selector {'matchLabels': {'app.kubernetes.io/name': 'database'}} finds no pod"
        in done.output
    )
    assert "no CRDs (--crds not given): the fields of custom resources were not checked" in done.output


@needs_kubectl
def test_an_overlay_that_does_not_render_is_named(tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT, tmp_path / "manifests")
    (copy / "base" / "mlflow.yaml").unlink()
    done = CliRunner().invoke(check.main, ["--root", str(copy)])
    assert done.exit_code == 1
    assert "overlays/dev" in done.output
    assert "mlflow.yaml" in done.output


def test_a_folder_without_overlays_fails(tmp_path: Path) -> None:
    assert CliRunner().invoke(check.main, ["--root", str(tmp_path)]).exit_code == 1


def test_a_missing_kubectl_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(check.main, ["--root", str(ROOT)])
    assert done.exit_code == 1
    assert "kubectl is not installed" in done.output


@needs_kubectl
def test_our_images_carry_the_version_of_the_package() -> None:
    images = {c["image"] for overlay in OVERLAYS for pod in resources.pods(rendered(overlay)) for c in pod.containers}
    ours = [image.split(":") for image in images if "symbol-llm/" in image]
    assert {name.partition("/")[0] for name, _ in ours} == {"localhost"}  # at no public registry
    assert {tag for _, tag in ours} == {__version__}


def rights(overlay: str, account: str) -> set[tuple[str, ...]]:
    """Return what the roles bound to `account` give, as resource, verbs and names."""
    found = {resources.name_of(r): r for r in rendered(overlay)}
    bound = {
        r["roleRef"]["name"]
        for r in found.values()
        if r["kind"] == "RoleBinding" and account in [subject["name"] for subject in r["subjects"]]
    }
    return {
        (resource, *rule["verbs"], *rule.get("resourceNames", ()))
        for name in bound
        for rule in found[f"Role/{name}"]["rules"]
        for resource in rule["resources"]
    }


@needs_kubectl
def test_pods_that_run_programs_of_models_may_do_little_with_their_token() -> None:
    assert rights("prod", "pipeline-runner") == {
        ("configmaps", "get", "kfp-launcher"),
        ("pods", "get"),
        ("workflowtaskresults", "create", "patch"),
    }
    assert [rights("prod", a) for a in ("solver", "train-worker", "mlflow", "storage", "backup")] == [set()] * 5


@needs_kubectl
def test_runs_that_start_trainjobs_may_also_do_that_and_no_more() -> None:
    assert rights("prod", "trainer") - rights("prod", "pipeline-runner") == {
        ("trainjobs", "create", "get", "list", "watch", "delete"),
        ("pods", "list"),
        ("pods/log", "get"),
    }


@needs_kubectl
@pytest.mark.parametrize("name", placement.names())
def test_account_of_a_placement_may_what_its_tasks_ask_of_the_api_server(name: str) -> None:
    placed = placement.load(name)
    given = rights("prod", placed.service_account)
    for _, resource, named, verb in objects.rights(placed):
        assert any(r[0] == resource and verb in r and (not named or named in r) for r in given), (resource, verb)


def test_no_password_is_in_the_tree() -> None:
    example = (ROOT / "overlays" / "laptop" / "secret.example.env").read_text()
    found = re.findall(r"^\w*(?:PASSWORD|_KEY)=(.*)", example, flags=re.M)
    assert found == ["database-password", "store-password", "mlflow-password", "session-key"]
    assert (ROOT / "overlays" / "laptop" / ".gitignore").read_text().split() == ["secret.env"]


@needs_kubectl
@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl, which makes the passwords, is not installed")
@pytest.mark.parametrize("document", ["manifests/README.md", "docs/guides/kubernetes.md", "manifests/kind.sh"])
def test_every_password_is_one_of_its_own_as_the_documents_make_them(document: str, tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT, tmp_path / "manifests")
    text = (ROOT.parent / document).read_text().replace("\\\n", " ").replace("$laptop", ".")
    sed = next(line.strip() for line in text.splitlines() if line.strip().startswith("sed -e"))
    subprocess.run(["bash", "-euc", sed], cwd=copy / "overlays" / "laptop", check=True)
    secret = next(
        r for r in resources.render(copy / "overlays" / "laptop") if resources.name_of(r) == "Secret/credentials"
    )
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    made = [value for value in values.values() if re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", value)]
    assert len(set(made)) == 4
    assert {key for key, value in values.items() if value not in made} == {
        "AWS_ACCESS_KEY_ID",
        "MLFLOW_TRACKING_USERNAME",
    }


IMAGES = {
    "components/images/cpu.Dockerfile": "families tracking versions pipelines signing",
    "components/images/gpu.Dockerfile": "families model deepspeed vllm lora qlora tracking versions pipelines",
    "serving/Dockerfile": "families model tracking serving signing",
}


@pytest.mark.parametrize("file", IMAGES)
def test_every_image_has_the_libraries_of_all_notations_and_the_sandbox_and_fails_to_build_without(file: str) -> None:
    text = (ROOT.parent / file).read_text()
    extras = re.search(r'(?:ARG EXTRAS=|"\.\[)([a-z,]+)', text)
    assert extras
    assert extras[1].split(",") == IMAGES[file].split()
    assert "libseccomp2" in text
    assert "[families.get(name) for name in families.names()]" in text


DOCUMENTS = ("manifests/README.md", "docs/guides/kubernetes.md", "docs/guides/runbook.md")
KINDS = (
    "deployment|statefulset|service|inferenceservice|resourcequota|clusterqueue|cronjob|persistentvolumeclaim|configmap"
)
MADE = {"deployment/symbol-llm-predictor", "configmap/mlflow-ca", "deployment/ml-pipeline"}
MADE |= {"deployment/kueue-controller-manager", "configmap/kueue-manager-config"}
"""By KServe, by who installs, by Kubeflow and Kueue."""


@needs_kubectl
@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_what_there_is(document: str) -> None:
    text = (ROOT.parent / document).read_text()
    all_there = [r for overlay in OVERLAYS for r in rendered(overlay)]
    there = {resources.name_of(r).lower() for r in all_there} | MADE
    for path in re.findall(r"kubectl apply -k (\S+?)[`\s]", text):
        assert (ROOT.parent / path / "kustomization.yaml").is_file()
    commands = [line for line in text.splitlines() if "kubectl " in line]
    named = [found for line in commands for found in re.findall(rf"\b({KINDS})[/ ]([a-z][a-z-]+)", line)]
    assert len(named) > 2
    assert {f"{kind}/{name}" for kind, name in named} - there == set()
    selectors = [tuple(found) for line in commands for found in re.findall(r"--selector (\S+)=(\S+)", line)]
    labels = [pod.labels for pod in (*resources.pods(all_there), resources.KUBEFLOW_TASK)]
    assert [pair for pair in selectors if not any(pair in of_pod.items() for of_pod in labels)] == []


def test_components_and_overlays_are_all_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    for kind, folder in (("Component", "components"), ("Overlay", "overlays")):
        for file in (ROOT / folder).glob("*/kustomization.yaml"):
            assert f"\n| `{file.parent.name}` |" in text, kind
    for file in (ROOT / "overlays").glob("*/kustomization.yaml"):
        named = {Path(c).name for c in yaml.safe_load(file.read_text())["components"]} - {"versions"}
        row = next(line for line in text.splitlines() if line.startswith(f"| `{file.parent.name}` |"))
        assert named == set(re.findall(r"`([a-z-]+)`", row.rpartition("|")[0].rpartition("|")[2])) - {"prod"}


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubeflow_keeps_what_stages_hand_on_in_the_store_that_all_others_use(overlay: str) -> None:
    found = {r["metadata"]["name"]: r["data"] for r in rendered(overlay) if r["kind"] == "ConfigMap"}
    launcher, storage = found["kfp-launcher"], found["storage"]
    provider = yaml.safe_load(launcher["providers"])["s3"]["default"]
    scheme, _, host = storage["AWS_ENDPOINT_URL"].partition("://")
    assert (provider["endpoint"], provider.get("disableSSL", False)) == (host, scheme == "http")
    assert provider["region"] == storage["AWS_DEFAULT_REGION"]
    assert provider["credentials"] == {"fromEnv": True}
    assert launcher["defaultPipelineRoot"].startswith(f"s3://{storage['SYMBOL_LLM_BUCKET']}/")


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_argo_leaves_logs_in_the_same_store_with_keys_that_there_are(overlay: str) -> None:
    """Without a place of the namespace's own, Argo mounts the Secret of Kubeflow's, and no pod of a run starts."""
    found = {r["metadata"]["name"]: r for r in rendered(overlay) if r["kind"] == "ConfigMap"}
    places, storage = found["artifact-repositories"], found["storage"]["data"]
    place = yaml.safe_load(places["data"][resources.annotation(places, DEFAULT_PLACE)])
    scheme, _, host = storage["AWS_ENDPOINT_URL"].partition("://")
    assert place["archiveLogs"] is True
    assert (place["s3"]["endpoint"], place["s3"].get("insecure", False)) == (host, scheme == "http")
    assert (place["s3"]["bucket"], place["s3"]["region"]) == (
        storage["SYMBOL_LLM_BUCKET"],
        storage["AWS_DEFAULT_REGION"],
    )
    assert place["s3"]["keyFormat"].endswith("/{{workflow.name}}/{{pod.name}}")
    example = (ROOT / "overlays" / "laptop" / "secret.example.env").read_text()
    for secret in (place["s3"]["accessKeySecret"], place["s3"]["secretKeySecret"]):
        assert secret["name"] == "credentials"
        assert f"\n{secret['key']}=" in example
