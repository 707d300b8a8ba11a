# Hearloop. `make help` lists the targets; each sets up what it needs.

.DEFAULT_GOAL := help
.PHONY: help install demo test up down check check-deploy check-images bench-speech bench-serving clean

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The first Python here that will do; `make PYTHON=/path/to/python` picks another.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	if $$each -c '$(FITS)' 2>/dev/null; then echo $$each; exit; fi; done; echo python3)

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

install: $(INSTALLED) ## Set up the virtual environment in .venv

demo: $(INSTALLED) ## Play the whole loop, from raw speech to a better model in service
	$(BIN)/python -m demo

test: $(INSTALLED) ## Run the tests: unit and contract, integration, then the loop
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

up: $(INSTALLED) ## Start the embedded stack and keep it running
	@$(BIN)/hearloop up

down: ## Stop the embedded stack; what it stored stays
	@if [ -x $(BIN)/hearloop ]; then $(BIN)/hearloop down; fi

check: $(INSTALLED) ## What a change must pass: format, lint, types, layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

check-deploy: $(INSTALLED) ## Check Terraform, manifests, alerts and the names that they share
	PATH="$$PATH:$(CURDIR)/$(BIN)" $(BIN)/python -m pytest -p tests.closing_table tests/deploy

check-images: $(INSTALLED) ## Build the images and run them confined; needs Docker
	PATH="$$PATH:$(CURDIR)/$(BIN)" $(BIN)/python -m pytest -p tests.closing_table tests/images

# What the figures compare with, besides what Hearloop needs itself.
BENCH := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,bench]"

bench-speech: $(INSTALLED) ## Measure the speech bars into benchmarks/results/speech.json; 2 h
	$(BENCH)
	$(BIN)/python -m benchmarks.features
	$(BIN)/python -m benchmarks.training workers memory resume
	$(BIN)/python -m benchmarks.efficiency
	$(BIN)/python -m benchmarks.recognition --home runs/benchmarks/recognition
	$(BIN)/python -m benchmarks.adaptation --home runs/benchmarks/recognition
	$(BIN)/python -m benchmarks.prompts
	$(BIN)/python -m benchmarks.languages
	$(BIN)/python -m benchmarks.languages --language es
	$(BIN)/python -m benchmarks.languages --language fr
	$(BIN)/python -m benchmarks.languages --language ru
	$(BIN)/python -m benchmarks.gpu

# Another recogniser than the recipe's: make bench-serving BUNDLE=folder
MEASURED := $(if $(BUNDLE),--bundle $(BUNDLE))
bench-serving: $(INSTALLED) ## Measure the serving bars into benchmarks/results/serving.json; 25 min
	$(BENCH)
	$(BIN)/python -m benchmarks.streaming $(MEASURED)
	$(BIN)/python -m benchmarks.whisper $(MEASURED)
	$(BIN)/python -m benchmarks.live $(MEASURED)
	$(BIN)/python -m benchmarks.fuzz

clean: down ## Remove the virtual environment and all that runs have left
	rm -rf $(VENV) runs build *.egg-info src/*.egg-info

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(FITS)' || { echo "Hearloop needs Python 3.11, 3.12 or 3.13 and found" \
		"$$($(PYTHON) --version 2>&1); install one, or name it: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual" \
		"environments; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
