# Two commands for a stranger: `make demo` and `make test`. Each sets up its own virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The CPU build of PyTorch: elsewhere than on machines where the plain name gives it, set
# TORCH="torch==2.13.0 --index-url <the CPU index that PyTorch's installation page names>".
TORCH ?= torch==2.13.0

.PHONY: demo test test-slow lint types bench clean

demo: $(VENV)/.ready-cpu
	$(BIN)/python -m demos.main_job

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -n 2

test-slow: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -n 2 --run-slow

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	$(BIN)/mypy

bench: $(VENV)/.ready-dev
	$(BIN)/python -m benchmarks.run

$(VENV)/.ready-cpu: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cpu]'
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready-cpu
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cpu,openai,hf,llmlingua,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
