# Everything runs from .venv, made from the hash-locked requirements on first use.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
ARGS ?=
# Test processes; a file's tests stay together, so that what they share is made once, and in order: the long ones are not the last.
WORKERS ?= logical
SIDE_BY_SIDE = -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder
KEEP ?=

.DEFAULT_GOAL := help
.PHONY: help demo test fault check bench bench-audit bench-policy bench-policy-review bench-search bench-usage bench-postgres bench-contribute bench-quotas proto opa foreign lock wheel-test format clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 21

$(VENV)/.ready: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(VENV) (once, about a minute) ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

demo: $(VENV)/.ready ## Run the whole story in a fresh temporary deployment (KEEP=1 leaves it running)
	@$(BIN)/gateway demo $(if $(KEEP),--keep) $(ARGS)

test: $(VENV)/.ready ## Run all tests, those against a clock last and alone (ARGS=tests/unit chooses some; WORKERS=0 takes one process)
ifeq ($(strip $(ARGS)),)
	@$(BIN)/pytest -q $(SIDE_BY_SIDE) -m "not timed"
	@$(BIN)/pytest -q -m timed
else
	@$(BIN)/pytest -q $(SIDE_BY_SIDE) $(ARGS)
endif

# What make test runs briefly: crashes, broken disks, altered evidence.
FAULT_TESTS := tests/fault tests/unit/audit/test_faults.py tests/unit/audit/test_service.py \
	tests/behaviour/test_log_faults.py tests/behaviour/test_rewriting.py tests/integration/test_witness_process.py tests/integration/postgres/test_faults.py \
	tests/property/test_witness_texts.py tests/property/test_altered_tiles.py tests/property/test_audit_tree.py \
	tests/behaviour/test_contributions.py tests/behaviour/test_broken_uploads.py

fault: $(VENV)/.ready ## Run the fault tests in earnest, for half an hour or so (SLUICEGATE_FAULT_SCALE=0.1 for a tenth)
	@SLUICEGATE_FAULT_SCALE=$${SLUICEGATE_FAULT_SCALE:-1} \
		$(BIN)/pytest -q $(SIDE_BY_SIDE) --timeout 7200 $(FAULT_TESTS) $(ARGS)

check: $(VENV)/.ready ## Format, lint, types, architecture, proto lint and freshness
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache
	@VENV=$(VENV) sh proto/lint.sh
	@VENV=$(VENV) sh proto/fresh.sh
	@echo "check: clean"

bench: $(VENV)/.ready ## Measure the gateway against a bare relay (ARGS=--json for one JSON object)
	@$(BIN)/python -m tests.bench $(ARGS)

bench-audit: $(VENV)/.ready ## Measure the audit log, with the disk's flush time (ARGS=--json for one JSON object)
	@$(BIN)/python -m tests.bench.audit $(ARGS)

bench-policy: $(VENV)/.ready ## Measure decisions and the loading of a bundle (ARGS=--json for one JSON object)
	@$(BIN)/python -m tests.bench.policy $(ARGS)

bench-search: $(VENV)/.ready ## Measure searches, proofs and opening on a log of 10 million entries (ARGS="--entries 100000")
	@$(BIN)/python -m tests.bench.search $(ARGS)

bench-usage: $(VENV)/.ready ## Measure a contributor's statement over a million exchanges (ARGS="--exchanges 100000")
	@$(BIN)/python -m tests.bench.usage $(ARGS)

bench-quotas: $(VENV)/.ready ## Measure what counting on a contract's quotas costs (ARGS="--postgres --json")
	@$(BIN)/python -m tests.bench.quotas $(ARGS)

bench-postgres: $(VENV)/.ready ## Measure appends to a real PostgreSQL from one and two nodes (ARGS=--json)
	@$(BIN)/python -m tests.bench.postgres $(ARGS)

bench-policy-review: $(VENV)/.ready ## Measure the access matrix and replaying the log (ARGS=--json for one JSON object)
	@$(BIN)/python -m tests.bench.policy_review $(ARGS)

bench-contribute: $(VENV)/.ready ## Measure uploads with all checks, over real gRPC (ARGS="--records 100000 --json")
	@$(BIN)/python -m tests.bench.contribute $(ARGS)

proto: $(VENV)/.ready ## Make gateway/api from proto/
	@VENV=$(VENV) sh proto/generate.sh

opa: $(VENV)/.ready ## Install a real OPA server into .tools/bin through the Go module proxy
	@$(BIN)/python deploy/opa/install.py

foreign: $(VENV)/.ready ## Build the foreign programs that tests use (tests/foreign) into .tools/bin through the Go module proxy
	@$(BIN)/python tests/foreign/install.py

lock: $(VENV)/.ready ## Resolve dependencies anew and write the hash-locked requirement files
	@$(PYTHON) -m venv .tools/uv && .tools/uv/bin/pip install --quiet uv
	@.tools/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header pyproject.toml --extra parquet -o requirements.txt
	@.tools/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header pyproject.toml --extra parquet --group dev -o requirements-dev.txt

wheel-test: $(VENV)/.ready ## Build the wheel and run the smoke tests against it, without the source tree
	@VENV=$(VENV) sh tests/wheel.sh

format: $(VENV)/.ready ## Format the code
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix .

clean: ## Remove what make has made
	rm -rf $(VENV) .tools dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis
