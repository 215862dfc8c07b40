# One command for each thing a contributor does; `make` lists them. CI runs `make test`, nothing else.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
DAYS ?= 7
WORKERS ?= 2

# Tests of these folders all want Spark; to read them takes seconds.
PURE := -m "not spark and not slow" --ignore tests/scenarios --ignore tests/property --ignore tests/spark --ignore tests/quality --ignore tests/store --ignore tests/folds --ignore tests/events

.PHONY: help setup services demo demo-bank demo-kafka demo-rabbitmq check test ahead test-fast bench fire lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv and .jars, or see that they are there (needs Python 3.11+, Java 17+)
	@scripts/bootstrap.sh

services: setup ## Fetch the brokers that tests start on loopback: Kafka as pinned jars, RabbitMQ from Debian
	@$(BIN)/python -m tests.services.kafka
	@scripts/rabbitmq.sh >/dev/null

demo: setup ## Run the flights of DAYS days (default 7) through a live stream and a backfill beside it
	@$(BIN)/python -m jobs.demo --days $(DAYS)

demo-bank: setup ## The bank: commands to events under kills, transfers as a saga, a wrong fee rule mended and replayed (FILES=24, BROKER=kafka)
	@$(BIN)/python -m jobs.demo_bank $(if $(filter command line environment,$(origin FILES)),--files $(FILES)) $(if $(BROKER),--broker $(BROKER))

demo-kafka: setup ## The same through a Kafka broker that it starts and stops: DAYS days (default 3)
	@$(BIN)/python -m jobs.demo_kafka $(if $(filter command line environment,$(origin DAYS)),--days $(DAYS))

demo-rabbitmq: setup ## The same through a RabbitMQ that it starts and stops: DAYS days (default 3)
	@$(BIN)/python -m jobs.demo_rabbitmq $(if $(filter command line environment,$(origin DAYS)),--days $(DAYS))

check: setup ## Everything that needs no test run: lint, format, types, layers, house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/house_rules.py

test: ahead check ## All checks and all tests, the pure ones first (FULL=1: the long profile too, hours; WORKERS=2 at a time)
	$(BIN)/python -m pytest -q -n $(WORKERS) $(PURE)
	TIDEMILL_PROFILE=$(if $(FULL),nightly,ci) $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --durations=15 -m "(spark or slow)$(if $(FULL),, and not nightly)"

# What tests would otherwise stop for, up to a minute each. Whoever needs one that is not there yet waits for it, or says why not.
ahead: setup
	@( $(BIN)/python -m tests.services.kafka; scripts/rabbitmq.sh; \
	$(BIN)/python -c 'from tidemill.testing.classes import archive; archive()' ) </dev/null >/dev/null 2>&1 &

test-fast: setup ## The pure tests: seconds, no JVM
	$(BIN)/python -m pytest $(PURE)

bench: setup ## Run the benchmarks; results go to bench/results
	$(BIN)/python -m bench

fire: setup ## The fault matrix: kills, races, full disks, mutants (FULL=1: three seeds at length, hours; writes the results)
	@$(BIN)/python -m bench.fire $(if $(FULL),--full)

# Pins stay unless they must move. To move them: make lock LOCK_FLAGS=--upgrade
# No index address goes into the files, so that they hold for any mirror; the hashes say what is the same.
LOCK := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links
lock: setup ## Remake requirements/*.lock from pyproject.toml with the locked uv
	@$(LOCK) $(LOCK_FLAGS) --all-extras pyproject.toml --output-file requirements/dev.lock >/dev/null
	@echo 'setuptools>=77' | $(LOCK) $(LOCK_FLAGS) - --output-file requirements/build.lock >/dev/null

clean: ## Remove what setup, tests and the demo made; tables under data/ go too
	rm -rf .venv .jars .bootstrap.lock data build dist spark-warehouse metastore_db derby.log
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
