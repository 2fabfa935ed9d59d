# Needs Python 3.11 or newer with venv, git and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
# Quiet, but for the names of the packages as they come.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --progress-bar off
NAMES := | sed -un 's/^Collecting/  collecting/p'
SOURCES := $(shell find emu vmcs -type f -not -name '*.pyc')
WORKERS ?= 2
MUTATIONS ?= 10000000
INSTRUCTION_CASES ?= 3000000

.PHONY: help demo test conformance bench lint notebooks clean

help:
	@echo "make demo         install, then a tour of the main job"
	@echo "make test         the whole test suite, a few minutes"
	@echo "make conformance  every recorded verdict, and ten million mutated states"
	@echo "make bench        speed of the batch kernels and of the judge"
	@echo "make lint         style and types"
	@echo "make notebooks    run the notebooks"
	@echo "make clean        remove what these made"

# What the command needs: enough for `make demo`. An editable installation has it already.
$(VENV)/installed: pyproject.toml $(SOURCES)
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing nestling into $(VENV), which takes a minute the first time"
	@test -e $(VENV)/ready || { rm -rf build; $(PIP) . $(NAMES); }
	@touch $@

# What the tests need; nestling itself is taken from the source tree.
$(VENV)/ready: pyproject.toml
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing what the tests need into $(VENV), which takes a minute the first time"
	@$(PIP) --editable '.[test]' $(NAMES)
	@touch $@ $(VENV)/installed

demo: $(VENV)/installed
	@$(BIN)/nestling demo

test: $(VENV)/ready
	$(BIN)/python -m pytest -n $(WORKERS) -m "not conformance"

conformance: $(VENV)/ready
	$(BIN)/nestling conform tests/data/real-kernel-verdicts/*.json.gz
	MUTATIONS=$(MUTATIONS) INSTRUCTION_CASES=$(INSTRUCTION_CASES) \
	  $(BIN)/python -m pytest -s -m conformance tests/conformance

bench: $(VENV)/ready
	$(BIN)/python -m bench

lint: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

notebooks: $(VENV)/ready
	$(BIN)/python -m pytest tests/notebooks

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find emu vmcs tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
