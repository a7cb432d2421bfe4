# `make` lists the targets. Everything runs in .venv/, which is made once and again when its two sources change.
# Those of every project are in project.mk; here are those of the library's development.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.installed

include project.mk

.PHONY: test test-all mutants faults fuzz bench lint format clean

# The tests of one file share what is expensive, so a file is run by one worker.
test: lint  ## lint, type check, and run the tests but for the long ones
	@python -m pytest -n 2 --dist loadfile -m "not e2e"

test-all: lint  ## lint, type check, and run all tests, those of servers, clusters and killed commands too
	@python -m pytest -n 2 --dist loadfile

# Hours on two cores, so no part of `make test-all`: docs/testing.md.
mutants: $(READY)  ## break the code one expression at a time and list what no test notices: ONLY='adaptformer.gate.*'
	@python tests/mutants.py $${ONLY:+"$$ONLY"}

# Five minutes, or as long as is wanted: docs/reliability.md.
faults: $(READY)  ## kill commands, turn bits of files, fill disks, at random: FAULTS="--minutes 600 --seed 2"
	@python -m tests.faults $${FAULTS:-}

# With CASES=100000 hours on two cores; a case that is no result and no two-line error, or over its bounds, fails.
fuzz: $(READY)  ## draw new hostile inputs of each kind, each within 10 s and 1 GB: CASES=100000 ONLY=test_hostile_params.py
	@FUZZ_CASES=$${CASES:-1000} python -m pytest -q tests/fuzz/$${ONLY:-}

bench: $(READY)  ## time steps, memory, frozen blocks, growth, photos and the pipeline on the CPU: docs/performance.md
	@for name in step freed_memory frozen growth photos pipeline; do echo; python -m benchmarks.$$name || exit 1; done

lint: $(READY)  ## ruff and mypy
	@ruff check
	@ruff format --check
	@mypy

format: $(READY)  ## let ruff format the code
	@ruff check --fix
	@ruff format

clean:  ## remove the environment and caches; data, results, MLflow's and Prefect's files stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache mutants *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The stamp is written last: an interrupted install is done again. The base interpreter makes the environment, for
# `python3` may be the very one in .venv/ that is about to go.
$(READY): pyproject.toml constraints.txt
	@rm -f $@
	@base=$$($(PYTHON) -c 'import sys; print(sys._base_executable); sys.exit(not (3, 11) <= sys.version_info < (3, 15))' \
		2>/dev/null) || { \
		echo "error: Python 3.11 to 3.14 is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1)" >&2; \
		echo "  fix: install one, then name it: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }; \
	echo "Making the environment in $(VENV)/ (some minutes, once) ..."; \
	"$$base" -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install -qq --compile --disable-pip-version-check \
		--constraint constraints.txt --editable ".[pipeline,dev]" & \
	pip=$$!; trap 'kill $$pip 2>/dev/null' EXIT; seconds=0; \
	while kill -0 $$pip 2>/dev/null; do \
		sleep 1; seconds=$$((seconds + 1)); \
		if [ -t 1 ]; then printf '\r  %d s' $$seconds; elif [ $$((seconds % 30)) = 0 ]; then echo "  $$seconds s"; fi; \
	done; \
	trap - EXIT; wait $$pip
	@touch $@
