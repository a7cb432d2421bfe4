"""Errors for users from exceptions of MLflow, its databases, stores and the network: one remedy for each cause."""

from __future__ import annotations

import re
from dataclasses import dataclass

from adaptformer.base import files
from adaptformer.base.errors import UserError, without_credentials
from adaptformer.tracking.locations import database, tracking_place

PACKAGES = {
    "alembic", "azure", "boto3", "botocore", "google", "mlflow", "psycopg", "psycopg2", "pymysql", "requests",
    "s3transfer", "sqlalchemy", "sqlite3", "urllib3",
}  # fmt: skip
"""Packages whose exceptions mean that MLflow, its database, its store of files or the network failed."""
_LONGEST = 600
"""Characters of a library's message that are shown: the helpful sentence is rarely the first one."""


@dataclass(frozen=True)
class _Cause:
    """A cause of failures: a pattern of the library's message, the cause in words, and the remedy."""

    words: str
    what: str
    remedy: str


_CAUSES = (
    _Cause(
        "filesystem tracking backend",
        "is a folder, which MLflow no longer supports as a store of runs and models",
        "set MLFLOW_TRACKING_URI to a database, such as sqlite:///mlflow.db, or to a server's address (`mlflow "
        "migrate-filestore` transfers the runs of the folder)",
    ),
    _Cause(
        "unsupported URI|No plugin found|Could not parse .*URL",
        "is not an address that MLflow knows",
        "set MLFLOW_TRACKING_URI to a server's address with http:// or https://, or to a database's, such as "
        "sqlite:///mlflow.db",
    ),
    _Cause("Connection refused", "does not run", "start the server, or correct MLFLOW_TRACKING_URI"),
    _Cause(
        "Failed to resolve|Name or service not known|Temporary failure in name resolution|could not translate host",
        "is on a host whose name cannot be resolved",
        "correct MLFLOW_TRACKING_URI, or check the network's name service",
    ),
    _Cause(
        "CERTIFICATE_VERIFY_FAILED|SSLError|SSL: ",
        "has a certificate that is not trusted here",
        "set MLFLOW_TRACKING_SERVER_CERT_PATH to the file of its authority, or correct MLFLOW_TRACKING_URI",
    ),
    _Cause(
        r"ProxyError|error code 407",
        "cannot be reached through the proxy",
        "add its host to NO_PROXY, or correct HTTP_PROXY and HTTPS_PROXY",
    ),
    _Cause(
        "timed out|Timeout|timeout expired",
        "does not answer in time",
        "see whether the server works, or allow more time with MLFLOW_HTTP_REQUEST_TIMEOUT (seconds)",
    ),
    _Cause(
        r"error code 401|Unauthorized|password authentication failed|Access denied for user",
        "refuses this user",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; for a database, correct "
        "the user and the password in MLFLOW_TRACKING_URI",
    ),
    _Cause(
        r"error code 403|Forbidden|Invalid Host header",
        "refuses the request",
        "ask the server's operator to give you permission, or to allow this address (`mlflow server --allowed-hosts`)",
    ),
    _Cause(
        r"out-of-date database schema|Can't locate revision",
        "has a database of another version of MLflow",
        "install the MLflow that made it; or keep a copy of the database, then `mlflow db upgrade` on its address",
    ),
    _Cause(
        "file is not a database|disk image is malformed",
        "has a damaged database",
        "keep the damaged file elsewhere, and put a backup in its place",
    ),
    _Cause("database is locked", "has a database that another process keeps busy", "wait until that process ends"),
    _Cause(
        "NoCredentialsError|Unable to locate credentials|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken",
        "keeps files in a store that does not accept your credentials",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with AWS_PROFILE",
    ),
    _Cause(
        "EndpointConnectionError|Could not connect to the endpoint",
        "keeps files in a store that does not answer",
        "check that the store runs, or correct AWS_ENDPOINT_URL (MLFLOW_S3_ENDPOINT_URL)",
    ),
    _Cause("NoSuchBucket", "keeps files in a bucket that does not exist", "create the bucket"),
    _Cause(
        "is not a valid JSON|Expecting value|error code 404|error code 405",
        "is not MLflow, or another version of it",
        "correct MLFLOW_TRACKING_URI: it is the address of the pages, without a path behind it",
    ),
)


def explained(error: Exception, assurance: str) -> UserError | None:
    """Return the error for the user, whose remedy ends in `assurance`; None for a defect of this project."""
    if isinstance(error, UserError):
        return error
    if refused := files.refusal(error, likely=database()):
        return UserError(refused.cause, f"{refused.remedy}; {assurance}")
    again = f"then run the same command again; {assurance}"
    missing = next(
        (one for one in files.chain(error) if isinstance(one, ModuleNotFoundError) and one.name != "mlflow"), None
    )
    if missing is not None:
        return UserError(
            f"MLflow at {tracking_place()} needs a package that is not installed: {missing.name}",
            f"`pip install {missing.name}` (pip install 'adaptformer[services]' for PostgreSQL and S3), {again}",
        )
    if type(error).__module__.partition(".")[0] not in PACKAGES and not isinstance(error, ConnectionError):
        return None
    message = " ".join(f"{type(one).__name__}: {one}" for one in files.chain(error))
    known = next((cause for cause in _CAUSES if re.search(cause.words, message)), None)
    if known is None:
        cause = f"MLflow at {tracking_place()} fails: {type(error).__name__}: {one_line(error)}"
        return UserError(cause, f"check that it answers there, {again}")
    return UserError(f"MLflow at {tracking_place()} {known.what}: {one_line(error)}", f"{known.remedy}, {again}")


def one_line(error: BaseException) -> str:
    """Return the message of an exception on one line, without SQL statements and credentials."""
    text = " ".join(str(error).split()).partition(" [SQL: ")[0]
    return without_credentials(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
