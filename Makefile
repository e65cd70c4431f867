# All set-up is in .venv, made on first use. After that nothing here needs the network, until
# pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CORE := python/swiftnets/_core.abi3.so
BENCH := .venv-bench/bin
SECONDS ?= 60
OPENBLAS = $(shell $(BIN)/python -c 'from importlib.util import find_spec; \
  print(find_spec("scipy_openblas32").submodule_search_locations[0])')

.DELETE_ON_ERROR:
.PHONY: help demo test stress fuzz swift wheel bench format lint clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/demo-stamp $(CORE) ## Verify and train both nets on the embedded sample, and draw the curves
	$(BIN)/python -m swiftnets.demo

test: $(VENV)/test-stamp $(CORE) ## Run all tests, Swift's and Python's
	SWIFTNETS_OPENBLAS="$(OPENBLAS)" swift test
	$(BIN)/python -m pytest

stress: $(VENV)/test-stamp $(CORE) ## Run the long forms of the stress tests, ten minutes each
	$(BIN)/python Tests/stress/forks.py --seconds 600
	$(BIN)/python Tests/stress/threads.py --seconds 600

fuzz: $(VENV)/test-stamp $(CORE) ## Fuzz the C interface and what reads files: SECONDS=60 a target
	$(BIN)/python Tests/fuzz/run.py --seconds $(SECONDS)

swift: $(VENV)/build-stamp ## Build the Swift package alone
	SWIFTNETS_OPENBLAS="$(OPENBLAS)" swift build

wheel: $(VENV)/test-stamp $(CORE) ## Make a manylinux wheel in dist/ and audit it
	rm -rf dist build/lib.* build/bdist.* build/wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel
	PATH="$(CURDIR)/$(BIN):$$PATH" auditwheel repair --wheel-dir dist build/wheel/*.whl
	$(BIN)/auditwheel show dist/*.whl
	$(BIN)/abi3audit --strict --report dist/*.whl

bench: $(BENCH)/stamp $(CORE) ## Compare speeds side by side with NumPy, JAX and PyTorch
	$(BENCH)/python benchmarks/slow_net.py
	$(BENCH)/python benchmarks/fast_net.py

format: $(VENV)/test-stamp ## Format all sources
	swift format --in-place --recursive Package.swift Sources Tests
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lint: $(VENV)/test-stamp ## Check format, style and types
	swift format lint --strict --recursive Package.swift Sources Tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean: ## Remove what was built; .venv stays
	rm -rf build .build dist python/*.egg-info python/swiftnets/*.so
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	  "swiftnets needs Python 3.11 or later, and $(PYTHON) is " + sys.version.split()[0] + \
	  ": name another one, as in make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/build-stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb")); \
	  print(*project["build-system"]["requires"], sep="\n")' > $(VENV)/build-requires.txt
	$(PIP) install --requirement $(VENV)/build-requires.txt
	touch $@

# Folders are among the prerequisites: a source that was removed counts as a change.
$(CORE): $(VENV)/build-stamp setup.py Package.swift $(shell find Sources python/core)
	$(BIN)/python setup.py build_ext --inplace
	touch $@

# Built first, outside pip: its messages are then seen, and pip finds little left to do.
$(VENV)/demo-stamp: pyproject.toml | $(CORE)
	$(PIP) install --no-build-isolation --editable '.[plot,progress]'
	touch $@

$(VENV)/test-stamp: pyproject.toml | $(CORE)
	$(PIP) install --no-build-isolation --editable '.[test]'
	# For the tests that compare with it; where its build without CUDA cannot be had they are skipped.
	-$(PIP) install 'torch==2.13.0+cpu'
	touch $@ $(VENV)/demo-stamp

$(BENCH)/stamp: pyproject.toml benchmarks/requirements.txt $(VENV)/build-stamp | $(CORE)
	$(BIN)/python -m venv .venv-bench
	$(BENCH)/python -m pip install --requirement $(VENV)/build-requires.txt
	$(BENCH)/python -m pip install --requirement benchmarks/requirements.txt
	$(BENCH)/python -m pip install --no-build-isolation --editable .
	touch $@
