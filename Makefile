# Every target sets up what it needs in .venv; `make demo` needs nothing but Python.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
# `make test` fails below this percentage of branches and lines.
COVERAGE ?= 90

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: help demo test coverage lint types docs bench guard system clean

help:
	@echo "make demo | test | lint | types | docs | bench | guard | clean"

demo: $(VENV)/.runtime
	$(BIN)/python manage.py migrate --verbosity 0
	$(BIN)/python manage.py runserver $(HOST):$(PORT)

# Hundreds of processes import the same modules, so these are compiled only once.
test: $(VENV)/.dev system
	$(BIN)/coverage erase
	PYTHONDONTWRITEBYTECODE= $(BIN)/coverage run -m pytest -n 3 --dist loadfile --no-loadscope-reorder
	@$(MAKE) --no-print-directory coverage

coverage:
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=$(COVERAGE)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -q -W -n docs docs/_build/html

# With its peers, in an environment of their own.
bench: .venv-bench/.done system
	.venv-bench/bin/python -m tests.benchmarks --rounds 3 --seconds 0.5 --publish docs/performance

# Fails when our share of a raw application's speed has fallen.
guard: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.guard

# Programs that pip can't bring. Tests that need a missing one are skipped, with CI set they fail.
system:
	@missing=""; \
	command -v redis-server >/dev/null || missing="redis-server"; \
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
	    || command -v google-chrome >/dev/null || missing="$$missing chromium fonts-dejavu-core"; \
	command -v openssl >/dev/null || missing="$$missing openssl"; \
	PATH="$$PATH:/usr/sbin:/sbin"; \
	command -v nginx >/dev/null || missing="$$missing nginx-light"; \
	command -v ip >/dev/null || missing="$$missing iproute2"; \
	PATH="$$PATH:$$(echo /usr/lib/postgresql/*/bin | tr ' ' :)"; \
	command -v initdb >/dev/null || missing="$$missing postgresql"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    echo "Installing $$missing"; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    install="apt-get install -y -qq --no-install-recommends"; \
	    apt-get update -qq; \
	    case "$$missing" in *postgresql*) \
	        : the tests have clusters of their own, so that of the system is not made; \
	        $$install postgresql-common >/dev/null; \
	        echo "create_main_cluster = false" >> /etc/postgresql-common/createcluster.conf;; \
	    esac; \
	    $$install $$missing >/dev/null; \
	else \
	    echo "Missing: $$missing (on Debian: apt-get install $$missing)"; \
	    test -z "$$CI"; \
	fi

clean:
	rm -rf $(VENV) .venv-* .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
	    .pytest_cache .ruff_cache build dist docs/_build htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    || { echo "Python 3.11 or newer is needed: make PYTHON=python3.13 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "$(PYTHON) has no venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
# Dependency groups need pip 25.1.
	$(PIP) install --upgrade "pip>=25.1"
	@touch $@

.venv-bench/.done: pyproject.toml tests/benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip --disable-pip-version-check -q install --upgrade "pip>=25.1"
	.venv-bench/bin/python -m pip --disable-pip-version-check -q install -e . \
	    -r tests/benchmarks/requirements.txt
	@touch $@

$(VENV)/.runtime: $(VENV)/.pip pyproject.toml
	$(PIP) install -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.pip pyproject.toml
	$(PIP) install -e . --group dev
	@touch $@ $(VENV)/.runtime
