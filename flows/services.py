"""`make up`: a Prefect server with worker, deployments and limits, and MLflow's pages, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]
import requests

from adaptformer.base import interruption
from adaptformer.base.errors import UserError
from adaptformer.cli import exit_code
from adaptformer.tracking.locations import tracking_place, tracking_uri
from adaptformer.tracking.mlflow_store import connect
from flows import ROOT, prefect_database

HOST = "127.0.0.1"
POOL = "adaptformer"
LIMITS = {"gpu": 1, "promotion": 1}
START_SECONDS = 120
STOP_SECONDS = 1
"""After this time a process is killed: nothing is lost, and the user who pressed Ctrl-C wants the terminal back."""


FOREIGN = (
    "MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_ARTIFACTS_ONLY", "MLFLOW_DEFAULT_ARTIFACT_ROOT", "MLFLOW_STATIC_PREFIX",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI", "MLFLOW_REGISTRY_STORE_URI", "PREFECT_PROFILE",
)  # fmt: skip
"""Options of `mlflow server` and Prefect's profile that other projects may have set; they do not hold here."""


class Services:
    """The processes of `make up`, their addresses and their logs."""

    def __init__(self) -> None:
        self.prefect_port = _free_port(
            "ADAPTFORMER_PREFECT_PORT",
            own_prefect_port(),
            "api.url in prefect.toml, or ADAPTFORMER_PREFECT_PORT for once",
        )
        self.mlflow_port = _free_port("ADAPTFORMER_MLFLOW_PORT", 5000, "ADAPTFORMER_MLFLOW_PORT in the Makefile")
        self.api = f"http://{HOST}:{self.prefect_port}/api"
        self.environment = {
            "PREFECT_HOME": str(ROOT / ".prefect"),
            **os.environ,
            "PWD": str(ROOT),  # prefect.yaml uses it, and it is wrong after `make -C` or in a subprocess
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_API_PORT": str(self.prefect_port),
            # Places are leased on disk: the place of a killed run is free again after a minute.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_WORKER_QUERY_SECONDS": "2",  # a requested run begins soon, not up to 10 s later
            "ADAPTFORMER_MLFLOW_PAGES": f"http://{HOST}:{self.mlflow_port}",  # for links on Prefect's pages
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, for features not used here
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        for name in FOREIGN:
            self.environment.pop(name, None)
        if "PREFECT_SERVER_DATABASE_CONNECTION_URL" not in self.environment:
            database = prefect_database(self.environment["PREFECT_HOME"])
            self.environment.setdefault("PREFECT_API_DATABASE_CONNECTION_URL", database)
        self.logs = Path(self.environment["PREFECT_HOME"]) / "logs"
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start all services in order and return when all answer. Raises UserError if one does not start."""
        self.logs.mkdir(parents=True, exist_ok=True)
        print("starting the Prefect server ...")
        self._spawn("prefect-server", "prefect", "server", "start", "--host", HOST)
        if not tracking_uri().startswith("http"):
            self.environment["MLFLOW_BACKEND_STORE_URI"] = tracking_uri()  # not an argument: it may hold a password
            connect()  # creates the database, so that the server and a flow do not both migrate it
            self._spawn(
                "mlflow", sys.executable, "-m", "mlflow", "server",
                "--host", HOST, "--port", str(self.mlflow_port), "--workers", "1",
            )  # fmt: skip
        self._wait("prefect-server", lambda: _answers(f"{self.api}/health"))
        print("deploying adaptformer/train and its companions ...")
        self._command("prefect", "work-pool", "create", POOL, "--type", "process", "--overwrite")
        self._spawn("prefect-worker", "prefect", "worker", "start", "--pool", POOL, "--type", "process")
        for limit, places in LIMITS.items():
            self._make_limit(limit, places)
        self._command("prefect", "--no-prompt", "deploy", "--all")
        self._wait("prefect-worker", self._worker_is_online)
        if "mlflow" in self.running:
            self._wait("mlflow", lambda: _answers(f"http://{HOST}:{self.mlflow_port}/health"))

    def watch(self) -> None:
        """Wait until one of the processes ends, and raise UserError then."""
        while True:
            for name in self.running:
                self._require_alive(name)
            time.sleep(1)

    def stop(self) -> None:
        """End all processes, including runs of the worker; kill those that are still alive after STOP_SECONDS."""
        everyone = psutil.Process().children(recursive=True)
        for process in reversed(self.running.values()):
            process.terminate()
        _, alive = psutil.wait_procs(everyone, timeout=STOP_SECONDS)
        for child in alive:
            child.kill()
        psutil.wait_procs(alive, timeout=STOP_SECONDS)

    def _spawn(self, name: str, *command: str) -> None:
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def _command(self, *command: str) -> None:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise UserError(f"`{' '.join(command)}` failed: {last}", f"see the logs in {self.logs}/")

    def _make_limit(self, name: str, places: int) -> None:
        """Create a global concurrency limit unless it exists; the user may have set another number of places."""
        url = f"{self.api}/v2/concurrency_limits/"
        reply = requests.post(url, json={"name": name, "limit": places, "active": True}, timeout=30)
        if not reply.ok and reply.status_code != requests.codes.conflict:
            raise UserError(f"the limit {name} was not made: {reply.reason}", f"see the logs in {self.logs}/")

    def _worker_is_online(self) -> bool:
        reply = requests.post(f"{self.api}/work_pools/{POOL}/workers/filter", json={}, timeout=30)
        return any(worker["status"] == "ONLINE" for worker in reply.json())

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + START_SECONDS
        while not ready():
            self._require_alive(name)
            if time.monotonic() > until:
                raise UserError(f"{name} does not answer after {START_SECONDS} s", f"see {self.logs / name}.log")
            time.sleep(0.3)

    def _require_alive(self, name: str) -> None:
        code = self.running[name].poll()
        if code is not None:
            raise UserError(f"{name} has ended with exit code {code}", f"see {self.logs / name}.log")


def main() -> int:
    """Start the services, print their addresses, wait for Ctrl-C or SIGTERM, stop them; return the exit code."""
    for end in (signal.SIGTERM, signal.SIGINT):  # a shell makes background processes ignore SIGINT
        signal.signal(end, _interrupt)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return exit_code.run_command(_serve)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _serve() -> None:
    interruption.on_stop("stopping the services; the same command starts them again")
    services = Services()
    try:
        services.start()
        print(_addresses(services))
        services.watch()
    except KeyboardInterrupt:
        print(interruption.line(), file=sys.stderr)  # the usual end, not a failure: the exit code is 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave processes behind
        services.stop()


def _addresses(services: Services) -> str:
    prefix = f"PREFECT_API_URL={services.api} " if services.prefect_port != own_prefect_port() else ""
    mlflow = f"http://{HOST}:{services.mlflow_port}" if "mlflow" in services.running else tracking_place()
    return f"""ready:
  Prefect   http://{HOST}:{services.prefect_port}
  MLflow    {mlflow}
  run       {prefix}prefect deployment run adaptformer/train --watch
  logs      {services.logs}/
  stop      Ctrl-C"""


def own_prefect_port() -> int:
    """Return the port of this project's server, to which its commands go: that of api.url in prefect.toml."""
    file = ROOT / "prefect.toml"
    try:
        port = urlsplit(tomllib.loads(file.read_text(encoding="utf-8"))["api"]["url"]).port
    except (OSError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{file} has no address of a server ({reason})", "give it api.url, such as http://127.0.0.1:4200/api"
        ) from error
    return port or 80


def _free_port(variable: str, default: int, place: str) -> int:
    """Return the port that a variable names, else the default, whose `place` a project can change."""
    value = os.environ.get(variable) or str(default)
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise UserError(f"{variable}={value} is not a port number", "give a number from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, int(value)))
        except OSError as error:
            raise UserError(
                f"port {value} is taken",
                "stop the program that uses it; if that is `make up` of another project, give this one another port: "
                f"{place}",
            ) from error
    return int(value)


def _answers(url: str) -> bool:
    try:
        return bool(requests.get(url, timeout=5).ok)
    except OSError:  # includes the exceptions of requests
        return False


if __name__ == "__main__":
    sys.exit(main())
