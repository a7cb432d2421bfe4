"""Make buckets that are not there yet: `python deploy/buckets.py NAME…`; the store is that of the AWS variables."""

from __future__ import annotations

import sys
import time

import boto3
from botocore.exceptions import ClientError, EndpointConnectionError

SECONDS_TO_WAIT = 60


def main() -> None:
    """Wait until the store answers, and make each bucket."""
    client = boto3.client("s3")
    until = time.monotonic() + SECONDS_TO_WAIT
    for name in sys.argv[1:]:
        while True:
            try:
                client.create_bucket(Bucket=name)
            except ClientError as error:
                if error.response["Error"]["Code"] not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                    raise
            except EndpointConnectionError:
                if time.monotonic() > until:
                    raise
                time.sleep(1)
                continue
            break


if __name__ == "__main__":
    main()
