# `make hello` and `make test` do all set-up themselves: they make .venv, install the package into it
# with the versions of constraints.txt, and run. The set-up is repeated only when pyproject.toml or
# constraints.txt changes, and the kernels are compiled again when their sources or setup.py change.

# The interpreter that .venv is made with, 3.10 or newer. Unset, the first that fits is taken.
PYTHON ?=
# Arguments of the tests, e.g. `make test PYTEST_FLAGS="-x tests/bases"`; as it is, one process for every core.
PYTEST_FLAGS ?= -n auto
BENCH_FLAGS ?=
# What is tested without the kernels as well: the tests of the code that calls them.
WITHOUT_KERNELS ?= tests/kernels tests/layers tests/drop_in tests/network tests/training

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
KERNELS := $(VENV)/.kernels
DOCS_INSTALLED := $(VENV)/.installed-docs
BENCH_INSTALLED := $(VENV)/.installed-benchmarks
VENV_LOWEST := build/lowest
LOWEST_INSTALLED := $(VENV_LOWEST)/.installed

CANDIDATES := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python3.10 python)
PIP_INSTALL := $(VENV_PYTHON) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help hello test test-fast test-lowest test-torch slow-tests sanitize lint bench bench-layers bench-minibatch bench-kernels bench-restarts bench-initialisation bench-interface bench-training bench-refinement bench-entropy bench-physics bench-units bench-checkpoints bench-durability bench-formulas bench-edges bench-auto-symbolic bench-pruning bench-discovery bench-discovery-limits bench-verdict-traps docs clean

help:
	@echo "make hello   run hellokan.ipynb, print its losses and its formula; notebook and figures in build/hello"
	@echo "make test    lint, type check and test"
	@echo "make test-fast  the tests that take at most a second each (CONTRIBUTING.md)"
	@echo "make test-torch  the tests of what the compiled kernels do, without them (KAN_KERNELS=0)"
	@echo "make sanitize  tests of the kernels under the address and undefined-behaviour sanitizers (CONTRIBUTING.md)"
	@echo "make test-lowest  all tests with the lowest versions that pyproject.toml promises"
	@echo "make slow-tests  time the tests one after another and rewrite tests/slow.txt, which make test-fast leaves out"
	@echo "make lint    lint and type check only"
	@echo "make bench   time the hello story (benchmarks/hellokan.py)"
	@echo "make bench-kernels  training with the compiled kernels beside the same by torch (benchmarks/kernels.py)"
	@echo "make bench-minibatch  one epoch of mini-batches, beside perceptrons of torch and scikit-learn (benchmarks/minibatch.py)"
	@echo "make bench-layers  time the layers beside other libraries' (benchmarks/layers.py)"
	@echo "make bench-initialisation  compare the schemes of initial weights (benchmarks/initialisation.py)"
	@echo "make bench-interface  time what one does with a KAN beside pykan (benchmarks/interface.py)"
	@echo "make bench-training  how training converges, beside pykan (benchmarks/training.py)"
	@echo "make bench-refinement  fit, refine, fit again beside fit(grids=...) (benchmarks/refinement.py)"
	@echo "make bench-restarts  many networks at once beside one after another (benchmarks/restarts.py)"
	@echo "make bench-entropy  good minima with a strong entropy penalty, beside pykan (benchmarks/entropy.py)"
	@echo "make bench-physics  laws of physics learned from derivatives, beside pykan (benchmarks/physics.py)"
	@echo "make bench-units  whether a fit is as good in any units (benchmarks/units.py)"
	@echo "make bench-checkpoints  exchange checkpoints with pykan both ways (benchmarks/checkpoints.py)"
	@echo "make bench-durability  checkpoints under kills, full disks and hostile files (benchmarks/durability.py)"
	@echo "make bench-formulas  how far formulas are from their networks (benchmarks/formulas.py)"
	@echo "make bench-edges  which function a curve is: how often right, how fast (benchmarks/edges.py)"
	@echo "make bench-auto-symbolic  how fast auto_symbolic is, and whether it finds the law (benchmarks/auto_symbolic.py)"
	@echo "make bench-pruning  what pruning costs, with and without thresholds (benchmarks/pruning.py)"
	@echo "make bench-discovery  how often the law is found, beside other libraries (benchmarks/discovery.py)"
	@echo "make bench-discovery-limits  whether the search for a law keeps its time and memory (benchmarks/discovery_limits.py)"
	@echo "make bench-verdict-traps  whether kan.discover calls exact what is not (benchmarks/verdict_traps.py)"
	@echo "make docs    build the documentation into build/docs"
	@echo "make clean   remove build/, caches and .venv"
	@echo "PYTHON=...   the interpreter to make .venv with (3.10 or newer)"

hello: $(KERNELS)
	$(VENV_PYTHON) scripts/run_notebook.py hellokan.ipynb build/hello

lint: $(INSTALLED)
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m mypy

test: lint $(KERNELS)
	$(VENV_PYTHON) -m pytest $(PYTEST_FLAGS)

test-fast: $(KERNELS)
	$(VENV_PYTHON) -m pytest $(PYTEST_FLAGS) -m "not slow" tests

test-torch: $(KERNELS)
	KAN_KERNELS=0 $(VENV_PYTHON) -m pytest $(PYTEST_FLAGS) $(WITHOUT_KERNELS)

sanitize: $(INSTALLED)
	$(VENV_PYTHON) scripts/sanitize.py

slow-tests: $(KERNELS)
	$(VENV_PYTHON) scripts/slow_tests.py

test-lowest: $(LOWEST_INSTALLED) $(KERNELS)
	$(VENV_LOWEST)/bin/python -m pytest $(PYTEST_FLAGS)

bench: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/hellokan.py $(BENCH_FLAGS)

bench-layers: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/layers.py $(BENCH_FLAGS)

bench-kernels: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/kernels.py $(BENCH_FLAGS)

bench-minibatch: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/minibatch.py $(BENCH_FLAGS)

bench-initialisation: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/initialisation.py $(BENCH_FLAGS)

bench-interface: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/interface.py $(BENCH_FLAGS)

bench-training: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/training.py $(BENCH_FLAGS)

bench-refinement: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/refinement.py $(BENCH_FLAGS)

bench-restarts: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/restarts.py $(BENCH_FLAGS)

bench-entropy: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/entropy.py $(BENCH_FLAGS)

bench-physics: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/physics.py $(BENCH_FLAGS)

bench-units: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/units.py $(BENCH_FLAGS)

bench-checkpoints: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/checkpoints.py $(BENCH_FLAGS)

bench-durability: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/durability.py $(BENCH_FLAGS)

bench-formulas: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/formulas.py $(BENCH_FLAGS)

bench-edges: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/edges.py $(BENCH_FLAGS)

bench-auto-symbolic: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/auto_symbolic.py $(BENCH_FLAGS)

bench-pruning: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/pruning.py $(BENCH_FLAGS)

bench-discovery: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/discovery.py $(BENCH_FLAGS)
	$(VENV_PYTHON) benchmarks/discovery.py --table

bench-discovery-limits: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/discovery_limits.py $(BENCH_FLAGS)

bench-verdict-traps: $(BENCH_INSTALLED)
	$(VENV_PYTHON) benchmarks/verdict_traps.py $(BENCH_FLAGS)

docs: $(DOCS_INSTALLED)
	$(VENV_PYTHON) -m mkdocs build --strict --quiet --site-dir build/docs
	@echo "documentation in build/docs"

clean:
	rm -rf build dist *.egg-info kan/kernels/_kernels.* $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find kan tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A virtual environment that works is kept; a missing or half-made one is made anew.
$(INSTALLED): pyproject.toml constraints.txt
	@if ! $(VENV_PYTHON) -m pip --version >/dev/null 2>&1; then \
	    found=; \
	    for candidate in $(CANDIDATES); do \
	        if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then \
	            found=$$candidate; break; \
	        fi; \
	    done; \
	    if [ -z "$$found" ]; then \
	        echo "No Python 3.10 or newer among: $(CANDIDATES). Name one with: make PYTHON=/path/to/python" >&2; exit 1; \
	    fi; \
	    echo "making $(VENV) with $$found ($$($$found --version))"; \
	    $$found -m venv --clear $(VENV) || { \
	        echo "$$found could not make a virtual environment (on Debian and Ubuntu: install python3-venv)" >&2; exit 1; }; \
	fi
	@echo "installing kanonical and the versions of constraints.txt into $(VENV) (some minutes the first time)"
	@KAN_BUILD_KERNELS=0 $(PIP_INSTALL) --editable '.[tests]'
	@touch $@

# Without a compiler, the package works without the kernels, and the next call of make looks for a compiler again.
$(KERNELS): $(INSTALLED) setup.py $(wildcard kan/kernels/csrc/*)
	@$(VENV_PYTHON) setup.py --quiet build_ext --inplace
	@if ls kan/kernels/_kernels.* >/dev/null 2>&1; then touch $@; fi

$(DOCS_INSTALLED): $(INSTALLED)
	@KAN_BUILD_KERNELS=0 $(PIP_INSTALL) --editable '.[docs]'
	@touch $@

# A second environment, made with the interpreter of the first one.
$(LOWEST_INSTALLED): pyproject.toml constraints-lowest.txt $(INSTALLED)
	$(VENV_PYTHON) -m venv --clear $(VENV_LOWEST)
	@KAN_BUILD_KERNELS=0 $(VENV_LOWEST)/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints-lowest.txt --editable '.[tests]'
	@touch $@

$(BENCH_INSTALLED): $(KERNELS)
	@KAN_BUILD_KERNELS=0 $(PIP_INSTALL) --editable '.[benchmarks]'
	@touch $@
