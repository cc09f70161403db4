# Works on a fresh machine that has make and Python 3.11 or newer with venv: the
# first target that needs it creates .venv and installs requirements.txt there.

PYTHON ?= python3
# Cores that this process may use, at most four.
WORKERS ?= $(shell $(PYTHON) -c 'import os; \
	f = getattr(os, "sched_getaffinity", None); \
	print(min(4, len(f(0)) if f else os.cpu_count() or 1))')
TEST_FLAGS ?=
DEMO_DIR ?= runs/demo
DEMO_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.hic-jax-installed
PARTIAL := $(VENV)/.hic-jax-partial
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check --no-input \
	install --quiet --no-deps --no-compile --no-build-isolation

# The install leaves byte-compiling to the first import, which is faster as only a
# part of what is installed is imported; so let that import keep what it compiles.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-oldest test-newest lint format notebooks clean

help: ## Show this help.
	@echo 'Targets:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' Makefile
	@echo 'Variables: PYTHON, WORKERS, TEST_FLAGS, DEMO_DIR, DEMO_FLAGS,'
	@echo "  as in: make demo DEMO_FLAGS='--help'"

install: $(STAMP) ## Create .venv and install everything (the others do it, too).
	@:

demo: $(STAMP) ## Run the demo; its results go to DEMO_DIR (runs/demo).
	$(BIN)/python -m experiments.demo --workdir='$(DEMO_DIR)' $(DEMO_FLAGS)

test: $(STAMP) ## Run the tests in WORKERS processes.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
		--no-loadscope-reorder $(TEST_FLAGS)

# Environments of their own: the oldest versions that pyproject.toml allows, and the
# newest that there are.
test-oldest: ## Run the tests with the oldest versions that are allowed.
test-newest: ## Run the tests with the newest versions that there are.
test-oldest test-newest: test-%: .venv-%/.hic-jax-installed
	.venv-$*/bin/python -m pytest -n $(WORKERS) --dist loadfile \
		--no-loadscope-reorder $(TEST_FLAGS)

.venv-%/.hic-jax-installed: pyproject.toml tests/oldest.py
	$(PYTHON) -m venv --clear .venv-$*
	if test $* = oldest; then $(PYTHON) tests/oldest.py; fi >.venv-$*/constraints.txt
	.venv-$*/bin/python -m pip --disable-pip-version-check --no-input install --quiet \
		-c .venv-$*/constraints.txt --editable '.[experiments,notebooks,dev]'
	@touch $@

lint: $(STAMP) ## Check style, formatting and types.
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(STAMP) ## Apply ruff's fixes and formatting.
	$(BIN)/python -m ruff check --fix-only .
	$(BIN)/python -m ruff format .

notebooks: $(STAMP) ## Write the .ipynb of every notebook; run those that changed.
	$(BIN)/python -m experiments.write_notebooks

clean: ## Remove caches and build output, but neither .venv nor runs/.
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . \( -path ./.git -o -path ./$(VENV) \) -prune -o \
		-type d -name __pycache__ -exec rm -rf {} +

# The stamp is written last, so a failed or killed install is done again. What such
# an install left may be broken, so then (the PARTIAL file is there) the environment
# is made anew; so is one that lacks pip or whose Python is missing or too old.
# setuptools comes first, as the two others build with it.
$(STAMP): requirements.txt pyproject.toml
	@test ! -e $(PARTIAL) && $(BIN)/python -c \
		'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
			echo "error: '$(PYTHON)' is no Python 3.11 or newer, which hic_jax" \
				"needs; name one: make PYTHON=/path/to/python3.11" >&2; \
			exit 1; }; \
		echo 'Creating $(VENV)'; \
		$(PYTHON) -m venv --clear $(VENV); }
	@touch $(PARTIAL)
	@echo 'Installing requirements.txt into $(VENV) (1.2 GB; takes a minute or more)'
	@$(PIP_INSTALL) "$$(grep '^setuptools==' requirements.txt)"
	@$(PIP_INSTALL) -r requirements.txt
	@$(PIP_INSTALL) --editable .
	@rm -f $(PARTIAL)
	@touch $@
