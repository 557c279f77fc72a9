# make            what there is
# make demo       three sites with real photos, a table of what browsers get; ONCE=1 ends after it
# make test       set-up, lint, types, tests on Django 5.2 and 4.2, the built wheel
#
# PYTHON=python3.12 picks another Python (3.11 or newer), PHOTOS=folder other photos for the demo.

PYTHON ?= python3
ONCE ?=
PHOTOS ?=

VENV := .venv
VENV42 := .venv-django42
BIN := $(VENV)/bin
SITES := example_sites

# Tests that share a server or a wheel stay in one process.
TOGETHER := -n 2 --dist loadgroup --max-worker-restart=0

# Programs from Debian packages: chromium for tests of the galleries, redis-server for those of the
# shared cache, nginx and varnishd for those behind a cache, wrk for benchmarks, a font for text,
# PostgreSQL for the server's keys. Without them these parts are left out, with a line that says so.
PROGRAMS := chromium nginx:nginx-light redis-server varnishd:varnish wrk \
	/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf:fonts-dejavu-core \
	pg_createcluster:postgresql

.DEFAULT_GOAL := help
.PHONY: help coverage fuzz pictures demo test lint types types42 tests tests42 soak schema bench clean programs
MAKEFLAGS += --no-print-directory

help:
	@echo "make demo    example sites with real photos (ONCE=1 ends after the table, PHOTOS=folder)"
	@echo "make test    lint, types and tests, on Django 5.2 and 4.2, and the built wheel"
	@echo "make lint    ruff and mypy"
	@echo "make coverage the tests again, and which lines they reach: 93 % at least"
	@echo "make bench   benchmarks, as ratios"
	@echo "make soak    half an hour of load on caches, engine and server"
	@echo "make fuzz    ten minutes of damaged files and random operations"
	@echo "make schema  five minutes of requests from the server's OpenAPI document"
	@echo "make pictures docs/operations.md with its example pictures"
	@echo "make clean   removes what the others made"

# The demo needs less than the tests do, so each has a stamp of its own.
$(VENV)/.demo: pyproject.toml scripts/install
	@scripts/install "$(PYTHON)" $(VENV) $@ -e ".[all]" --group demo "django==5.2.*"

$(VENV)/.dev: pyproject.toml scripts/install
	@scripts/install "$(PYTHON)" $(VENV) $@ -e ".[all]" --group dev "django==5.2.*"

$(VENV42)/.dev: pyproject.toml scripts/install
	@scripts/install "$(PYTHON)" $(VENV42) $@ -e ".[all]" --group dev "django==4.2.*"

programs:
	@scripts/programs $(PROGRAMS)
	@scripts/azurite build/azurite

demo: $(VENV)/.demo
	@$(BIN)/python -m $(SITES).demo $(if $(ONCE),--once) $(if $(PHOTOS),--photos "$(PHOTOS)")

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(MAKE) types

types: $(VENV)/.dev
	@$(BIN)/mypy

types42: $(VENV)/.dev $(VENV42)/.dev
	@$(BIN)/mypy --python-executable $(VENV42)/bin/python --cache-dir .mypy_cache/django42

# The Django tests on 4.2 come first, so that the last closing line is the whole suite's.
test: programs
	@$(MAKE) lint
	@$(MAKE) types42
	@$(MAKE) tests42
	@$(MAKE) tests

tests: $(VENV)/.dev
	@$(BIN)/python -m pytest $(TOGETHER)

# Counting lines takes a quarter of the time again, so it is no part of `make test`.
coverage: $(VENV)/.dev programs
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(TOGETHER)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

tests42: $(VENV42)/.dev
	@$(VENV42)/bin/python -c "import django; assert django.VERSION[:2] == (4, 2), django.VERSION"
	@$(VENV42)/bin/python -m pytest $(TOGETHER) -k "django and not (api or fault or failing)"

soak: $(VENV)/.dev
	@$(BIN)/python -m tests.soak.delivery --seconds 600
	@rm -rf build/killed && mkdir -p build
	@$(BIN)/python -m tests.soak.killing build/killed --kills 200
	@$(BIN)/python -m tests.soak.memory --images 5000
	@$(BIN)/python -m tests.soak.server --seconds 600

schema: $(VENV)/.dev
	@$(BIN)/python -m tests.soak.schema --seconds 300

fuzz: $(VENV)/.dev
	@$(BIN)/python -m tests.fuzz.engine --seconds 600

bench: $(VENV)/.dev programs
	@$(BIN)/python -m benchmarks

pictures: $(VENV)/.demo
	@$(BIN)/python -m $(SITES).operations --pictures

clean:
	@rm -rf $(VENV) $(VENV42) build dist htmlcov .coverage .coverage.* $(SITES)/var
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis
	@rm -f $(SITES)/photos/*.jpg
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
