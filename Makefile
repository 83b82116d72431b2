# `make demo`, `make check` and `make test`.  All set up .venv from constraints.txt if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: demo demo-mobilefsgan check test test-long lint clean tables pages constraints

demo: $(INSTALLED)
	$(BIN)/mfs-export --checkpoint demo --source demo --out bundles/demo
	$(BIN)/python -m benchmarks.demo_clip --bundle bundles/demo --out bundles/demo-clip.mp4

# No weights of MobileFSGAN are published: seeded random ones show every step of the way, and noise where a face would be.
demo-mobilefsgan: $(INSTALLED)
	$(BIN)/python -m testing.standin_mobilefsgan bundles/mobilefsgan-checkpoint
	$(BIN)/mfs-export --arch mobilefsgan --checkpoint bundles/mobilefsgan-checkpoint --source demo --out bundles/mobilefsgan

# Under a minute: style, types, which place imports which, and one photo all the way to a bundle that matches PyTorch.
check: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/test_layers.py tests/test_tiny.py

# One thread each: two processes of two threads on two cores hinder each other, some tests by thirty times.  Files start in the
# order of tests/conftest.py, the longest first; xdist's own order has files of few tests last, and those are the longest.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -n 2 --dist loadfile --no-loadscope-reorder -m 'not long'

# What converts, emulates or starts clusters for minutes.
test-long: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -m long

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Writes benchmarks/results/*.json, and the tables and pictures in the READMEs that come from them.
tables: $(INSTALLED)
	$(BIN)/python -m benchmarks.parity
	$(BIN)/python -m benchmarks.architectures
	$(BIN)/python -m benchmarks.recipes
	$(BIN)/python -m benchmarks.stamping
	$(BIN)/python -m benchmarks.demo_model
	$(BIN)/mfs arm64 setup
	$(BIN)/python -m benchmarks.arm64
	$(BIN)/python -m benchmarks.peers.measure

# The same tables and pictures from the results that are there, without measuring.
pages: $(INSTALLED)
	$(BIN)/python -m benchmarks.remake

# Newer versions, to be looked at (git diff), tested (make test, make test-long) and, where a runtime changed, measured (make tables).
constraints:
	$(PYTHON) -m venv --clear build/constraints
	build/constraints/bin/python -m pip install --quiet --disable-pip-version-check '.[dev,tensorflow]'
	build/constraints/bin/python -m pip check
	build/constraints/bin/python -m pip freeze --all --exclude pip --exclude mfs-deploy > build/constraints.freeze
	{ sed -n '/^#/p' constraints.txt; sed -E '/^(nvidia|cuda|triton)/d; s/\+(cpu|cu[0-9]+)$$//' build/constraints.freeze; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -r build/constraints build/constraints.freeze

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip check
	@touch $@

clean:
	rm -rf $(VENV) bundles build
