#!/usr/bin/env bash
# From an empty machine with Docker to a champion that answers: a kind cluster, all that the laptop needs in it, a small run.
#
#   manifests/kind.sh up        make the cluster and install everything (20 to 30 minutes, 16 GB of memory)
#   manifests/kind.sh run       submit a small run, wait for its champion, ask it a question
#   manifests/kind.sh down      delete the cluster
#
# NOT RUN BY US: where this was written, no registry of images could be reached. It is checked by shellcheck, its overlay and its
# pipeline by `make manifests` and `make pipelines`. Versions can be set in the environment.
set -euo pipefail
cd "$(dirname "$0")/.."

CLUSTER=${CLUSTER:-symbol-llm}
NODE=${NODE:-kindest/node:v1.33.4}
CERT_MANAGER=${CERT_MANAGER:-v1.18.2}
KSERVE=${KSERVE:-v0.17.0}
PIPELINES=${PIPELINES:-2.17.0}
ISTIO_CRDS=${ISTIO_CRDS:-1.26.2}
TRAINER=${TRAINER:-v2.2.0}
KUEUE=${KUEUE:-v0.15.0}
VERSION=0.1.0
PYTHON=${PYTHON:-.venv/bin/python}

main() {
  trap 'kill $(jobs -p) 2> /dev/null || true' EXIT  # what forwards ports
  case "${1:-}" in
    up) need docker kind kubectl helm openssl; cluster; images; platform; overlay ;;
    run) need kubectl curl; submit; champion; ask ;;
    down) need kind; kind delete cluster --name "$CLUSTER" ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
}

need() {
  local command
  for command in "$@"; do
    command -v "$command" > /dev/null || { echo "kind.sh: $command is not installed" >&2; exit 3; }
  done
}

cluster() {
  kind get clusters | grep --quiet --line-regexp "$CLUSTER" || kind create cluster --name "$CLUSTER" --image "$NODE" --wait 5m
  kubectl config use-context "kind-$CLUSTER"
}

images() {
  docker build --file components/images/cpu.Dockerfile --target light --tag "localhost/symbol-llm/light:$VERSION" .
  docker build --file components/images/cpu.Dockerfile --target cpu --tag "localhost/symbol-llm/cpu:$VERSION" .
  docker build --file serving/Dockerfile --tag "localhost/symbol-llm/solver:$VERSION" .
  kind load docker-image --name "$CLUSTER" "localhost/symbol-llm/light:$VERSION" "localhost/symbol-llm/cpu:$VERSION" "localhost/symbol-llm/solver:$VERSION"
}

platform() {
  kubectl apply --filename "https://github.com/cert-manager/cert-manager/releases/download/$CERT_MANAGER/cert-manager.yaml"
  kubectl --namespace cert-manager wait --for=condition=Available deployment --all --timeout=5m
  helm upgrade --install kserve-crd oci://ghcr.io/kserve/charts/kserve-crd --version "$KSERVE" --namespace kserve --create-namespace
  helm upgrade --install kserve oci://ghcr.io/kserve/charts/kserve-resources --version "$KSERVE" --namespace kserve --wait \
    --set kserve.controller.deploymentMode=Standard
  kubectl apply --server-side --filename "https://github.com/kubernetes-sigs/kueue/releases/download/$KUEUE/manifests.yaml"
  kubectl apply --server-side --kustomize "https://github.com/kubeflow/trainer.git/manifests/overlays/manager?ref=$TRAINER"
  pipelines
}

# Multi-user, so that runs may be in our namespace. Of Istio it needs the definitions alone: who may submit is said by a token.
pipelines() {
  local kustomization="github.com/kubeflow/pipelines/manifests/kustomize/env/platform-agnostic-multi-user?ref=$PIPELINES"
  kubectl create namespace kubeflow --dry-run=client --output yaml | kubectl apply --filename -
  kubectl apply --filename "https://raw.githubusercontent.com/istio/istio/$ISTIO_CRDS/manifests/charts/base/files/crd-all.gen.yaml"
  # Definitions are not known at once to what uses them, so the first try may fail in part.
  kubectl apply --server-side --kustomize "$kustomization" || { sleep 30; kubectl apply --server-side --kustomize "$kustomization"; }
  kubectl --namespace kubeflow wait --for=condition=Available deployment ml-pipeline workflow-controller --timeout=15m
}

overlay() {
  local laptop=manifests/overlays/laptop
  if [[ ! -e $laptop/secret.env ]]; then
    sed -e "s/database-password/$(openssl rand -hex 16)/" -e "s/store-password/$(openssl rand -hex 16)/" \
      -e "s/mlflow-password/$(openssl rand -hex 16)/" -e "s/session-key/$(openssl rand -hex 32)/" \
      "$laptop/secret.example.env" > "$laptop/secret.env"
  fi
  kubectl apply --kustomize "$laptop"
  kubectl --namespace symbol-llm rollout status statefulset mlflow-db --timeout=5m
  kubectl --namespace symbol-llm rollout status deployment mlflow --timeout=15m
  kubectl --namespace symbol-llm create serviceaccount submitter --dry-run=client --output yaml | kubectl apply --filename -
  kubectl --namespace symbol-llm create rolebinding submitter --clusterrole kubeflow-pipelines-edit \
    --serviceaccount symbol-llm:submitter --dry-run=client --output yaml | kubectl apply --filename -
}

submit() {
  local token
  token=$(kubectl --namespace symbol-llm create token submitter --audience pipelines.kubeflow.org --duration 12h)
  kubectl --namespace kubeflow port-forward service/ml-pipeline 8888 > /dev/null &
  sleep 5
  KF_PIPELINES_TOKEN=$token "$PYTHON" -m pipelines.submit --host http://localhost:8888 --placement laptop \
    --set 'collect.tasks=[gqa]' --set collect.n_train=24 --set collect.n_dev=3 --set collect.n_test=20 \
    --set replay.n=4 --set injection.epochs=3 --set rounds.n=1 --set evaluate.n_general=4
}

# The solver is ready once there is a champion, and there is one if the gate found the round better.
champion() {
  kubectl --namespace symbol-llm wait --for=condition=Ready inferenceservice symbol-llm --timeout=3h
}

ask() {
  kubectl --namespace symbol-llm port-forward service/symbol-llm-predictor 8080:80 > /dev/null &
  sleep 5
  curl --fail --silent --show-error http://localhost:8080/v1/solve --data '{"question": "What is 14 plus 9?"}'
  echo
}

main "$@"
