# Set-up, tests and the demonstration; see README.md.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

.PHONY: setup demo test check bench board gpu-check test-slow test-reliability lint docs embedded-edges clean

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
		tests/cli/test_*faults.py tests/cli/test_damaged_files.py tests/cli/test_security.py -m "slow or not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

# The pages as a site with an API reference, in build/site. A broken link is an error.
docs: $(VENV)/.documented
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Only what the extra `docs` asks for: installing wss again would compile the kernels again.
$(VENV)/.documented: $(VENV)/.installed
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > $(VENV)/docs.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -r $(VENV)/docs.txt
	touch $@

# All quick benchmarks, with the goals that are met and missed.
bench: setup
	$(BIN)/python benchmarks/quick.py

# One table of all methods on all data sets: make board DATA=DIR. It resumes; STEPS, SEEDS and SETS choose its size.
STEPS ?= 600
SEEDS ?= 0 1 2
SETS  ?= acdc ccp camvid

board: setup
	$(BIN)/python benchmarks/board.py --data $(or $(DATA),$(error give DATA=DIR, the folder of the data sets)) --sets $(SETS) \
		--seeds $(SEEDS) --steps $(STEPS) --workspace build/board --out build/board.json --page build/board.md

# Parity with the CPU and times of training steps on a GPU, in at most eight minutes.
gpu-check: setup
	$(BIN)/python benchmarks/gpu.py --out build/gpu.json

# The weights of the embedded edge detector: make embedded-edges BSDS500=DIR (two hours of one core). Interrupted, it goes on.
EDGES   = build/edges
TRAIN   = OMP_NUM_THREADS=1 $(BIN)/wss train-edges --root $(or $(BSDS500),$(error give BSDS500=DIR, the folder with images/ and groundTruth/)) --amp --out $@
VARIED  = --lr 0.002 --rotate 180 --scale 0.5 1.6

embedded-edges: $(EDGES)/embedded.pt

$(EDGES)/first.pt: | setup
	mkdir -p $(EDGES)
	$(TRAIN) --split train --epochs 480 --seed 0

$(EDGES)/second.pt: $(EDGES)/first.pt
	$(TRAIN) --split train --init $< --epochs 300 --seed 1 $(VARIED)

$(EDGES)/embedded.pt: $(EDGES)/second.pt
	$(TRAIN) --split train --split val --init $< --epochs 240 --seed 2 $(VARIED)

clean:
	rm -rf $(VENV) demo build .pytest_cache .mypy_cache .ruff_cache
