# Everything a person or CI does with this project. `make help` lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROUTE ?= examples/hybridroute.yaml
INSTALLED := $(VENV)/.installed

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

.PHONY: test-crd
test-crd: $(INSTALLED) ## Good and bad objects against a real API server (kube-apiserver and etcd on PATH)
	$(BIN)/python -m pytest tests/crd

.PHONY: test-control
test-control: $(INSTALLED) ## The operator's process against a real API server; KubeRay's states are written by the tests
	$(BIN)/python -m pytest tests/control

.PHONY: test-long
test-long: $(INSTALLED) ## Campaigns that take minutes to hours: transitions, kills under a budget, outages, the promise
	TRANSITIONS=500 $(BIN)/python -m pytest tests/control/test_transitions.py
	BUDGET_RUNS=50 $(BIN)/python -m pytest -s tests/long/test_budget_kills.py
	$(BIN)/python -m pytest -s tests/long/test_budget_window.py
	$(BIN)/python benchmarks/promise_draws.py --draws 2000
	OUTAGE_SECONDS=60 OUTAGE_TABLE=benchmarks/results/outage_campaign.md \
	  $(BIN)/python -m pytest -s tests/long/test_outage_campaign.py

.PHONY: lint
lint: $(INSTALLED) ## Style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m hybridroute_cli.pages docs crds --check

.PHONY: docs
docs: $(INSTALLED) ## Regenerate the pages that are made from code
	$(BIN)/python -m hybridroute_cli.pages docs

.PHONY: crds
crds: $(INSTALLED) ## Regenerate the CustomResourceDefinition from the models
	$(BIN)/python -m hybridroute_cli.pages crds

.PHONY: lock
lock: ## Resolve requirements/dev.lock anew (needs uv)
	uv pip compile --quiet pyproject.toml --extra serve --extra local --extra cli --extra dev --extra lab --extra operator \
	  --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url \
	  --override requirements/overrides.txt --upgrade --output-file requirements/dev.lock
