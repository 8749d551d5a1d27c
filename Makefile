# Two commands do everything: `make demo` shows the main job, `make test` proves the project. `make help` lists the rest.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.14 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
SOURCES := authsec_sdk icp_server icp_agent icp_common demo
CODE := $(SOURCES) tests bench examples tools
WORKERS ?= auto
FUZZ_EXAMPLES ?= 5000
# What the users' lock is for: both daemons, the command line, and the two integrations that the demo runs on.
USERS_EXTRAS := --extra agent --extra cli --extra httpx --extra server --extra uvicorn

CONTRACT := tests/sdk/integrations -k "test_client_contract or test_server_contract or test_rotation_under_load"

.DEFAULT_GOAL := help
.PHONY: help setup dev demo test check format lint types imports unit soak fuzz interop test-integrations proto bench lock docs clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  %-17s %s\n", $$1, $$2}'

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "authsec: no Python from 3.11 to 3.14 found; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "authsec: $(PYTHON) has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@touch $@

# The developers' lock holds everything the users' lock does at the same versions, so an environment made for `make test` serves `make demo` too.
$(VENV)/.users: $(VENV)/.made requirements.txt pyproject.toml
	@test -f $(VENV)/.developers || $(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(VENV)/.developers: $(VENV)/.made requirements-dev.txt pyproject.toml
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@ $(VENV)/.users

setup: $(VENV)/.users ## Make .venv with icp-server, icp-agent and authsec in its bin
	@echo "ready: $(BIN)/icp-server, $(BIN)/icp-agent, $(BIN)/authsec"

dev: $(VENV)/.developers ## Make .venv with the developers' tools as well

demo: $(VENV)/.users ## Server, agent and two workloads in mutual TLS, identities rotating live
	@$(BIN)/python -m demo $(DEMO_ARGS)

test: $(VENV)/.developers check unit ## Everything: format, lint, types, import contracts, tests

check: lint types imports ## Format, lint, types and import contracts, without tests

lint: $(VENV)/.developers
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .

types: $(VENV)/.developers
	$(BIN)/mypy

imports: $(VENV)/.developers
	$(BIN)/lint-imports --no-cache

unit: $(VENV)/.developers
	@$(BIN)/python -m tools.system_packages
	@$(BIN)/python -m tools.ensure_go
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow" $(PYTEST_ARGS)

soak: $(VENV)/.developers ## The slow tests: long rotations, restarts under load
	$(BIN)/python -m pytest -n $(WORKERS) -m slow $(PYTEST_ARGS)

fuzz: $(VENV)/.developers ## Every property test of parsers and rules with many examples (FUZZ_EXAMPLES=5000)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest -n $(WORKERS) --timeout=3600 $(PYTEST_ARGS)

interop: $(VENV)/.developers ## The matrix against upstream (SPIRE_SERVER_BIN, SPIRE_AGENT_BIN), printed as a table
	@$(BIN)/python -m tools.ensure_go
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -q tests/interop/matrix $(PYTEST_ARGS)

test-integrations: $(VENV)/.developers ## The contract of each integration, printed as a table framework × row
	@$(BIN)/python -m tools.system_packages
	@$(BIN)/python -m tools.contract_page
	CONTRACT_TABLE=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -q $(CONTRACT) $(PYTEST_ARGS)

format: $(VENV)/.developers ## Rewrite the code in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: $(VENV)/.developers ## Generate the protobuf code again, bit by bit the same
	$(BIN)/python -m authsec_sdk.proto.generate

bench: $(VENV)/.developers ## Every number the README states, measured again
	$(BIN)/python -m bench

docs: $(VENV)/.developers ## Build the documentation into .cache/site, strictly, and run its code
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup tests/docs $(PYTEST_ARGS)
	@echo "read it: $(BIN)/python -m http.server --directory .cache/site"

lock: $(VENV)/.made ## Resolve the locks again
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --custom-compile-command "make lock" requirements-uv.in -o requirements-uv.txt
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --custom-compile-command "make lock" requirements-go.in -o requirements-go.txt
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --custom-compile-command "make lock" $(USERS_EXTRAS) pyproject.toml -o requirements.txt
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --custom-compile-command "make lock" --all-extras --group dev -c requirements.txt pyproject.toml -o requirements-dev.txt

clean: ## Remove what the other targets made
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
