# Every command a person needs. `make` alone lists them.
#
# `make demo` and `make test` work from a clean clone with nothing but Python and PyPI, and use the
# real servers where they are present. Only `make servers` installs system packages.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo demo-tomcat test lint format servers simulate rig bench transcripts fuzz clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "make %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]' --group dev
	@touch $(READY)

demo: $(READY) ## bring up a whole fleet on this machine and roll a new version over it, under load
	$(BIN)/rolling-deploy demo $(DEMO)

demo-tomcat: $(READY) ## the same on two real Tomcats: USERS=n are logged in and stay so, three releases are tried
	$(BIN)/python -m tests.tomcat_demo --users $(or $(USERS),60) $(DEMO)

# In the order of the files: the rigs come early and the short tests last, so that no process ends
# with a long file of its own.
test: $(READY) ## all test tiers in their short form
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --randomly-dont-reorganize $(TESTS)

lint: $(READY) ## mypy strict, ruff, the layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## bring the code into its form
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

servers: ## install the real servers (Debian, as root); starts none
	sh .ci/servers

simulate: $(READY) ## rollouts under mixed misfortune (SEEDS=n), every pair of the worst faults, every mutant
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),20000) $(SIMULATE)
	PAIRS=all $(BIN)/python -m pytest -p no:randomly tests/exhaustive/test_every_pair.py
	$(BIN)/python -m tests.simulation.mutants

rig: $(READY) ## the rigs and the contract suite in their long form: kills at every record, for hours; needs root
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder -p no:randomly tests/fleet_rig tests/rig tests/contract --every $(RIG)

bench: $(READY) ## this tool and a plain ssh script on the same fleet in turn, with ratios
	$(BIN)/python -m tests.bench $(BENCH)

transcripts: $(READY) ## write the transcripts anew; commit the difference only if you understand it
	$(BIN)/python -m pytest tests/transcripts --rewrite

fuzz: $(READY) ## search all that reads others' bytes for inputs that break it; SECONDS for each target
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group fuzz || echo 'without atheris'
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(FUZZ)

clean: ## remove what the commands above made
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
