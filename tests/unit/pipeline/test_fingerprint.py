"""What a resumed training must find unchanged."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from adaptformer.base import files, source_code
from adaptformer.config import params
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline import stages


class TestFingerprint:
    @pytest.fixture(autouse=True)
    def _inside(self, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(finished)

    def fingerprint(self, precision: str = "fp32", device: str = "cpu", **changes: object) -> dict[str, object]:
        return stages.fingerprint("train", params.load().model_copy(update=changes), RunFolder(), precision, device)

    def test_the_fingerprint_names_everything_that_decides_the_result(self) -> None:
        assert set(self.fingerprint()) == {
            "image", "adapter", "training", "manifest", "manifest_checksum", "backbone", "code", "versions",
            "precision", "device",
        }  # fmt: skip
        assert self.fingerprint() == self.fingerprint()
        json.dumps(self.fingerprint())

    def test_params_of_the_stage_and_precision_count_and_others_do_not(self) -> None:
        loaded = params.load()
        longer = loaded.training.model_copy(update={"epochs": 9})
        assert self.fingerprint(training=longer)["training"] != self.fingerprint()["training"]
        assert self.fingerprint("bf16")["precision"] == "bf16"
        assert self.fingerprint(device="cuda")["device"] == "cuda"
        for section, change in (
            ("evaluation", {"batch_size": 1}),
            ("runtime", {"threads": 9}),
            ("registry", {"model": "x"}),
        ):
            other = getattr(loaded, section).model_copy(update=change)
            assert self.fingerprint(**{section: other}) == self.fingerprint()

    @pytest.mark.parametrize("package", ["torch", "timm", "pillow"])
    def test_another_version_of_what_computes_counts(self, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
        before = self.fingerprint()
        true = importlib.metadata.version
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == package else true(name))
        after = self.fingerprint()
        assert {key for key in before if before[key] != after[key]} == {"versions"}

    @pytest.mark.parametrize(
        ("changed", "name"),
        [
            ("artifacts/manifest.csv", "manifest"), ("artifacts/backbone.safetensors", "backbone"),
            ("data/augmentation.py", "code"),
            ("training/loop.py", "code"), ("model/adapter.py", "code"), ("randomness.py", "code"),
            ("export/graph.py", None), ("evaluation/metrics.py", None),
        ],
    )  # fmt: skip
    def test_files_that_the_stage_depends_on_count_and_others_do_not(
        self, monkeypatch: pytest.MonkeyPatch, changed: str, name: str | None
    ) -> None:
        before = self.fingerprint()
        for module in (files, source_code):
            of = "sha256_file" if module is files else "sha256"
            true = getattr(module, of)
            monkeypatch.setattr(
                module, of, lambda path, true=true: "another" if path.as_posix().endswith(changed) else true(path)
            )
        after = self.fingerprint()
        assert {key for key in before if before[key] != after[key]} == ({name} if name else set())

    @pytest.mark.parametrize("template", ["evaluation/report.html.j2", "pages/base.html.j2"])
    def test_templates_of_pages_count_as_code(self, monkeypatch: pytest.MonkeyPatch, template: str) -> None:
        names = ("train", "evaluate")
        before = [stages.fingerprint(name, params.load(), RunFolder())["code"] for name in names]
        true = source_code.sha256
        monkeypatch.setattr(
            source_code, "sha256", lambda path: "another" if path.as_posix().endswith(template) else true(path)
        )
        after = [stages.fingerprint(name, params.load(), RunFolder())["code"] for name in names]
        assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]
