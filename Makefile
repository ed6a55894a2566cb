# Two commands do all set-up: make demo, make test. Plain pip, one environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export HF_HUB_OFFLINE := 1
export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: demo test ui lint setup lock clean

demo: $(STAMP)  ## Materialize every asset on the embedded default
	$(BIN)/cosmo run

test: $(STAMP)  ## Lint, types and tests
	$(MAKE) lint
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

ui: $(STAMP)  ## Open Dagster's UI on the demo's lake
	$(BIN)/cosmo ui

setup: $(STAMP)

# torch comes first, with the dependencies its own build asks for (a CPU wheel has none of CUDA's);
# the rest is installed as locked, since text-generation declares a hub older than all others need.
$(STAMP): requirements/lock.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint requirements/lock.txt torch
	$(BIN)/pip install --quiet --no-deps --requirement requirements/lock.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(STAMP)

# Needs uv. torch is written without its local part, so that other machines find their own build.
lock:
	printf 'huggingface-hub>=1.31,<2\n' > requirements/overrides.txt
	uv pip compile pyproject.toml --extra dev --python-version 3.11 \
	  --override requirements/overrides.txt --no-annotate --no-header -o requirements/lock.txt
	sed -i 's/^torch==\([0-9.]*\)+.*/torch==\1/' requirements/lock.txt

clean:
	rm -rf $(VENV) lake lake-real *.egg-info
