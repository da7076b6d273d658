# `make demo` and `make test` do all of their set-up: they need Python 3.11 or newer and nothing else.
# PYTHON chooses the interpreter, VENV where the environment lives.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# PyTorch is an oracle of the tests and a peer of the benchmark; both do without. Plain pip may fetch gigabytes of CUDA
# with it, so it is asked for by name: make test TORCH=torch==2.13.0
TORCH ?=
# Which tests `make test` runs, if not all: make test TESTS=tests/kernels
TESTS ?=
# Options of the benchmark, as `python -m experiments.bench --help` explains them.
BENCH ?=

.PHONY: demo test test-slow test-onnx lint reference format bench clean

demo: $(VENV)/.experiments  ## train LeNet on real handwritten digits and leave pictures of it in runs/
	$(BIN)/python -m experiments.lenet5

test: $(VENV)/.tests  ## all tests and doctests
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(TESTS)

test-slow: $(VENV)/.tests  ## those that take minutes
	$(BIN)/python -m pytest -m slow

test-onnx:  ## models converted to ONNX, in an environment of their own: jax2onnx holds Orbax back
	$(MAKE) VENV=.venv-onnx .venv-onnx/.onnx
	.venv-onnx/bin/python -m pytest tests/interop/test_onnx.py

lint: $(VENV)/.lint  ## formatting, style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

reference: $(VENV)/.reference  ## all public names with their docstrings, as a web site: build/reference/index.html
	$(BIN)/python -W error::UserWarning docs/reference.py build/reference

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench  ## the measurements of docs/measured.md, as many as fit into 20 minutes; BENCH='--minutes 70' for all, BENCH=--quick for 3
	$(BIN)/python -m experiments.bench $(BENCH)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.made:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "jaxnn needs Python 3.11 or newer; choose one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.experiments: pyproject.toml $(VENV)/.made
	$(BIN)/pip install --quiet --editable '.[experiments]'
	touch $@

$(VENV)/.tests: pyproject.toml $(VENV)/.made
	$(if $(TORCH),$(BIN)/pip install --quiet '$(TORCH)')
	$(BIN)/pip install --quiet --editable '.[tests]'
	touch $@

$(VENV)/.onnx: pyproject.toml $(VENV)/.made
	$(BIN)/pip install --quiet --editable '.[tests,onnx]'
	touch $@

$(VENV)/.lint: pyproject.toml $(VENV)/.made
	$(BIN)/pip install --quiet --editable '.[experiments,tests,lint]'
	touch $@

$(VENV)/.reference: pyproject.toml $(VENV)/.made
	$(BIN)/pip install --quiet --editable '.[reference]'
	touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.made
	$(if $(TORCH),$(BIN)/pip install --quiet '$(TORCH)')
	$(BIN)/pip install --quiet --editable '.[bench]' || \
	  { echo "not every peer of the benchmark can be installed here; measuring without the others" >&2; \
	    $(BIN)/pip install --quiet --editable '.[experiments]'; }
	touch $@
