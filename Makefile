# `make` lists the targets. Everything runs in .venv/, which is made once and again when its two sources change.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.installed

# Stages of DVC and runs of the worker find the right python; Prefect's files stay inside the checkout.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PREFECT_HOME := $(CURDIR)/.prefect
# As adaptformer/base/environment.py, for `prefect`, `mlflow` and `dvc` themselves: docs/telemetry.md.
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := true
export HF_HUB_DISABLE_TELEMETRY := 1
export ITERATIVE_DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export ORT_DISABLE_TELEMETRY := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help run compare sweep promote rollback history up test test-all mutants faults fuzz bench lint format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Ctrl-C reaches make as well. The command has said what there is to say; if it failed, make would add a line, and end
# with 2 whatever the command's code was, which means "refused". On SIGQUIT make ends with 1 and adds nothing, if it has
# the signal before its shell ends. A shell whose trap does not see the signal shows that make was started without it.
quietly = stopped= heard=; trap 'stopped=1' INT; $(1); code=$$?; trap 'heard=1' QUIT; \
	[ "$$code" != 1 ] || kill -QUIT $$$$; [ -z "$$heard" ] || { kill -QUIT $$PPID; code=0; \
	while grep -qs '^S[a-z]*Pnd:.*[4-7c-f]$$' /proc/$$PPID/status; do :; done; }; \
	[ "$$stopped$$code" = 1130 ] || exit $$code

run: $(READY)  ## run the whole pipeline here, on what data/ holds (the sample, if there is nothing)
	@$(call quietly,python -m flows run)

compare: $(READY)  ## train the methods that params.yaml lists and set them side by side
	@$(call quietly,python -m flows compare)

sweep: $(READY)  ## search the values that params.yaml lists, trial by trial
	@$(call quietly,python -m flows sweep)

# Variables given to make are in the recipe's environment, where no quote in a reason can break the command.
promote: $(READY)  ## judge the challenger, make it champion if it passes the gate: WHY="…" WHO=… CHALLENGER=VERSION
	@$(call quietly,adaptformer promote $${CHALLENGER:+--version "$$CHALLENGER"} $${WHO:+--who "$$WHO"} --why "$${WHY:-}")

rollback: $(READY)  ## put the version before the champion back to use: WHY="…" is needed, WHO=… TO=VERSION
	@$(call quietly,adaptformer rollback $${TO:+--to "$$TO"} $${WHO:+--who "$$WHO"} --why "$${WHY:-}")

history: $(READY)  ## show which version was in use when, and why
	@$(call quietly,adaptformer history)

up: $(READY)  ## start Prefect (server and worker) and the MLflow pages; Ctrl-C stops them
	@exec python -m flows.services

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
