# Every target sets up .venv by itself; all it needs is Python 3.10 or newer with pip.
#   make test PYTEST_FLAGS="-k dbim"                                      some of the tests
#   make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"   Linux without a GPU: the small torch
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-host check format bench world-gates evidence adapter-evidence clean

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && { echo $$p; break; }; done)
PIP_FLAGS ?=
PYTEST_FLAGS ?=
BENCH_FLAGS ?=
EVIDENCE_FLAGS ?= --quick
BIN := .venv/bin
READY := .venv/ready

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: $(READY) ## make .venv and install what the rest needs

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.10 or newer was found; install one or name it: make PYTHON=python3.12"; exit 1; }
	@echo "setting up .venv; the first time this takes a few minutes"
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv || $(MAKE) --no-print-directory venv-by-pip
	$(BIN)/pip install --disable-pip-version-check --quiet $(PIP_FLAGS) -e ".[dev]"
	@touch $@

# Some systems ship Python without ensurepip; virtualenv from pip brings its own.
.PHONY: venv-by-pip
venv-by-pip:
	rm -rf .venv
	$(PYTHON) -m pip install --quiet --target build/virtualenv virtualenv
	PYTHONPATH=build/virtualenv $(PYTHON) -m virtualenv --quiet .venv

demo: $(READY) ## train a concept, draw it with and without DCI: out/demo.png, out/demo.json
	$(BIN)/python -m dci_core demo --out out/demo.png

test: $(READY) ## all tests but the slow ones; skipped ones say why
	$(BIN)/pytest -m "not slow" $(PYTEST_FLAGS)

test-slow: $(READY) ## full-size models and a real server, where ComfyUI is found
	$(BIN)/pytest -m slow $(PYTEST_FLAGS)

test-host: $(READY) ## only the tests against ComfyUI: make test-host COMFYUI_PATH=...
	COMFYUI_PATH="$(COMFYUI_PATH)" $(BIN)/pytest -m host $(PYTEST_FLAGS)

check: $(READY) ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## what the auxiliary branch costs
	$(BIN)/python tests/bench.py $(BENCH_FLAGS)

world-gates: $(READY) ## is the tiny world a fair ground?
	$(BIN)/python -m dci_core world gates

evidence: $(READY) ## does it do what it claims? out/evidence/report.md; EVIDENCE_FLAGS=--full for a night or a GPU, "--world flow" for the MM-DiT
	$(BIN)/python -m dci_core evidence $(EVIDENCE_FLAGS)

adapter-evidence: $(READY) ## what does the image prompt adapter do? out/adapter-evidence/report.md; EVIDENCE_FLAGS as above
	$(BIN)/python -m dci_core adapter-evidence $(EVIDENCE_FLAGS)

clean: ## remove .venv, caches and out/
	rm -rf .venv out build *.egg-info .pytest_cache .ruff_cache .mypy_cache
