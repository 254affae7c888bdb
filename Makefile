# Thin: each target sets up what it needs. MTKD_PYTHON is the Python that makes .venv.
STUDY ?= quick
CORES ?= 2
KILLS ?= 50
CHAOS ?= /tmp/mtkd-chaos
MTKD_PYTHON ?= python3.11
LOWEST ?= tests/unit tests/integration/stages
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder
export PATH := $(CURDIR)/$(BIN):$(PATH)
export UV_SYSTEM_CERTS := 1
NEW_ENOUGH := import sys; sys.exit("mtkd needs Python 3.11.5 or later, and $(MTKD_PYTHON) is " + sys.version.split()[0] \
  + ": name another, as in make MTKD_PYTHON=/opt/python/bin/python3.11" if sys.version_info < (3, 11, 5) else 0)
# Two at once: the second waits for the first's .venv. (.venv/.lock is uv's own.)
LOCKED := import fcntl, os, subprocess, sys; os.makedirs(".venv", exist_ok=True); lock = open(".venv/.setup.lock", "w"); \
  fcntl.flock(lock, fcntl.LOCK_EX); sys.exit(subprocess.call(sys.argv[1:]))

.PHONY: setup study test quicktest lowest bench chaos lab docs clean

setup:
	@$(MAKE) --silent --question .venv/.ready 2> /dev/null || $(MTKD_PYTHON) -c '$(LOCKED)' $(MAKE) --no-print-directory .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@$(MTKD_PYTHON) -c '$(NEW_ENOUGH)'
	$(MTKD_PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[test]'
	touch $@

study: setup
	$(BIN)/mtkd run $(STUDY) -c $(CORES)

test: setup
	$(PYTEST)

quicktest: setup
	$(PYTEST) -m "not slow"

# The lowest versions that pyproject.toml allows, in an environment of their own; LOWEST=tests for every test.
# The index's torch of that age comes with CUDA, 3 GB of downloads: TORCH=tested takes that of constraints.txt.
lowest: LOW := .venv-lowest/bin
lowest:
	@$(MTKD_PYTHON) -c '$(NEW_ENOUGH)'
	$(MTKD_PYTHON) -m venv .venv-lowest
	$(LOW)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(if $(TORCH),torch) uv
	$(LOW)/uv pip install --quiet --compile-bytecode --python $(LOW)/python --resolution lowest-direct -e '.[test]'
	OMP_NUM_THREADS=1 $(LOW)/python -m pytest -n $(CORES) --dist loadfile -W ignore -m "not slow" $(LOWEST)

# Nothing else should run meanwhile; BENCH='--help' lists the sizes.
bench: setup
	$(BIN)/python benchmarks/bench.py $(BENCH)

chaos: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/slow/chaos.py --kills $(KILLS) --folder $(CHAOS)

lab: setup
	$(BIN)/mtkd lab -- $(LAB)

docs: setup
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv artifacts .snakemake
