# daicho: `make demo` shows the whole way, `make test` proves it. Both make .venv from the lock file first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps
# uv takes a tenth of pip's time. It does not read pip's configuration (a proxy, a house's own index): where it fails, pip tries.
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --compile-bytecode

.PHONY: docs faults help setup setup-dev setup-flows demo test test-fast check format lint types imports lock samples servers bench

help:
	@echo "make demo    scans to sealed, searchable records, then the web page"
	@echo "make test    all tests; says what this machine made it leave out"
	@echo "make setup   .venv alone     make check   format, lint, types, imports, tests     make bench   measures"

# A stamp holds the digest of the lock, so that a changed lock is installed and an unchanged one is not.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 以上が必要です / Python 3.11 or newer is needed: make PYTHON=python3.11 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "venv を作れません。Debian では apt install python3-venv / cannot make a venv; on Debian: apt install python3-venv"; exit 1; }

$(BIN)/uv: requirements-uv.lock | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements-uv.lock
	@touch $@

$(VENV)/run.stamp: requirements.lock pyproject.toml $(BIN)/uv
	$(INSTALL) -r requirements.lock || $(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/flows.stamp: requirements-flows.lock $(VENV)/run.stamp
	$(INSTALL) -r requirements-flows.lock || $(PIP) --require-hashes -r requirements-flows.lock
	@touch $@

# The lock of the tests holds the flows' packages too.
$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	$(INSTALL) -r requirements-dev.lock || $(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

setup: $(VENV)/run.stamp

setup-flows: $(VENV)/flows.stamp

setup-dev: $(VENV)/dev.stamp

demo: setup
	$(BIN)/daicho demo $(DEMO)

# A file of tests at a time in each of two to five processes, one more than there are cores, since many tests wait. Each has servers of its own.
WORKERS := $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 4 ? cores + 1 : 5)))
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: setup-dev
	$(PYTEST) $(TESTS)

test-fast: setup-dev
	$(PYTEST) -m "not slow" $(TESTS)

check: lint types imports test

format: setup-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Generated sections of docs/: commands, errors, ports.
docs: setup-dev
	$(BIN)/python tests/docs/doc_sections.py
	$(BIN)/python -m search.folding

lint: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup-dev
	$(BIN)/mypy

imports: setup-dev
	$(BIN)/lint-imports

# Every fault of docs/reliability.md, on all cores, for hours; `make test` runs a sample.
faults: setup-dev
	DAICHO_KILLS=50 DAICHO_FAULTS=8 DAICHO_ORDERS=300 $(BIN)/python -m pytest -n $(WORKERS) --dist load -rP tests/faults tests/pipelines/test_kill.py tests/records/test_crash.py

# Builds what the tests' servers need (MinIO, versitygw, Elasticsearch), and rocfl, a judge of OCFL, outside the checkout, where it is missing.
servers: setup-dev
	$(BIN)/python -m tests.servers.build

bench: setup-dev
	$(BIN)/python -m bench all --json

samples: setup-dev
	$(BIN)/python -m samples.generate --forms --out samples/batch

# The wheel of rapidocr asks for a second OpenCV that would overwrite ours: requirements-override.txt leaves it out.
LOCK := $(BIN)/uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header --override requirements-override.txt
lock: setup-dev
	$(LOCK) requirements-uv.in -o requirements-uv.lock
	$(LOCK) requirements.in -o requirements.lock
	$(LOCK) requirements-flows.in -c requirements.lock -o requirements-flows.lock
	$(LOCK) requirements-dev.in -c requirements-flows.lock -o requirements-dev.lock
