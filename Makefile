PYTHON ?= python3
BIN := .venv/bin
OUT ?= runs/demo
BENCH ?= all
JOBS ?= 2

.PHONY: install demo test check bench results-check clean

install: .venv/.installed

.venv/.package: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/.installed: .venv/.package
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

demo: .venv/.package
	$(BIN)/easycoreset demo --out $(OUT)

test: .venv/.installed
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST)

check: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright

bench: .venv/.installed
	$(BIN)/python -m benchmarks $(BENCH)

results-check: .venv/.installed
	$(BIN)/python -m benchmarks.check $(RESULTS)

clean:
	rm -rf .venv runs dist build
