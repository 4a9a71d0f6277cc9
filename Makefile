# Every target does its own set-up in .venv; `make demo` and `make test` need nothing but Python and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench docs clean

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/.demo: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[experiments]'
	touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[experiments,data,reproduce,tensorboard,docs,dev]'
	touch $@

demo: .venv/.demo  ## learn to weight 24 auxiliary losses on MNIST-5k, against seven other methods
	$(BIN)/auxilearn demo

test: .venv/.dev  ## run every test and doctest, and measure branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term --cov-fail-under=95

check: .venv/.dev  ## lint, types, import floors, documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(MAKE) docs

docs: .venv/.dev  ## build the documentation, warnings are errors
	$(BIN)/sphinx-build --fail-on-warning --keep-going -q -b html docs docs/_build/html

bench: .venv/.dev  ## five minutes: quick versions of all benchmarks, their ratios, and docs/performance.md
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf .venv docs/_build build dist .coverage .hypothesis .pytest_cache .ruff_cache
