# The first call of any target sets up what it needs in .venv; pinned versions stand in constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo proto test surges crash crash-jobs explore clients client-environments kafka check format lint types layers bench-% clean

help:  ## This list.
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

demo: .venv/.demo  ## Real flights: features, a model on them, April as it happened (ONCE=1: end after it; SPEED=40000).
	$(BIN)/python -m examples.flights.demo $(if $(ONCE),--once) $(if $(SPEED),--speed $(SPEED))

# Many tests wait for processes, so there are more of them at once than cores; those that wait come first. Tests that
# measure latency (marked `alone`) come by themselves. Pytest ends with 5 where there is no test of the one kind.
WAITING := tests/integration/ tests/clients/
TOGETHER := --numprocesses 3 --dist loadfile --no-loadscope-reorder
test: .venv/.dev  ## All tests (TESTS=tests/unit: a part).
	$(BIN)/python -m pytest -m 'not alone' $(TOGETHER) $(or $(TESTS),$(WAITING) $(filter-out $(WAITING),$(wildcard tests/*/))) || [ $$? -eq 5 ]
	$(BIN)/python -m pytest -m alone $(or $(TESTS),$(WAITING)) || [ $$? -eq 5 ]

surges: .venv/.dev  ## Thousands of surges in virtual time (long).
	SURGES=$(or $(SURGES),200) $(BIN)/python -m pytest tests/simulation

crash: .venv/.dev  ## Stream workers are killed at random (long; CRASHES=200), and a ledger proves the output.
	CRASHES=$(or $(CRASHES),200) $(BIN)/python -m pytest tests/integration/test_stream_crashes.py

crash-jobs: .venv/.dev  ## Servers that have jobs are killed at random and at every step (long; CRASHES=100).
	CRASHES=$(or $(CRASHES),100) $(BIN)/python -m pytest tests/integration/test_job_kills.py tests/integration/test_job_crashes.py

explore: .venv/.dev  ## Hypothesis looks for new counterexamples (long).
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest $(or $(TESTS),tests/unit tests/property)

clients: client-environments  ## Real clients' tests (Triton's, KServe's, MLflow's), which `test` skips without .clients.
	TESTS_REQUIRE_CLIENTS=1 $(BIN)/python -m pytest tests/clients

client-environments: .venv/.dev  ## Sets the clients up in .clients, each in an environment of its own.
	$(BIN)/python tests/clients/make_environments.py

kafka: .venv/bin/python  ## A Kafka on this machine until Ctrl-C (NODES=3, PORT=9092); needs Java 17 and Maven.
	$(BIN)/python -m deploy.kafka --nodes $(or $(NODES),1) --port $(or $(PORT),0)

check: format lint types layers test  ## What has to pass: format, lint, types, layers, tidy and all tests.

format: .venv/.dev  ## Fails where a file is not formatted.
	$(BIN)/ruff format --check --quiet .

lint: .venv/.dev
	$(BIN)/ruff check --quiet .

types: .venv/.dev
	$(BIN)/mypy

layers: .venv/.dev
	$(BIN)/lint-imports

GRPC := src/penstock/serving/protocols/grpc
proto: .venv/.dev  ## Makes gRPC's descriptors from inference.proto.
	$(BIN)/python -m grpc_tools.protoc -I $(GRPC) --descriptor_set_out $(GRPC)/inference.binpb inference.proto

bench-%: .venv/.dev  ## A benchmark, e.g. bench-serving (ARGS="--quick --json FILE").
	$(BIN)/python -m benchmarks.$* $(ARGS)

clean:  ## Removes what the targets made, but not .penstock, where models are.
	rm -rf .venv .clients .kafka .bench .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python found; install Python 3.11 or set PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is too old; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv

.venv/.demo: .venv/bin/python pyproject.toml constraints.txt
	@echo "setting up .venv (once) ..." >&2
	$(PIP) --editable '.[demo]'
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	@echo "setting up .venv (once) ..." >&2
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/.demo
