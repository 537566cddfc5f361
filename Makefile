# The course's commands. `make` alone lists them; each one sets itself up on a fresh machine.

PYTHON ?= python3
ARGS ?=
NAME ?=
CPU ?=

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
RUN := $(BIN)/python

# A PYTHONPATH from somebody's shell would put other packages before the pinned ones.
unexport PYTHONPATH
unexport PYTHONHOME
# matplotlib keeps its list of fonts here, and no matplotlibrc from the home folder changes the figures.
export MPLCONFIGDIR := $(CURDIR)/.jupyter/matplotlib

.DEFAULT_GOAL := help
.PHONY: help setup lab update test fast notebooks bench results lint lock clean

help: ## list these commands
	@sed -n 's/^\([a-z]*\):[^#]*## /\1|/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: ## make .venv or bring it up to date (the others do this first; PYTHON=python3.12, CPU=1: no CUDA)
	@command -v "$(PYTHON)" >/dev/null || { echo "set-up: there is no '$(PYTHON)' on the PATH: install Python 3.11 or newer, \
or name one: make $(or $(firstword $(MAKECMDGOALS)),lab) PYTHON=/path/to/python3" >&2; exit 1; }
	@CPU="$(CPU)" "$(PYTHON)" .ci/setup.py

# JupyterLab keeps its settings in .jupyter/ here: nothing of the course lands in the home folder, and a
# configuration or a kernel in the home folder cannot replace the course's. Its terminals and `!pip` use .venv.
# (On the command itself: a target's variables would reach the set-up too. Looking for language servers, which
# the course does not bring, would start npm.)
# .ci/jupyter switches off its question about news.
HERE := $(CURDIR)/.jupyter
COPY := work
JUPYTER = env JUPYTER_CONFIG_DIR="$(HERE)/config" JUPYTER_DATA_DIR="$(HERE)/data" IPYTHONDIR="$(HERE)/ipython" \
	JUPYTER_RUNTIME_DIR="$(HERE)/runtime" JUPYTER_PREFER_ENV_PATH=1 JUPYTER_CONFIG_PATH="$(CURDIR)/.ci/jupyter" \
	VIRTUAL_ENV="$(CURDIR)/.venv" PATH="$(CURDIR)/$(BIN):$$PATH" $(RUN)

lab: setup ## open JupyterLab at notebook 00, in your own copy work/ (ARGS="--no-browser" for a server)
	@$(JUPYTER) .ci/work.py
	@$(JUPYTER) -m jupyterlab --ServerApp.root_dir=. --LanguageServerManager.autodetect=False \
		--LabApp.default_url=/lab/tree/$(COPY)/00_start_here.ipynb $(if $(filter 0,$(shell id -u 2>/dev/null)),--allow-root) $(ARGS)

update: ## bring the newest version of the course; what you changed in work/ stays
	@git pull --ff-only
	@$(MAKE) --no-print-directory setup
	@$(JUPYTER) .ci/work.py --update

# One process per core and one torch thread in each: a second thread makes small recurrent networks slower.
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto

test: setup ## the whole suite, every notebook executed (ARGS="-k labels" for a part)
	@$(PYTEST) $(ARGS)

fast: setup ## the tests that take seconds
	@$(PYTEST) -m "not slow and not browser" $(ARGS)

notebooks: setup ## execute every notebook and store its outputs (ARGS="notebooks/03*" for one)
	@$(RUN) -m helpers notebooks $(ARGS)

bench: setup ## list the benchmarks; run one with NAME=…
	@if [ -n "$(NAME)" ]; then $(RUN) -m "benchmarks.$(NAME)" $(ARGS); else \
		for file in benchmarks/*.py; do printf '  make bench NAME=%-22s %s\n' "$$(basename "$$file" .py)" \
			"$$(sed -n '1s/^"""\([^"]*\).*/\1/p' "$$file")"; done; fi

results: setup ## train every system over three seeds, write docs/results.md; goes on where it was killed
	@$(RUN) -m benchmarks.results $(ARGS) && $(RUN) -m benchmarks.drawn_world

lint: setup ## style of code and notebooks (ARGS="--fix" fixes what it can)
	@$(RUN) -m ruff check . $(ARGS) && $(RUN) -m ruff format $(if $(findstring --fix,$(ARGS)),,--check) .

lock: setup ## compile requirements.txt from pyproject.toml (ARGS="--upgrade" for newer versions)
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv pip compile --quiet --universal --python-version 3.11 --extra test --no-header \
		--no-emit-index-url --no-emit-find-links $(ARGS) pyproject.toml -o requirements.txt

clean: ## remove .venv and every cache; data stays
	rm -rf .venv .jupyter .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name .git -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -exec rm -rf {} +
