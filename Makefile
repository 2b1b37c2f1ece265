# Each target does all of its own set-up in .venv; a second call finds it done.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.collm-setup

# The CPU build of torch, unless an NVIDIA GPU answers; name another with e.g. `make setup TORCH='torch==2.12.0'`.
TORCH ?= $(shell if nvidia-smi >/dev/null 2>&1; then echo 'torch>=2.10,<2.14'; else echo 'torch==2.13.0'; fi)
SEED ?= 0
DEMO_ARGS ?=
PYTEST_ARGS ?= -n 2 --dist worksteal

# Set on some machines: every process then compiles torch and transformers anew, 20 seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test quick exhaustive lint style types suite format

setup: $(STAMP)

# torch goes first: the second install then finds it and does not fetch a build for another accelerator. Without
# --no-compile most of the time would go into byte-compiling files that are never imported.
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-compile '$(TORCH)'
	$(BIN)/python -m pip install --no-compile -e '.[dev]'
	@touch $@

# Trains the built-in tiny team on StrBuild into runs/demo, or runs/demo-2, ... where that is taken.
demo: setup
	@dir=runs/demo; n=2; while [ -e "$$dir" ]; do dir="runs/demo-$$n"; n=$$((n + 1)); done; \
	$(BIN)/collm train strbuild --method collm-cc --run-dir "$$dir" --seed $(SEED) $(DEMO_ARGS)

lint: style types

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# A minute on one core, which is why `make test` runs it beside the tests.
types: setup
	$(BIN)/pyright

test: style
	$(MAKE) --no-print-directory -j2 types suite

suite: setup
	$(BIN)/python -m pytest -q -m 'not exhaustive' $(PYTEST_ARGS)

# What `make test` leaves out: more combinations of what it tests.
exhaustive: setup
	$(BIN)/python -m pytest -q -m exhaustive $(PYTEST_ARGS)

# The tests that take no more than a few seconds each.
quick: setup
	$(BIN)/python -m pytest -q -m 'not slow and not exhaustive' $(PYTEST_ARGS)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
