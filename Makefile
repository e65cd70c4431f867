# All set-up is in .venv, made on first use: of requirements/, where each package has its version and
# its hashes. After that nothing here needs the network, until those files change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCKED := install --require-hashes --requirement
OURS := install --no-index --no-build-isolation --no-deps --editable .
CORE := python/swiftnets/_core.abi3.so
BENCH := .venv-bench/bin
SECONDS ?= 60
OPENBLAS = $(shell $(BIN)/python -c 'from importlib.util import find_spec; \
  print(find_spec("scipy_openblas32").submodule_search_locations[0])')

.DELETE_ON_ERROR:
.PHONY: help demo test parallel stress sanitize fuzz swift wheel reproduce lock bench format lint docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/demo-stamp $(CORE) ## Verify and train both nets on the embedded sample, and draw the curves
	$(BIN)/python -m swiftnets.originals.demo

test: $(VENV)/test-stamp $(CORE) ## Run all tests, Swift's and Python's
	SWIFTNETS_OPENBLAS="$(OPENBLAS)" swift test
	$(BIN)/python -m pytest

# Tests that raise signals, patch modules or count threads are not among these.
parallel: $(VENV)/test-stamp $(CORE) ## Run tests of the native side, each in four threads at once
	$(BIN)/python -m pytest --parallel-threads=4 --iterations=1 \
	  Tests/_support/test_buffers.py Tests/_support/test_locks.py Tests/test_slow_net.py \
	  Tests/test_fast_net.py Tests/solve/test_factorizations.py Tests/nets/test_network.py \
	  Tests/nets/test_network_edges.py Tests/nets/test_loss_factor.py \
	  Tests/curvature/test_points.py Tests/curvature/test_taylor_structure.py \
	  Tests/linalg/test_krylov.py Tests/linalg/test_lanczos.py Tests/optimizers/test_first_order.py

stress: $(VENV)/test-stamp $(CORE) ## Run the long forms of the stress tests, ten minutes each
	$(BIN)/python Tests/stress/forks.py --seconds 600
	$(BIN)/python Tests/stress/forks.py --seconds 600 --busy 6
	$(BIN)/python Tests/stress/threads.py --seconds 600
	$(BIN)/python Tests/stress/kills.py --seconds 600

sanitize: $(VENV)/test-stamp $(CORE) ## Run the tests under sanitizers; FORM=--short for some of them
	$(BIN)/python Tests/sanitize.py $(FORM)

fuzz: $(VENV)/test-stamp $(CORE) ## Fuzz the C interface and what reads files: SECONDS=60 a target
	$(BIN)/python Tests/fuzz/run.py --seconds $(SECONDS)

swift: $(VENV)/build-stamp ## Build the Swift package alone
	SWIFTNETS_OPENBLAS="$(OPENBLAS)" swift build

wheel: $(VENV)/test-stamp $(CORE) ## Make a manylinux wheel in dist/ and audit it
	rm -rf dist build/lib.* build/bdist.* build/wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel
	umask 022 && PATH="$(CURDIR)/$(BIN):$$PATH" SOURCE_DATE_EPOCH=315532800 \
	  auditwheel repair --wheel-dir dist build/wheel/*.whl
	$(BIN)/auditwheel show dist/*.whl
	$(BIN)/abi3audit --strict --report dist/*.whl

reproduce: $(VENV)/test-stamp ## Build the wheel in two folders, some minutes, and compare the bytes
	rm -rf build/one build/another
	for folder in build/one build/another; do \
	  mkdir -p $$folder && git ls-files -z | xargs -0 cp --parents -t $$folder && \
	  (cd $$folder && $(CURDIR)/$(BIN)/python -m build --wheel --no-isolation) || exit 1; \
	done
	cmp build/one/dist/*.whl build/another/dist/*.whl

# Versions stay that pyproject.toml still allows; for the newest ones, remove the files first.
UV = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-annotate --custom-compile-command 'make lock' --output-file requirements
lock: ## Choose versions and hashes of all packages again, into requirements/
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --disable-pip-version-check uv==0.13.9
	$(PYTHON) -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb")); \
	  print(*project["build-system"]["requires"], sep="\n")' | $(UV)/build.txt -
	$(UV)/test.txt --constraint requirements/build.txt --extra test pyproject.toml
	$(UV)/demo.txt --constraint requirements/test.txt --extra plot --extra progress pyproject.toml
	$(UV)/docs.txt --constraint requirements/test.txt --extra docs pyproject.toml

bench: $(BENCH)/stamp $(CORE) ## Compare with NumPy, SciPy, JAX, PyTorch: an hour; FORM=--quick some minutes
	$(BENCH)/python benchmarks/run.py $(or $(FORM),--print)

format: $(VENV)/test-stamp ## Format all sources
	swift format --in-place --recursive Package.swift Sources Tests
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lint: $(VENV)/test-stamp ## Check format, style, docstrings, types, sizes and the direction of imports
	swift format lint --strict --recursive Package.swift Sources Tests
	$(BIN)/python tools/check_sizes.py
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=python $(BIN)/lint-imports --no-logo

docs: $(VENV)/docs-stamp $(CORE) ## Build the site into build/docs; a warning is an error
	rm -rf build/docs docs/api/generated
	$(BIN)/python -m sphinx --fail-on-warning --quiet --jobs auto docs build/docs

clean: ## Remove what was built; .venv stays
	rm -rf build .build dist python/*.egg-info python/swiftnets/*.so docs/api/generated docs/notebooks
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	  "swiftnets needs Python 3.11 or later, and $(PYTHON) is " + sys.version.split()[0] + \
	  ": name another one, as in make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/build-stamp: requirements/build.txt | $(BIN)/python
	$(PIP) $(LOCKED) requirements/build.txt
	touch $@

# Folders are among the prerequisites: a source that was removed counts as a change.
$(CORE): $(VENV)/build-stamp setup.py Package.swift $(shell find Sources python/core)
	$(BIN)/python setup.py build_ext --inplace
	touch $@

# Built first, outside pip: its messages are then seen, and pip finds little left to do.
$(VENV)/demo-stamp: pyproject.toml requirements/demo.txt | $(CORE)
	$(PIP) $(LOCKED) requirements/demo.txt
	$(PIP) $(OURS)
	touch $@

$(VENV)/test-stamp: pyproject.toml requirements/test.txt | $(CORE)
	$(PIP) $(LOCKED) requirements/test.txt
	$(PIP) $(OURS)
	# For the tests that compare with it; where its build without CUDA cannot be had they are skipped.
	-$(PIP) install 'torch==2.13.0+cpu'
	touch $@ $(VENV)/demo-stamp

$(VENV)/docs-stamp: requirements/docs.txt | $(CORE)
	$(PIP) $(LOCKED) requirements/docs.txt
	touch $@

$(BENCH)/stamp: pyproject.toml benchmarks/requirements.txt $(VENV)/build-stamp | $(CORE)
	$(BIN)/python -m venv .venv-bench
	$(BENCH)/python -m pip $(LOCKED) requirements/build.txt
	$(BENCH)/python -m pip install --requirement benchmarks/requirements.txt
	$(BENCH)/python -m pip install --no-build-isolation --editable .
	touch $@
