# `make run` and `make test` need Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
ARGS ?=
BENCH ?= schema

BIN := .venv/bin
INSTALLED := .venv/.installed

# Keeps pyright from asking the network whether a newer release exists.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## create .venv and install the package into it (make run and make test do it too)

$(INSTALLED): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: '$(PYTHON)' was not found; install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: '$(PYTHON)' is $$($(PYTHON) -V 2>&1), but 3.11 or newer is needed; name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up .venv: installing JAX and the rest, once, about two minutes ..."
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[test]' || { \
	  echo "error: that did not work; '$(BIN)/python -m pip install -e .[test]' says more (is there a network, and 2 GB of disk?)" >&2; exit 1; }
	@touch $@
	@echo "set up."

run: $(INSTALLED) ## the main job: the five-phase arc and its report (ARGS='key=value ...' for Hydra)
	@$(BIN)/python -m experiments.arc $(ARGS)

test: lint ## lint, then all tests (ARGS='-k name' for pytest)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(INSTALLED) ## style, format, types, and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

format: $(INSTALLED) ## put the code into the house format and mend what can be mended safely
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED) ## timings against the peers (BENCH=schema, ARGS='--json FILE')
	$(BIN)/python scripts/bench.py $(BENCH) $(ARGS)

clean: ## remove caches and builds; keeps .venv and outputs
	rm -rf build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./.venv -prune -o -type d \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +
