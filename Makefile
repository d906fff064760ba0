# `make demo` and `make test` work on a bare machine with Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo check test slow mutations wheel-test bench-peers report table-gowalla table-ml1m table-infinite-ae clean

help:
	@echo "make demo        the whole chain on the sample data"
	@echo "make test        all checks, and the tests not marked slow"
	@echo "make check       formatting, lint, types, layers, spelling"
	@echo "make slow        the slow tests and the notebooks; RECAE_DATASETS names the real data sets"
	@echo "make mutations   put mistakes into a copy of the package; the tests named beside them must fail"
	@echo "make wheel-test  build the wheel and test it without the sources"
	@echo "make report      a report of the sample, and pictures of it where there is Chromium"
	@echo "make table-gowalla, table-ml1m, table-infinite-ae"
	@echo "                 the rows of docs/results.md that are missing (hours); needs RECAE_DATASETS"
	@echo "make bench-peers recae beside RecBole, Cornac and implicit (3 GB of environments in PEERS, 40 minutes)"
	@echo "make clean       remove what these commands made"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: install
	@$(BIN)/recae demo -o out/demo

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell recae api tests docs benchmarks README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow" --cov --cov-report=term:skip-covered

slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --timeout=1800
	$(BIN)/python -m pytest --nbmake notebooks

mutations: install
	$(BIN)/python tests/mutations.py

wheel-test: install
	tests/wheel.sh $(BIN)/python

CHROMIUM ?= $(firstword $(foreach name,chromium chromium-browser google-chrome,$(shell sh -c 'command -v $(name)')))

report: install
	mkdir -p out/report
	$(BIN)/recae compare data/sample/interactions.csv --items data/sample/items.csv \
		--models popular,item-knn,ease,mult-vae --metrics ndcg@100,recall@20,recall@50 \
		--set mult-vae.epochs=20 --html out/report/report.html
	$(if $(CHROMIUM),benchmarks/screenshots.sh $(CHROMIUM) out/report/report.html,@echo "no Chromium: no pictures")

table-gowalla table-ml1m table-infinite-ae: install
	$(BIN)/python benchmarks/tables/run.py $(subst -,_,$(@:table-%=%))

PEERS ?= build/peers

bench-peers: install
	benchmarks/peers/build.sh $(PEERS) $(PYTHON)
	$(BIN)/python benchmarks/train_peers.py --peers $(PEERS)
	$(BIN)/python benchmarks/performance_page.py

clean:
	rm -rf $(VENV) dist build out .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
