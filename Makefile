# Set-up, tests and the demonstration; see README.md.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

.PHONY: setup demo test check test-slow test-reliability lint clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/wss run quickstart --workspace demo
	@echo "Open demo/report.html in a browser."

test: setup
	$(BIN)/python -m pytest -n $(JOBS) -q

test-slow: setup
	$(BIN)/python -m pytest -n $(JOBS) -q -m slow

test-reliability: setup
	$(BIN)/python -m pytest -q tests/reliability tests/store tests/test_packaging.py \
		tests/cli/test_faults.py tests/cli/test_damaged_files.py tests/cli/test_security.py -m "slow or not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

clean:
	rm -rf $(VENV) demo build .pytest_cache .mypy_cache .ruff_cache
