# Each target does its own set-up: a fresh machine needs only Python 3.11 or later, pip, git and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: test test-services demo benchmark lint docs clean

test: $(VENV)/.ready
	$(BIN)/python -m pytest

# With PostgreSQL and Redis, at PGHOST and REDIS_URL or where they usually are. One that is absent is a failure.
test-services: $(VENV)/.ready
	ANYMAIL_TEST_SERVICES=1 $(BIN)/python -m pytest -m service

demo: $(VENV)/.ready
	$(BIN)/python -m example.demo

benchmark: $(VENV)/.ready
	$(BIN)/python -m benchmarks

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: $(VENV)/.ready
	$(BIN)/python -m anymail docs

clean:
	rm -rf $(VENV)

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@
