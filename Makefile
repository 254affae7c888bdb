# Thin: each target sets up what it needs. MTKD_PYTHON is the Python to make .venv with, LAB further options of JupyterLab.
STUDY ?= quick
CORES ?= 2
KILLS ?= 50
CHAOS ?= /tmp/mtkd-chaos
NOTEBOOKS ?= notebooks
MTKD_PYTHON ?= python3.11
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup study test bench chaos lab clean

# Two at once: the second waits for the first's .venv.
LOCKED := import fcntl, os, subprocess, sys; os.makedirs(".venv", exist_ok=True); lock = open(".venv/.lock", "w"); \
  fcntl.flock(lock, fcntl.LOCK_EX); sys.exit(subprocess.call(sys.argv[1:]))

setup:
	@$(MAKE) --silent --question .venv/.ready 2> /dev/null || $(MTKD_PYTHON) -c '$(LOCKED)' $(MAKE) --no-print-directory .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(MTKD_PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

study: setup
	$(BIN)/mtkd run $(STUDY) -c $(CORES)

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist loadfile

# Nothing else should run meanwhile. BENCH='--gpu' on a GPU; BENCH='--help' lists the sizes.
bench: setup
	$(BIN)/python benchmarks/bench.py $(BENCH)

chaos: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/chaos.py --kills $(KILLS) --folder $(CHAOS)

lab: setup
	$(BIN)/jupyter lab $(LAB) $(NOTEBOOKS)

clean:
	rm -rf .venv artifacts .snakemake
