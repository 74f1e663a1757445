# Every target makes what it needs: none has to be run before another, and nothing is installed
# twice. `make VENV=/elsewhere PYTHON=python3.12 test` uses another place and another Python,
# CONSTRAINTS=constraints-oldest.txt the oldest NumPy and PyTorch, CONSTRAINTS= the newest packages.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ROOT_USER_ACTION := ignore

BIN := $(VENV)/bin
RUN := $(BIN)/python
PIP := $(RUN) -m pip install --quiet $(CONSTRAINTS:%=-c %)
# One process of tests on each core that the machine shows, or `make JOBS=1 test`. They share no
# files; what is slow to prepare is prepared in each that needs it.
JOBS ?= logical
TEST := $(RUN) -m pytest -n $(JOBS) --maxprocesses 8
# Nearly all that is checked, in less than half of the time; `slow-tests` has the rest.
QUICK := -m "not slow and not statistics and not frameworks" --hypothesis-profile quick
DEMO := $(VENV)/.demo-installed
DEPENDENCIES := $(VENV)/.dependencies-installed
FRAMEWORKS := $(VENV)/.frameworks-installed
ENGINES := $(VENV)/.engines-installed
PACKAGE := $(VENV)/.package-installed
# Folders too: their times tell that a file was removed.
SOURCES := $(shell find src -not -name '__pycache__' -not -name '*.pyc') README.md LICENSE hatch_build.py

.DEFAULT_GOAL := help
.NOTPARALLEL: # all install into one environment
.PHONY: help demo quick test slow-tests test-integrations test-engines test-page check lint types format docs bench dist clean
.DELETE_ON_ERROR:

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 24

demo: $(PACKAGE) ## compare methods with full training on real data, in about two minutes on two cores; prints where the results are
	$(BIN)/seta demo

quick: $(DEPENDENCIES) ## a first answer in a minute: engine, methods and PyTorch layer, from src/, without processes
	PYTHONPATH=$(CURDIR)/src $(TEST) --dist worksteal tests/engine tests/policies tests/torch \
		-m "not slow and not statistics and not processes" --hypothesis-profile quick

test: $(DEPENDENCIES) $(PACKAGE) ## the tests and doctests against the installed wheel, in some minutes; no frameworks
	@$(RUN) .ci/installed.py
	$(TEST) --dist worksteal --ignore=tests/integrations --ignore=tests/engines $(QUICK)

slow-tests: $(DEPENDENCIES) $(PACKAGE) ## what `make test` leaves out: slow tests, statistics, all examples of hypothesis
	@$(RUN) .ci/installed.py
	$(TEST) --dist worksteal --ignore=tests/integrations --ignore=tests/engines -m "slow or statistics or hypothesis"

test-integrations: $(FRAMEWORKS) $(PACKAGE) ## the tests of the frameworks and of their pages; installs every one first
	@$(RUN) .ci/installed.py
	$(TEST) --dist loadfile tests/integrations tests/engines tests/test_docs.py tests/test_troubleshooting.py -m frameworks

test-engines: $(ENGINES) $(PACKAGE) ## the tests of the engines that are heavy to install, and installs them; not part of `check`
	@$(RUN) .ci/installed.py
	$(TEST) --dist loadfile tests/engines

test-page: $(DEPENDENCIES) $(PACKAGE) ## the page of `seta inspect` and the site in a real browser; needs Chromium, or SETA_CHROMIUM=its path
	@command -v "$${SETA_CHROMIUM:-chromium}" >/dev/null || { echo "no Chromium: install one, or SETA_CHROMIUM=/path/to/it make test-page" >&2; exit 1; }
	@$(RUN) .ci/installed.py
	$(TEST) --dist loadfile tests/report/test_page_browser.py tests/test_site_browser.py

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

bench: $(DEPENDENCIES) $(PACKAGE) ## the benchmarks: a table, and JSON in benchmarks/results
	$(RUN) -m benchmarks

dist: $(DEPENDENCIES) ## build sdist and wheel into dist/, and check them as PyPI would; on a tag, the version too
	rm -rf dist
	@tag=$$(git describe --tags --exact-match --match 'v*' 2>/dev/null) || exit 0; \
		test "$$tag" = "v$$($(BIN)/hatchling version)" || { echo "$$tag is not the version in src/seta/__init__.py" >&2; exit 1; }
	$(PIP) twine
	$(RUN) -m build --no-isolation --outdir dist .
	$(BIN)/twine check --strict dist/*

clean: ## remove the environment and what was built
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# torch comes first and alone, in the version of CONSTRAINTS, so that no other package chooses it.
$(DEMO): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit("seta needs Python 3.10 or newer: make PYTHON=..." if sys.version_info < (3, 10) else 0)'
	@echo "==> making $(VENV) (a few minutes, once)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch hatchling
	$(PIP) --no-build-isolation '.[demo,inspect]'
	@touch $@

$(DEPENDENCIES): $(DEMO)
	@echo "==> installing what tests and checks need (a minute, once)"
	$(PIP) --no-build-isolation torch '.[dev]'
	@touch $@

$(FRAMEWORKS): $(DEPENDENCIES)
	@echo "==> installing the frameworks (minutes, once)"
	$(PIP) torch '.[integrations]' --no-build-isolation
	@touch $@

$(ENGINES): $(FRAMEWORKS)
	@echo "==> installing the engines (minutes, once)"
	$(PIP) torch '.[engines]' --no-build-isolation
	@touch $@

# The wheel itself is installed, never a link to src/: what is tested is what would be shipped.
$(PACKAGE): $(DEMO) $(SOURCES)
	@echo "==> building the wheel and installing it"
	@rm -rf $(VENV)/wheel
	$(RUN) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(VENV)/wheel .
	$(PIP) --no-deps --force-reinstall $(VENV)/wheel/*.whl
	@touch $@
