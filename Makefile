# `make reproduce` and `make test` do all their own set-up; a second call installs nothing.
PYTHON ?= python3
PROFILE ?= sample
NOTEBOOKS ?=
VENV := .venv
BIN := $(VENV)/bin
UV := uv==0.13.8

.PHONY: help setup reproduce test test-slow notebooks lab clean

help:
	@echo "make reproduce [PROFILE=...] [NOTEBOOKS=\"06 08\"]"
	@echo "                  run the notebooks, write figures/, set our numbers beside the paper's"
	@echo "                  PROFILE: sample (default), voc, voc-512, coco, own; NOTEBOOKS: by number (default: all)"
	@echo "make test         unit tests, and every notebook's outputs against the stored ones"
	@echo "make test-slow    what is too long for make test"
	@echo "make notebooks    run the notebooks (or NOTEBOOKS) on the sample world and keep their outputs"
	@echo "make lab          open JupyterLab"
	@echo "make clean        remove the virtual environment"

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

reproduce: setup
	$(BIN)/bavit notebooks $(NOTEBOOKS) --profile $(PROFILE)

test: setup
	$(BIN)/python -m pytest -q -m "not slow" tests
	TQDM_DISABLE=1 BAVIT_PROFILE=sample BAVIT_FIGURES_DIR=$$(mktemp -d) $(BIN)/python -m pytest -q --nbval --nbval-cell-timeout=300 notebooks

test-slow: setup
	$(BIN)/python -m pytest -q -rs -m slow tests

notebooks: setup
	$(BIN)/bavit notebooks $(NOTEBOOKS) --profile sample --refresh

lab: setup
	$(BIN)/jupyter lab notebooks --ServerApp.tornado_settings='{"websocket_max_message_size": 104857600}'

clean:
	rm -rf $(VENV)
