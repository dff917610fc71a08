PYTHON ?= python3
BIN := .venv/bin
OUT ?= runs/demo
BENCH ?= all
JOBS ?= 2
# UV=yes: by uv, in half the time; it does not read pip's own configuration
uv = $(1)/bin/python -m pip install --quiet uv && $(1)/bin/uv pip install --quiet --compile-bytecode --python $(1)/bin/python $(2) ||
packages = $(if $(UV),$(uv)) $(1)/bin/python -m pip install --quiet $(2)
OLDEST := "torch==2.5.*" "torchvision==0.20.*"
CORE := tests/attacks tests/hardness tests/models/test_modes.py tests/objectives tests/scoring tests/training

DOCS := docs/_build/html

.PHONY: install demo test test-oldest check docs bench results-check clean

install: .venv/.installed

.venv/.package: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(call packages,.venv,--editable .)
	touch $@

.venv/.installed: .venv/.package
	$(call packages,.venv,--group dev)
	touch $@

demo: .venv/.package
	$(BIN)/easycoreset demo --out $(OUT)

test: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST)

test-oldest: .venv-oldest/.installed
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest --numprocesses $(JOBS) --dist loadfile -m "not slow" $(CORE)

.venv-oldest/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --upgrade pip
	$(call packages,.venv-oldest,$(OLDEST) --editable . pytest pytest-xdist)
	touch $@

check: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.support.documented_code build/documented
	$(BIN)/pyright

docs: .venv/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs $(DOCS)
	@echo "$(DOCS)/index.html"

.venv/.docs: .venv/.package
	$(call packages,.venv,--group docs)
	touch $@

bench: .venv/.installed
	$(BIN)/python -m benchmarks $(BENCH)

results-check: .venv/.installed
	$(BIN)/python -m benchmarks.check $(RESULTS)

clean:
	rm -rf .venv .venv-oldest runs dist build docs/_build docs/generated
