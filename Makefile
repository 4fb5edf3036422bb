# make demo | test | compat | lint | bazel | build-files | lock | lock-compat | clean
# (see CONTRIBUTING.md)

PYTHON ?= $(shell for p in python3.11 python3 python; do $$p -c '' 2>/dev/null && echo $$p && break; done)
WORKERS ?= 2
BIN := .venv/bin
COMPAT := .venv-compat/bin
PACKAGES := tools asr_qat export testdata
# A file's tests share its fixtures, so they stay in one process; long files (tools) come first.
SPREAD = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
EXTRAS := demo,dev
COMPAT_EXTRAS := compat,demo

SHELL := bash
.SHELLFLAGS := -o pipefail -c

.PHONY: demo test compat lint bazel build-files build-files-check lock lock-compat clean
.PHONY: require-python require-python-3.11
.DELETE_ON_ERROR:

demo: .venv/.installed
	@$(BIN)/asr-qat demo --out build/demo

test: .venv/.installed
	@echo "Running the tests with $(WORKERS) processes"
	@$(BIN)/pytest $(SPREAD) $(or $(TESTS),$(PACKAGES))

# The same tests on TensorFlow 2.16, NumPy 1, tensorflow-io and tflite-runtime, and those that need
# them. Without oneDNN: with it, TensorFlow 2.16.2 hangs or crashes in depthwise convolutions of
# 13 taps and more that XLA does not compile.
compat: .venv-compat/.installed .venv/.installed
	@echo "Running the tests on TensorFlow 2.16 with $(WORKERS) processes"
	@TF_ENABLE_ONEDNN_OPTS=0 ASR_QAT_OTHER_PYTHON=$(CURDIR)/$(BIN)/python \
	    $(COMPAT)/pytest $(SPREAD) $(or $(TESTS),$(PACKAGES))

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

# $(call install,environment,lock file,extras,target that renews the lock file)
define install
	@test -x $(1)/bin/python || { echo "Creating $(1) with $(PYTHON)"; $(PYTHON) -m venv $(1); }
	@echo "Installing $(2) into $(1) (3 GB; a few minutes)"
	@$(1)/bin/python -m pip -qq --disable-pip-version-check install -r $(2)
	@echo "Installing asr_qat into $(1) (editable)"
	@$(1)/bin/python -m pip -qq --disable-pip-version-check install --no-index --no-build-isolation \
	    -e '.[$(3)]' || { \
	    echo "setup.py asks for packages that $(2) lacks: run make $(4)" >&2; exit 1; }
	@touch $@
endef

.venv/.installed: requirements.lock setup.py
	@$(MAKE) --no-print-directory require-python
	$(call install,.venv,requirements.lock,$(EXTRAS),lock)

.venv-compat/.installed: requirements-compat.lock setup.py
	@$(MAKE) --no-print-directory require-python-3.11
	$(call install,.venv-compat,requirements-compat.lock,$(COMPAT_EXTRAS),lock-compat)

require-python:
	@test -n "$(PYTHON)" || { echo "asr_qat needs Python 3.11 or newer: found no Python." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "asr_qat needs Python 3.11 or newer; $(PYTHON) is not" \
	         "($$($(PYTHON) --version 2>&1)). Try: make PYTHON=/path/to/python3.11" >&2; exit 1; }

# tflite-runtime has no wheels for later ones.
require-python-3.11: require-python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	    echo "the compatibility environment needs Python 3.11; $(PYTHON) is" \
	         "$$($(PYTHON) --version). Try: make PYTHON=/path/to/python3.11" >&2; exit 1; }

# $(call lock,lock file,extras,this target,target that tests it)
define lock
	@echo "Resolving '.[$(2)]' (wheels are downloaded, nothing is installed)"
	@rm -rf build/lock && mkdir -p build && $(PYTHON) -m venv build/lock
	@touch $(1)
	@build/lock/bin/python -m pip -qq install --dry-run --ignore-installed \
	    $(if $(UPGRADE),,-c $(1)) --report build/lock/report.json setuptools wheel '.[$(2)]'
	@build/lock/bin/python .ci/write_lock.py build/lock/report.json $(1) '$(2)' $(3) $(4)
endef

# Keep the present pins where they still fit; `make lock UPGRADE=1` takes the newest of everything.
lock: require-python
	$(call lock,requirements.lock,$(EXTRAS),lock,test)

lock-compat: require-python-3.11
	$(call lock,requirements-compat.lock,$(COMPAT_EXTRAS),lock-compat,compat)

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@echo "Kept .venv and .venv-compat; remove them with: rm -rf .venv .venv-compat"
