"""Everything that MLflow misses of a checkout: runs that wait for upload, and the results of DVC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adaptformer.tracking import dvc_experiments, dvc_repository, mlflow_store, uploads


def missing(experiments: Sequence[str] = ()) -> Iterator[str]:
    """Upload waiting runs and log DVC's results, or those of `experiments` alone; yield a line for each.

    Raises UserError if MLflow or DVC fails, or for a name that no experiment has.
    """
    if not (uploads.waiting() or dvc_repository.is_used()):
        return
    with mlflow_store.user_errors("nothing is logged twice, and runs that are not uploaded still wait"):
        client = mlflow_store.connect()
        for uploaded in uploads.upload_waiting(client):
            yield uploaded.sentence
        for folder in uploads.waiting():
            yield f"{folder.root}/ is in use: what waits there is uploaded afterwards"
        if not dvc_repository.is_used():
            return
        for logged in dvc_experiments.log(client, experiments):
            outcome = f"run {logged.run_id}" if logged.run_id else f"not logged: {logged.why}"
            score = "" if logged.top1 is None else f"  top1 {logged.top1:.4f}"
            yield f"{logged.name}{score}  {outcome}"
