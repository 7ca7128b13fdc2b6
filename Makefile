# SPDX-License-Identifier: Apache-2.0
# Every target first does what it needs, says what it does, and skips what is already done.
#   PYTHON=python3.12   interpreter of the environment (else the first of 3.10 to 3.13 that is found)
#   TORCH_INDEX=URL     package index for PyTorch, e.g. https://download.pytorch.org/whl/cpu
#   BAG=PATH            a bag, file or folder of yours for `make demo`
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help install demo test check test-all docs bench native sanitize soak fuzz msgs ws clean

VENV := .venv
BIN := $(VENV)/bin
ROS := $(or $(ROS_DISTRO),wheels)
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
# Set by the ROS wheels inside their own processes; inherited, it would name another environment.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
ifeq ($(ROS),wheels)
WHEEL_PREFIX := AMENT_PREFIX_PATH=$(CURDIR)/$(VENV) CMAKE_PREFIX_PATH=$(CURDIR)/$(VENV)
else
export LD_LIBRARY_PATH := $(CURDIR)/$(VENV)/lib:$(LD_LIBRARY_PATH)
endif

help: ## this list (default)
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 18

install: $(VENV)/.messages $(VENV)/.engine ## the environment .venv with everything in it; `demo` and `test` call this

demo: install ## student, teacher and their comparison on a simulated drive, or BAG=your.mcap
	$(BIN)/pointdistill demo --teacher teacher $(if $(BAG),--input "$(BAG)")

test: install ## all fast tests; those that open DDS participants run one after another
	$(BIN)/python -m pytest -n 2 -m "not ros and not slow"
	$(BIN)/python -m pytest -m "ros and not slow"

check: install ## formatting, lint, types, who imports whom, then the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

test-all: install ## all tests, those that take minutes included
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -n 2 -m "not ros"
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -m "ros"

docs: install ## the site, into build/site; pages and pictures that are written by programs first
	$(BIN)/python -m tools.docs.figures
	$(BIN)/python -m tools.docs.interfaces
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: install ## how long the parts take here, and how real the simulation is (needs real scans)
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python -m benchmarks.$$(basename $$file .py) || [ $$? -eq 2 ]; done

soak: install ## the node under 120 000 points at 10 Hz for SOAK_MINUTES (30): memory, latency, counters
	$(BIN)/python -m tools.soak --minutes $(or $(SOAK_MINUTES),30) --json build/soak.json

native: install ## compile the CPU engine again (part of `install`; does nothing when it is up to date)

sanitize: install ## the CPU engine's tests under AddressSanitizer and UBSan
	@tools/sanitize.sh $(VENV)

fuzz: install ## everything that reads files and messages, coverage-guided; FUZZ_RUNS=N in all (10 million)
	@tools/fuzz.sh $(VENV)

msgs: install ## build msg/ into .venv (part of `install`; does nothing when they are up to date)
	@tools/build_messages.sh $(VENV)

ws: install ## colcon build of the ROS package into build/ws, with the sourced ROS or the wheels
	@$(BIN)/python -c 'import colcon_core' 2>/dev/null || $(PIP) colcon-common-extensions==0.3.0
	@mkdir -p build/ws/src && ln -sfn $(CURDIR) build/ws/src/pointdistill_ros
	cd build/ws && $(WHEEL_PREFIX) $(CURDIR)/$(BIN)/python -m colcon build --base-paths src --cmake-args \
	  -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python -DBUILD_TESTING=OFF

clean: ## remove everything that was made here, .venv included
	rm -rf $(VENV) build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# The steps of `install`, each with a stamp.
$(VENV)/.made-for-$(ROS): | tools/make_venv.sh
	@tools/make_venv.sh $(VENV) $(ROS) $(PYTHON)

$(VENV)/.torch: requirements/core.txt | $(VENV)/.made-for-$(ROS)
	@echo "install: PyTorch $(if $(TORCH_INDEX),from $(TORCH_INDEX),(no GPU? TORCH_INDEX=https://download.pytorch.org/whl/cpu is much smaller))"
	@$(PIP) $$(grep ^torch== requirements/core.txt) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@touch $@

$(VENV)/.requirements: requirements/core.txt requirements/dev.txt requirements/ros-kilted.txt $(VENV)/.torch
ifeq ($(ROS),wheels)
	@echo "install: libraries, ROS 2 Kilted, tools (pinned in requirements/)"
	@$(PIP) -r requirements/core.txt -r requirements/dev.txt -r requirements/ros-kilted.txt
else
	@echo "install: libraries and tools; numpy stays the one that ROS $(ROS) was built with"
	@$(PIP) --constraint <($(BIN)/python -c 'import numpy; print(f"numpy=={numpy.__version__}")') -e '.[dev]'
endif
	@touch $@

$(VENV)/.package: setup.py pyproject.toml $(VENV)/.requirements
	@echo "install: this package, editable"
	@$(PIP) --no-deps -e .
	@touch $@

$(VENV)/.messages: $(wildcard msg/*.msg) CMakeLists.txt package.xml tools/build_messages.sh $(VENV)/.package
	@tools/build_messages.sh $(VENV)
	@touch $@

$(VENV)/.engine: $(wildcard $(foreach room,native native/training,pointdistill_ros/engine/$(room)/*.cpp pointdistill_ros/engine/$(room)/*.h)) pointdistill_ros/engine/build.py $(VENV)/.messages
	@echo "install: the CPU engine (C++)"
	@$(BIN)/python pointdistill_ros/engine/build.py
	@touch $@
	@echo "install: done; commands are in $(BIN), e.g. $(BIN)/pointdistill --help"
