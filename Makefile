# Two commands do everything on a fresh machine with Python 3.11-3.13 and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test format install dev typing clean

demo: install ## analyze and evaluate the bundled sample; prints where the reports are
	$(BIN)/lmaas analyze
	$(BIN)/lmaas evaluate --policy preserve

test: dev typing ## every check: format, lint, types, import layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .typing/lmaas
	$(BIN)/lint-imports
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile
	NUMBA_DISABLE_JIT=1 $(BIN)/pytest $(addprefix tests/test_,kernel.py kernel_full.py room.py seen_equal.py views.py anticipation.py)

format: dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: .venv/installed
dev: .venv/installed-dev

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ .venv/installed

typing: ## mypy does not see the editable finder: give it links in the shape of the package
	@mkdir -p .typing/lmaas
	@for room in analysis replay policies reports cli; do ln -sfn ../../$$room .typing/lmaas/$$room; done

clean:
	rm -rf .venv .typing .lmaas build dist *.egg-info
