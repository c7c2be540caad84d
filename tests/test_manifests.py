"""Every overlay passes; a broken copy fails with the message that names the fault."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from manifests import check
from symbol_llm import __version__

ROOT = Path(check.__file__).parent
OVERLAYS = ("laptop", "prod")
CRDS = Path(os.environ.get("CRDS") or ROOT / "crds")

needs_kubectl = pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kubectl, which renders the overlays, is not installed"
)
needs_crds = pytest.mark.skipif(not CRDS.is_dir(), reason="no CRDs; set CRDS to the folder that holds KServe's")


@pytest.fixture(scope="module")
def schemas() -> check.Schemas:
    return check.load_schemas(CRDS)


def faults_after(
    edit: Callable[[str], str], file: str, tmp_path: Path, schemas: check.Schemas | None = None
) -> list[str]:
    copy = shutil.copytree(ROOT, tmp_path / "manifests")
    text = (copy / file).read_text()
    assert edit(text) != text, f"the edit leaves {file} as it is"
    (copy / file).write_text(edit(text))
    return [
        f"{resource}: {message}"
        for resource, message in check.check(check.render(copy / "overlays" / "laptop"), schemas)
    ]


@needs_kubectl
@needs_crds
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_has_no_fault(overlay: str, schemas: check.Schemas) -> None:
    assert list(check.check(check.render(ROOT / "overlays" / overlay), schemas)) == []


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_keeps_our_rules_where_no_crd_is_at_hand(overlay: str) -> None:
    assert list(check.check(check.render(ROOT / "overlays" / overlay))) == []


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
        "base/kustomization.yaml",
        ("localhost/symbol-llm/cpu, newTag: 0.1.0", "localhost/symbol-llm/cpu, newTag: latest"),
        "Deployment/mlflow: container 'mlflow' has image 'localhost/symbol-llm/cpu:latest'; name a version, not latest",
    ),
    "an image has no tag": (
        "base/kustomization.yaml",
        ("  - {name: localhost/symbol-llm/cpu, newTag: 0.1.0}\n", ""),
        "Deployment/mlflow: container 'mlflow' has image 'localhost/symbol-llm/cpu' without a tag; see images:",
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
        "Service/mlflow: its selector {'app.kubernetes.io/name': 'mlfow'} finds no pod",
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
@needs_crds
def test_an_unknown_field_of_a_custom_resource_is_found(tmp_path: Path, schemas: check.Schemas) -> None:
    def edit(text: str) -> str:
        return text.replace("minReplicas:", "minimumReplicas:")

    unknown = "Additional properties are not allowed ('minimumReplicas' was unexpected)"
    assert f"InferenceService/symbol-llm: spec.predictor: {unknown}" in faults_after(
        edit, "base/serving.yaml", tmp_path, schemas
    )


@needs_kubectl
def test_the_command_prints_the_fault_and_fails(tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT, tmp_path / "manifests")
    network = copy / "base" / "network.yaml"
    network.write_text(network.read_text().replace("name: mlflow-db}", "name: database}"))
    done = CliRunner().invoke(check.main, ["--root", str(copy)])
    assert done.exit_code == 1
    assert "NetworkPolicy/mlflow-db: its selector {'app.kubernetes.io/name': 'database'} finds no pod" in done.output
    assert "no CRDs (--crds not given): the fields of custom resources were not checked" in done.output


@needs_kubectl
def test_an_overlay_that_does_not_render_is_named(tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT, tmp_path / "manifests")
    (copy / "base" / "mlflow.yaml").unlink()
    done = CliRunner().invoke(check.main, ["--root", str(copy)])
    assert done.exit_code == 1
    assert "overlays/laptop" in done.output
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
    images = {
        c["image"]
        for overlay in OVERLAYS
        for pod in check.pods(check.render(ROOT / "overlays" / overlay))
        for c in pod.containers
    }
    ours = [image.split(":") for image in images if "symbol-llm/" in image]
    assert {name.partition("/")[0] for name, _ in ours} == {"localhost"}  # at no public registry
    assert {tag for _, tag in ours} == {__version__}


@needs_kubectl
def test_pods_that_run_programs_of_models_may_do_little_with_their_token() -> None:
    role = next(r for r in check.render(ROOT / "overlays" / "prod") if r["kind"] == "Role")
    rights = {(rule["resources"][0], *rule["verbs"], *rule.get("resourceNames", ())) for rule in role["rules"]}
    assert rights == {
        ("configmaps", "get", "storage", "kfp-launcher"),
        ("pods", "get"),
        ("workflowtaskresults", "create", "patch"),
    }


def test_no_password_is_in_the_tree() -> None:
    example = (ROOT / "overlays" / "laptop" / "secret.example.env").read_text()
    assert re.findall(r"(?:PASSWORD|SECRET_ACCESS_KEY)=(.*)", example) == ["database-password", "store-password"]
    assert (ROOT / "overlays" / "laptop" / ".gitignore").read_text().split() == ["secret.env"]


@needs_kubectl
@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl, which makes the password, is not installed")
def test_the_readme_makes_a_password_for_the_database_and_another_for_the_store(tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT, tmp_path / "manifests")
    block = (ROOT / "README.md").read_text().partition("## Install\n\n")[2].partition("\n\n")[0]
    commands = [line.strip() for line in block.splitlines() if "kubectl" not in line]
    subprocess.run(["bash", "-euc", "\n".join(commands)], cwd=tmp_path, check=True)
    secret = next(r for r in check.render(copy / "overlays" / "laptop") if check.name_of(r) == "Secret/credentials")
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    database, store = values["POSTGRES_PASSWORD"], values["AWS_SECRET_ACCESS_KEY"]
    assert all(re.fullmatch(r"[0-9a-f]{32}", password) for password in (database, store))
    assert database != store
    assert f"mlflow:{database}@" in values["MLFLOW_BACKEND_STORE_URI"]


IMAGES = {
    "components/images/cpu.Dockerfile": "families model tracking versions pipelines",
    "components/images/gpu.Dockerfile": "families model deepspeed vllm tracking versions pipelines",
    "serving/Dockerfile": "families model tracking serving",
}


@pytest.mark.parametrize("file", IMAGES)
def test_every_image_has_the_libraries_of_all_notations_and_the_sandbox_and_fails_to_build_without(file: str) -> None:
    text = (ROOT.parent / file).read_text()
    extras = re.search(r'(?:ARG EXTRAS=|"\.\[)([a-z,]+)', text)
    assert extras
    assert extras[1].split(",") == IMAGES[file].split()
    assert "libseccomp2" in text
    assert "[families.get(name) for name in families.names()]" in text


@needs_kubectl
def test_the_readme_names_what_there_is() -> None:
    text = (ROOT / "README.md").read_text()
    resources = [r for overlay in OVERLAYS for r in check.render(ROOT / "overlays" / overlay)]
    there = {check.name_of(r).lower() for r in resources} | {"deployment/symbol-llm-predictor"}  # the last is KServe's
    paths = re.findall(r"kubectl apply -k (\S+)", text)
    assert [(ROOT.parent / path / "kustomization.yaml").is_file() for path in paths] == [True] * 3
    named = re.findall(r"--namespace symbol-llm .*?\b(deployment|service|inferenceservice)[/ ]([a-z-]+)", text)
    assert len(named) == 5
    assert {f"{kind}/{name}" for kind, name in named} <= there


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubeflow_keeps_what_stages_hand_on_in_the_store_that_all_others_use(overlay: str) -> None:
    found = {
        r["metadata"]["name"]: r["data"] for r in check.render(ROOT / "overlays" / overlay) if r["kind"] == "ConfigMap"
    }
    launcher, storage = found["kfp-launcher"], found["storage"]
    provider = yaml.safe_load(launcher["providers"])["s3"]["default"]
    scheme, _, host = storage["AWS_ENDPOINT_URL"].partition("://")
    assert (provider["endpoint"], provider.get("disableSSL", False)) == (host, scheme == "http")
    assert provider["region"] == storage["AWS_DEFAULT_REGION"]
    assert provider["credentials"] == {"fromEnv": True}
    assert launcher["defaultPipelineRoot"].startswith(f"s3://{storage['SYMBOL_LLM_BUCKET']}/")
