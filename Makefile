# What a person types in a checkout. `make test` and `make demo` alone, on a fresh clone, do all the set-up.
# Only relative paths, so a checkout under a name with spaces works too.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

# Variables a person may set on the command line:
#   PYTHON       the interpreter that makes .venv (3.11 or newer)
#   PIP_ARGS     more arguments for pip install, such as --index-url URL or --find-links DIR
#   PYTEST_ARGS  more arguments for pytest, such as -k NAME -x
#   SECONDS      how long `make fuzz` tries each parser
#   FUZZ_ARGS    more arguments for tests/faults/fuzz.py, such as names of parsers: 'robots.txt' URL
PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
SECONDS ?= 10
FUZZ_ARGS ?=

VENV := .venv
STAMP := $(VENV)/.stamp
BENCHES := $(wildcard tests/bench/*/run)

.PHONY: help setup test test-fast test-faults fuzz lint bench clean distclean

help: ## List these targets.
	@printf 'make TARGET [PYTHON=python3.12] [PIP_ARGS=...] [PYTEST_ARGS=...]\n\n'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-12s %s\n", $$1, $$2 }'

setup: $(STAMP) ## Make .venv with gpt2 and all it needs (the other targets do this themselves).

# The stamp is made last: an installation that was cut short is simply done again.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	@command -v '$(PYTHON)' >/dev/null || { \
	  echo "make setup: there is no $(PYTHON) here; install Python 3.11 or newer, or name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make setup: $(PYTHON) is $$('$(PYTHON)' -V 2>&1), and gpt2 needs Python 3.11 or newer; name another: make setup PYTHON=python3.12" >&2; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make setup: $(PYTHON) comes without its venv module; install it first (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || '$(PYTHON)' -m venv --clear $(VENV)
	@echo "make setup: installing gpt2 and what it needs into $(VENV) (minutes, the first time)"
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[test,demo,plot]'
	@touch $@

test: $(STAMP) ## Run every test.
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

test-fast: $(STAMP) ## Run the tests that are not marked slow.
	$(VENV)/bin/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-faults: $(STAMP) ## Run the tests of faults whole: every failing call, 50 kills, ten minutes of soak.
	FAULTS=all $(VENV)/bin/python -m pytest -n 2 --dist worksteal tests/faults tests/cli/test_foreign_text_on_terminals.py $(PYTEST_ARGS)

fuzz: $(STAMP) ## Fuzz every parser for SECONDS each (default 10), guided by coverage where atheris is installed.
	$(VENV)/bin/python tests/faults/fuzz.py --seconds $(SECONDS) $(FUZZ_ARGS)

lint: $(STAMP) ## Check the code with ruff and mypy.
	$(VENV)/bin/python -m ruff check . bin/gpt2
	$(VENV)/bin/python -m mypy

bench: $(STAMP) ## Measure our speed beside a peer's; ratios, in one run.
	@[ -n '$(BENCHES)' ] || { echo 'make bench: there is no tests/bench/*/run in this checkout' >&2; exit 1; }
	@for bench in $(BENCHES); do echo "== $$bench"; PATH="$$PWD/$(VENV)/bin:$$PATH" "$$bench"; done

clean: ## Remove builds, caches and the demo's work; .venv and your runs stay.
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis fuzz-found demo/work
	find gpt2cli tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove .venv as well.
	rm -rf $(VENV)

# demo and ladder, when they are there.
-include demo/*.mk
