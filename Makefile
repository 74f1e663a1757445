# Every target makes what it needs: none has to be run before another, and nothing is installed
# twice. `make VENV=/elsewhere PYTHON=python3.12 test` uses another place and another Python.
PYTHON ?= python3
VENV ?= .venv

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ROOT_USER_ACTION := ignore

BIN := $(VENV)/bin
RUN := $(BIN)/python
PIP := $(RUN) -m pip install --quiet -c constraints.txt
# One process of tests on each core that the machine shows, or `make JOBS=1 test`. They share no
# files; what is slow to prepare is prepared in each that needs it.
JOBS ?= logical
TEST := $(RUN) -m pytest -n $(JOBS) --maxprocesses 8
# Nearly all that is checked, in less than half of the time; `slow-tests` has the rest.
QUICK := -m "not slow and not statistics and not frameworks" --hypothesis-profile quick
DEPENDENCIES := $(VENV)/.dependencies-installed
FRAMEWORKS := $(VENV)/.frameworks-installed
PACKAGE := $(VENV)/.package-installed
# Folders too: their times tell that a file was removed.
SOURCES := $(shell find src -not -name '__pycache__' -not -name '*.pyc') README.md LICENSE

.DEFAULT_GOAL := help
.PHONY: help demo quick test slow-tests test-integrations test-page check lint types format docs bench clean
.DELETE_ON_ERROR:

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 24

demo: $(PACKAGE) ## compare methods with full training on real data, in about two minutes on two cores; prints where the results are
	$(BIN)/seta demo

quick: $(DEPENDENCIES) ## a first answer in two minutes: engine, methods and PyTorch layer, from src/, without processes
	PYTHONPATH=$(CURDIR)/src $(TEST) --dist worksteal tests/engine tests/policies tests/torch \
		-m "not slow and not statistics and not processes" --hypothesis-profile quick

test: $(PACKAGE) ## the tests and doctests against the installed wheel, in some minutes; no frameworks
	@$(RUN) .ci/installed.py
	$(TEST) --dist worksteal --ignore=tests/integrations $(QUICK)

slow-tests: $(PACKAGE) ## what `make test` leaves out: slow tests, statistics, all examples of hypothesis
	@$(RUN) .ci/installed.py
	$(TEST) --dist worksteal --ignore=tests/integrations -m "slow or statistics or hypothesis"

test-integrations: $(FRAMEWORKS) $(PACKAGE) ## the tests of the frameworks and of their pages; installs every one first
	@$(RUN) .ci/installed.py
	$(TEST) --dist loadfile tests/integrations tests/test_docs.py tests/test_troubleshooting.py -m frameworks

test-page: $(PACKAGE) ## the page of `seta inspect` in a real browser; needs Chromium, or SETA_CHROMIUM=its path
	@command -v "$${SETA_CHROMIUM:-chromium}" >/dev/null || { echo "no Chromium: install one, or SETA_CHROMIUM=/path/to/it make test-page" >&2; exit 1; }
	@$(RUN) .ci/installed.py
	$(TEST) --dist loadfile tests/report/test_page_browser.py

check: lint types test slow-tests test-integrations ## all of it: lint, format, strict types, all tests

lint: $(DEPENDENCIES) ## lint and format, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(FRAMEWORKS) ## strict types
	$(BIN)/mypy

format: $(DEPENDENCIES) ## apply the format and the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DEPENDENCIES) ## build the site into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=src $(BIN)/mkdocs build --clean

bench: $(PACKAGE) ## the benchmarks: a table, and JSON in benchmarks/results
	$(RUN) -m benchmarks

clean: ## remove the environment and what was built
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# torch comes first and alone, in the version of constraints.txt, so that no other package chooses it.
$(DEPENDENCIES): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("seta needs Python 3.10 or newer: make PYTHON=..." if sys.version_info < (3, 10) else 0)'
	@echo "==> making $(VENV) (a few minutes, once)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch hatchling
	$(PIP) --no-build-isolation '.[dev]'
	@touch $@

$(FRAMEWORKS): $(DEPENDENCIES)
	@echo "==> installing the frameworks (minutes, once)"
	$(PIP) torch '.[integrations]' --no-build-isolation
	@touch $@

# The wheel itself is installed, never a link to src/: what is tested is what would be shipped.
$(PACKAGE): $(DEPENDENCIES) $(SOURCES)
	@echo "==> building the wheel and installing it"
	@rm -rf $(VENV)/wheel
	$(RUN) -m build --wheel --no-isolation --outdir $(VENV)/wheel . >$(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }
	$(PIP) --no-deps --force-reinstall $(VENV)/wheel/*.whl
	@touch $@
