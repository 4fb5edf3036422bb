# make demo | test | lint | bazel | build-files | lock | clean   (see CONTRIBUTING.md)

PYTHON ?= $(shell for p in python3.11 python3 python; do $$p -c '' 2>/dev/null && echo $$p && break; done)
WORKERS ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

SHELL := bash
.SHELLFLAGS := -o pipefail -c

.PHONY: demo test lint bazel build-files build-files-check lock clean require-python
.DELETE_ON_ERROR:

demo: .venv/.installed
	@$(BIN)/asr-qat demo --out build/demo

test: .venv/.installed
	@echo "Running the tests with $(WORKERS) processes"
	@$(BIN)/pytest -n $(WORKERS) $(or $(TESTS),asr_qat export tools testdata)

# mypy wants folders as they install, with export/ and tools/ inside asr_qat/: links in build/types.
lint: .venv/.installed
	@echo "Checking style (ruff)"
	@$(BIN)/ruff check -q
	@$(BIN)/ruff format -q --check || { echo "run $(BIN)/ruff format" >&2; exit 1; }
	@echo "Checking the BUILD files"
	@$(BIN)/python .ci/make_build_files.py --check
	@echo "Checking types (mypy)"
	@rm -rf build/types && mkdir -p build/types/asr_qat
	@ln -s $(CURDIR)/asr_qat/* $(CURDIR)/export $(CURDIR)/tools build/types/asr_qat/
	@cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml \
	    --cache-dir ../../.mypy_cache -p asr_qat | sed -E 's,^asr_qat/(export|tools)/,\1/,'

bazel: .venv/.installed build-files-check
	@echo "Building every target with Bazel"
	@.ci/bazel build $(BAZEL_FLAGS) //...
	@echo "Running the tests that need no TensorFlow with Bazel"
	@.ci/bazel test $(BAZEL_FLAGS) --test_tag_filters=-tensorflow --build_tests_only //...

build-files-check: .venv/.installed
	@$(BIN)/python .ci/make_build_files.py --check

build-files: .venv/.installed
	@$(BIN)/python .ci/make_build_files.py

.venv/.installed: requirements.lock setup.py
	@$(MAKE) --no-print-directory require-python
	@test -x $(BIN)/python || { echo "Creating .venv with $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@echo "Installing requirements.lock into .venv (3 GB; a few minutes)"
	@$(PIP) install -r requirements.lock
	@echo "Installing asr_qat into .venv (editable)"
	@$(PIP) install --no-index --no-build-isolation -e '.[demo,dev]' || { \
	    echo "setup.py asks for packages that requirements.lock lacks: run make lock" >&2; exit 1; }
	@touch $@

require-python:
	@test -n "$(PYTHON)" || { echo "asr_qat needs Python 3.11 or newer: found no Python." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "asr_qat needs Python 3.11 or newer; $(PYTHON) is not" \
	         "($$($(PYTHON) --version 2>&1)). Try: make PYTHON=/path/to/python3.11" >&2; exit 1; }

# Keeps the present pins where they still fit; `make lock UPGRADE=1` takes the newest of everything.
lock: require-python
	@echo "Resolving '.[demo,dev]' (wheels are downloaded, nothing is installed)"
	@rm -rf build/lock && mkdir -p build && $(PYTHON) -m venv build/lock
	@touch requirements.lock
	@build/lock/bin/python -m pip -qq install --dry-run --ignore-installed \
	    $(if $(UPGRADE),,-c requirements.lock) --report build/lock/report.json setuptools wheel '.[demo,dev]'
	@build/lock/bin/python .ci/write_lock.py build/lock/report.json requirements.lock

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@echo "Kept .venv; remove it with: rm -rf .venv"
