# Two commands do everything: `make run` shows zoocast at work, `make test` proves that it does.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: run test chaos check format wheel clean

run: $(STAMP)  ## the main job on real handwritten digits: zoo -> banks -> target, table and pictures
	$(BIN)/pipelines run zoo-to-target

# Two files at a time: most tests wait for processes to start, end or be missed. Each has one thread, or two would crowd two cores.
test: $(STAMP)  ## all tests but those that lose nodes or kill at random, which CI runs after them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m 'not chaos' $(PYTEST)

chaos: $(STAMP)  ## twenty pipelines whose driver, workers and node are killed at random
	PYTHONPATH=platform:. $(BIN)/python -m tests.faults.chaos --rounds $(or $(CHAOS_ROUNDS),20)

check: $(STAMP)  ## format, lint, types, import contracts and tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory test

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv build dist

# .venv is made anew when it is missing or older than what it is made from.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or newer, or say make PYTHON=/path/to/python"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) -V); say make PYTHON=python3.11"; exit 2; }
	@echo "installing the packages of constraints.txt into .venv: a few minutes, once" >&2
	@rm -rf .venv
	@$(PYTHON) -m venv .venv || { echo "error: no venv module; on Debian or Ubuntu: apt-get install python3-venv"; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)
