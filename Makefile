# Everything runs in .venv, made once and again whenever pyproject.toml or constraints.txt change.
#
# PYTHON    the interpreter to build .venv with, 3.11 or newer
# PIP_ARGS  more options for pip. Plain pip brings the CUDA build of torch, several gigabytes of it; on a machine
#           without a GPU point pip at the CPU-only build of the same version, which PyTorch publishes in an index of
#           its own: make setup PIP_ARGS='--extra-index-url <that index>'
PYTHON ?= $(firstword $(shell command -v python3.11) python3)
PIP_ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types contracts format clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(INSTALLED)  ## .venv with everything installed

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, and $(PYTHON) is not: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]' $(PIP_ARGS)
	@touch $@

demo: setup  ## from raw text to a registered model, in a few minutes
	$(BIN)/pipeline run --stage all --config configs/demo.yaml

test: setup lint types contracts  ## lint, types, import contracts and every test
	$(BIN)/pytest

lint: setup  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy, strict
	$(BIN)/mypy

contracts: setup  ## which package may import which
	$(BIN)/lint-imports

format: setup  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv and every cache; runs/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
