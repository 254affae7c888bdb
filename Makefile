# Thin: each target sets up what it needs. MTKD_PYTHON is the Python to make .venv with, LAB further options of JupyterLab.
STUDY ?= quick
CORES ?= 2
NOTEBOOKS ?= notebooks
MTKD_PYTHON ?= python3.11
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup study test lab clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(MTKD_PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

study: setup
	$(BIN)/mtkd run $(STUDY) -c $(CORES)

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist loadfile

lab: setup
	$(BIN)/jupyter lab $(LAB) $(NOTEBOOKS)

clean:
	rm -rf .venv artifacts .snakemake
