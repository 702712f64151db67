# Two commands for a newcomer: `make demo` and `make test`. Each makes .venv when it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
PIP_ARGS ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)

.PHONY: demo test slow lint docs clean help

help:
	@echo "make demo   phantom pool -> two minutes of training from phantom-64 -> samples -> score -> gallery"
	@echo "make test   lint, types and the tests"
	@echo "make slow   the tests that take longer"
	@echo "make docs   the documentation as a site, build/docs/index.html"
	@echo "make clean  remove what demo made"

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "thiscxr needs Python 3.11 or later; make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) -e '.[dev,oracles]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(PIP) -e '.[docs]'
	touch $@

demo: $(VENV)/installed
	rm -rf $(DEMO)/samples $(DEMO)/site
	test -f $(DEMO)/pool/pool.json || $(BIN)/thiscxr phantom $(DEMO)/pool -n 1000 --res 64 --seed 1
	$(BIN)/thiscxr score --real $(DEMO)/pool --fake phantom-64 -n 400 --out $(DEMO)/before.json --json > /dev/null
	$(BIN)/python train_gan.py --data $(DEMO)/pool --config demo --init phantom-64 --out $(DEMO)/runs --minutes 2
	run=$$(ls -d $(DEMO)/runs/*/ | tail -n 1) && \
	$(BIN)/thiscxr sample --model $$run -n 400 --out $(DEMO)/samples && \
	$(BIN)/thiscxr score --real $(DEMO)/pool --fake $(DEMO)/samples --out $(DEMO)/scores.json --json > /dev/null && \
	$(BIN)/thiscxr site --samples $(DEMO)/samples --scores $(DEMO)/scores.json --model $$run --out $(DEMO)/site
	@$(BIN)/python tools/demo_scores.py $(DEMO)/scores.json --before $(DEMO)/before.json
	@echo "open $(CURDIR)/$(DEMO)/site/index.html"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -m "not slow" -n 2 --dist worksteal

slow: $(VENV)/installed-dev
	$(BIN)/pytest -m slow -n 2

# Not --quiet, which passes over broken links.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "open $(CURDIR)/build/docs/index.html"

clean:
	rm -rf $(DEMO)
