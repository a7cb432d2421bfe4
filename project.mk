# The targets of every project; `make` lists them. The library's own Makefile includes this file and makes the environment
# in .venv/. In a project it is the Makefile itself, and `python` is that of the environment with adaptformer[pipeline].

# Stages of DVC and runs of the worker find the right python; Prefect's files stay inside the project.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
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
# MLflow's pages of `make up`; api.url in prefect.toml has the port of Prefect's. Two projects that are up need two of each.
export ADAPTFORMER_MLFLOW_PORT ?= 5000

.DEFAULT_GOAL := help
.PHONY: help run compare sweep promote rollback history up

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' \
		$(filter-out Makefile,$(MAKEFILE_LIST)) $(filter Makefile,$(MAKEFILE_LIST))

# Ctrl-C reaches make as well. The command has said what there is to say; if it failed, make would add a line, and end
# with 2 whatever the command's code was, which means "refused". On SIGQUIT make ends with 1 and adds nothing, if it has
# the signal before its shell ends. A shell whose trap does not see the signal shows that make was started without it.
quietly = stopped= heard=; trap 'stopped=1' INT; $(1); code=$$?; trap 'heard=1' QUIT; \
	[ "$$code" != 1 ] || kill -QUIT $$$$; [ -z "$$heard" ] || { kill -QUIT $$PPID; code=0; \
	while grep -qs '^S[a-z]*Pnd:.*[4-7c-f]$$' /proc/$$PPID/status; do :; done; }; \
	[ "$$stopped$$code" = 1130 ] || exit $$code

ifndef READY
READY := environment
.PHONY: environment
environment:
	@$(call quietly,python -c 'from importlib.util import find_spec; exit(not (find_spec("adaptformer") and find_spec("prefect")))' \
		2>/dev/null || { echo 'error: the python of this terminal has no adaptformer[pipeline]' >&2; \
		echo '  fix: activate the environment that has it or make one in .venv/' >&2; (exit 1); })
endif

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
