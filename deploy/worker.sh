#!/bin/sh
# A worker beside a server that others have started: makes the pool, the limits and the deployments, then takes runs.
# Wants PREFECT_API_URL, and MLFLOW_TRACKING_URI for what the runs log.
set -eu
until python -c "import os, urllib.request; urllib.request.urlopen(os.environ['PREFECT_API_URL'] + '/health')" 2>/dev/null; do
    sleep 1
done
prefect work-pool create adaptformer --type process --overwrite
for limit in gpu promotion; do
    prefect global-concurrency-limit inspect "$limit" >/dev/null 2>&1 ||
        prefect global-concurrency-limit create "$limit" --limit 1
done
prefect --no-prompt deploy --all
exec prefect worker start --pool adaptformer --type process
