# CoDA Edge. `make demo` and `make test` do all their own set-up.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# pymilvus wants a protobuf that TensorFlow forbids.
MILVUS_VENV := .milvus-venv
MILVUS_EXTRAS := edge,cloud-serving,milvus,postgresql,s3,test
# Numeric libraries otherwise start one thread a core in each of the demo's many processes.
export OMP_NUM_THREADS ?= 2
export OPENBLAS_NUM_THREADS ?= 1
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Arguments for the program: make demo ARGS="--data ml-100k --devices 4"
ARGS ?=
# Processes that share the tests, a file at a time in the order of their names; 0 runs them in one, for a debugger.
WORKERS ?= 2

.PHONY: help setup demo test test-arm64 test-milvus lint format bench bundle report evaluate clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make the virtual environment; install Mosquitto where it is missing
	@scripts/require.sh mosquitto=mosquitto

$(READY): pyproject.toml scripts/make-venv.sh
	@PYTHON="$(PYTHON)" scripts/make-venv.sh $(VENV)
	@touch $@

demo: setup ## Run a whole round: Mosquitto with TLS, one cloud process, eight device processes
	@$(BIN)/coda demo $(ARGS)

test: setup ## Run every test
	@scripts/require.sh mcopy=mtools mkfs.vfat=dosfstools sfdisk=fdisk mke2fs=e2fsprogs || echo "coda: tests of coda flash are skipped"
	@command -v initdb /usr/lib/postgresql/*/bin/initdb >/dev/null || scripts/require.sh initdb=postgresql || echo "coda: tests over PostgreSQL are skipped"
	@scripts/require.sh systemd-analyze=systemd || echo "coda: tests of the service's unit are skipped"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-arm64: setup ## Run a device under QEMU: its round, and its life from a bundle alone (debootstrap, qemu-user-static)
	@$(BIN)/python -m tests.hardware.arm64_root .arm64
	@CODA_ARM64_ROOT=$(CURDIR)/.arm64 $(BIN)/python -m pytest tests/hardware/test_arm64.py tests/hardware/test_arm64_bundle.py

$(MILVUS_VENV)/.ready: pyproject.toml scripts/make-venv.sh
	@PYTHON="$(PYTHON)" scripts/make-venv.sh $(MILVUS_VENV) $(MILVUS_EXTRAS)
	@touch $@

test-milvus: $(MILVUS_VENV)/.ready ## Run what every engine promises with Milvus Lite, in a virtual environment of its own
	@$(MILVUS_VENV)/bin/python -m pytest tests/cloud_broker/test_vector_index.py -k Milvus -p no:cacheprovider $(ARGS)

lint: setup ## Check style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: setup ## Rewrite the code in the house's format
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: setup ## Run the benchmarks: ratios against named alternatives
	@$(BIN)/python -m pytest benchmarks -p no:cacheprovider --benchmark-only --benchmark-columns=min,median,max,rounds $(ARGS)

bundle: setup ## Build what a board installs as one file: make bundle BOARD=pi5|pi4|pizero2|pi3|orin
	@$(BIN)/coda bundle build --board "$(BOARD)" $(ARGS)

evaluate: setup ## Does it pay? Cloud, local-only and CoDA over many users
	@$(BIN)/coda evaluate run $(ARGS)

report: setup ## Write report.html again for the newest run
	@$(BIN)/coda report $(ARGS)

clean: ## Remove the virtual environment, caches and runs
	rm -rf $(VENV) $(MILVUS_VENV) .arm64 runs dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
