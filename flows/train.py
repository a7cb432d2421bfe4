"""The flow `adaptformer/train`: from `data/` to a registered model; stages that are current are skipped."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from adaptformer import presets as all_presets
from adaptformer.config import run_folder
from adaptformer.curation.importing import settling
from adaptformer.pipeline import run
from adaptformer.pipeline.run import Request, Steps
from adaptformer.pipeline.summary import Summary, markdown
from adaptformer.registry.promotion import Outcome
from flows import flow_run, log_filter, promote
from tasks import registry, stages

log_filter.install()


@flow(name="adaptformer")
def train(
    presets: list[str] | None = None,
    overrides: dict[str, Any] | None = None,
    register: bool | None = None,
    promotion: Literal["auto", "never"] | None = None,
    who: str | None = None,
) -> Summary:
    """Bring all five stages up to date, record them, track the run and register the model as challenger.

    `presets` by name and `overrides` by dotted key replace values of params.yaml. If they change values that results
    depend on, the run has a folder of its own, DVC's records stay as they are, and the model is registered only if
    `register` is true. `promotion`, if given, replaces registry.promotion: with "auto" the gate judges every newly
    registered model, in the name of `who`.
    """
    settling.settle()
    file, params = all_presets.resolve(presets or (), overrides)
    folder = run_folder.folder_for(file.params, params)
    return update(Request(file, params, folder, presets or (), register, promotion, who))


def update(request: Request) -> Summary:
    """Do the work of the flow, within its run."""
    folder = request.folder
    flow_run.label(request.params, folder.root.name, *flow_run.folder_tags(folder))
    steps = Steps(
        holder="adaptformer/train",
        begin=lambda: flow_run.mark_crashed(folder),
        stage=stages.run,
        register=registry.REGISTER,
        promote=_promote_and_show,
    )
    summary = run.update(request, steps, flow_run.lineage())
    flow_run.show_report(folder, summary.run_id)
    create_markdown_artifact(key="training", markdown=markdown(summary), description="The last run's result")
    return summary


def _promote_and_show(*model_and_bounds: Any, **asked: Any) -> Outcome:
    outcome: Outcome = registry.promote(*model_and_bounds, **asked)
    promote.show(outcome)
    return outcome
