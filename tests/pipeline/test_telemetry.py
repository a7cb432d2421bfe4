"""No dependency reports home: in any process of this project, in the image, in what `make` starts."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import yaml
from clones import ROOT
from imports import imported, sources

from adaptformer.base.environment import NO_TELEMETRY

REPORTING = {"onnxruntime", "mlflow", "dvc", "huggingface_hub", "ray", "prefect"}
"""The dependencies that report home, by the names under which they are imported."""


@pytest.mark.parametrize("module", ["adaptformer.__main__", "flows.__main__", "adaptformer.batch_prediction.shard"])
def test_telemetry_is_off_before_anything_else_is_imported(module):
    code = (
        f"import {module}, os, json; print(json.dumps({{name: os.environ.get(name) for name in {list(NO_TELEMETRY)}}}))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in NO_TELEMETRY}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert yaml.safe_load(done.stdout) == NO_TELEMETRY


def test_telemetry_can_be_switched_on_by_its_variable():
    code = "import os, adaptformer.export; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "ORT_DISABLE_TELEMETRY": "0"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "0\n"


def test_importing_the_package_sets_nothing_and_using_the_api_does():
    code = (
        "import os; before = dict(os.environ); import adaptformer as af, sys; same = dict(os.environ) == before; "
        "loaded = sorted({'numpy', 'torch', 'pandas'} & sys.modules.keys()); af.UserError; "
        "print(same, loaded, os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in NO_TELEMETRY}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**environment, "HTTP_PROXY": "http://proxy:3128"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "True [] 1\n"


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in sources("adaptformer", "flows", "tasks")}), ids=lambda folder: folder.name
)
def test_a_folder_that_imports_a_reporting_dependency_switches_it_off_first(folder):
    if folder == ROOT / "adaptformer/cli":
        return  # its functions run after `__main__`, which prepares the process
    reporting = {module.split(".")[0] for path in folder.glob("*.py") for module in imported(path)} & REPORTING
    assert not reporting or "environment.prepare()" in (folder / "__init__.py").read_text()


@pytest.mark.parametrize(
    ("file", "written"),
    [("project.mk", "export {} := {}\n"), ("deploy/Dockerfile", "    {}={}"), ("docs/telemetry.md", "`{}={}`")],
)
def test_dockerfile_makefile_and_page_name_every_switch_of_telemetry(file, written):
    text = (ROOT / file).read_text()
    assert [name for name, value in NO_TELEMETRY.items() if written.format(name, value) not in text] == []


def test_every_service_uses_the_image_that_switches_telemetry_off():
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    ours = {name: service["image"] for name, service in services.items() if name not in {"postgres", "store"}}
    assert set(ours.values()) == {"adaptformer"}


def test_dvc_itself_neither_counts_nor_looks_for_updates():
    config = (ROOT / ".dvc/config").read_text()
    assert "analytics = false" in config
    assert "check_update = false" in config


def test_programs_in_the_docs_switch_telemetry_off_before_they_import():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL)
    programs = [code for code in blocks if re.search("(import|from) onnxruntime", code)]
    assert len(programs) == 2
    for code in programs:
        before = re.split("(?:import|from) onnxruntime", code, maxsplit=1)[0]
        assert 'os.environ["ORT_DISABLE_TELEMETRY"] = "1"' in before


def test_a_loopback_address_goes_through_no_proxy():
    code = (
        "import adaptformer.export, urllib.request as r; print(*(bool(r.proxy_bypass(h)) for h in ('127.0.0.1', 'x')))"
    )
    environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    for given in ({}, {"no_proxy": "example.org"}, {"NO_PROXY": "example.org"}):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
            env={**environment, "HTTP_PROXY": "http://proxy:3128", **given},
        )  # fmt: skip
        assert done.stdout == "True False\n"
