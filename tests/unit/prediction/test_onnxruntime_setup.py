"""One package of onnxruntime is used, whichever it is; several are told; CUDA's libraries are found."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import onnxruntime
import pytest

from adaptformer.prediction import onnxruntime_setup
from adaptformer.prediction.predictor import Predictor


@pytest.fixture(autouse=True)
def asked_for_the_first_time() -> Iterator[None]:
    """A process warns and loads once: each of these tests begins as a new process does, and so does the next test."""
    for once in (onnxruntime_setup.warn_of_several, onnxruntime_setup.load_cuda):
        once.cache_clear()
    yield
    for once in (onnxruntime_setup.warn_of_several, onnxruntime_setup.load_cuda):
        once.cache_clear()


def installed(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    def distribution(name: str) -> str:
        if name not in packages:
            raise metadata.PackageNotFoundError(name)
        return name

    monkeypatch.setattr(metadata, "distribution", distribution)


@pytest.mark.parametrize("package", onnxruntime_setup.PACKAGES)
def test_one_package_is_used_without_a_word(
    package: str, onnx_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    installed(monkeypatch, package)
    Predictor(onnx_file, device="cpu")
    assert caplog.text == ""


def test_two_packages_are_told_once_with_what_to_do(
    onnx_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    installed(monkeypatch, "onnxruntime", "onnxruntime-gpu", "numpy")
    Predictor(onnx_file, device="cpu")
    Predictor(onnx_file, device="cpu")
    assert [record.getMessage() for record in caplog.records] == [
        "onnxruntime and onnxruntime-gpu are installed and write over each other's files: "
        "run `pip uninstall --yes onnxruntime onnxruntime-gpu`, then install one again"
    ]


@pytest.mark.parametrize(
    ("device", "driver", "offered", "loads"),
    [
        ("auto", True, True, 1),
        ("cpu", True, True, 0),
        ("auto", False, True, 0),
        ("auto", True, False, 0),
    ],
)
def test_cuda_is_loaded_before_a_session_that_may_use_it(
    device: str, driver: bool, offered: bool, loads: int,
    onnx_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    events: list[str] = []

    def library(name: str) -> None:
        if not driver:
            raise OSError(f"{name}: cannot open shared object file")

    def preload() -> None:
        print("Failed to load libcufft.so.12")
        events.append("loaded")

    session = onnxruntime.InferenceSession

    def opened(*given: object, **options: object) -> object:
        events.append("opened")
        return session(given[0], given[1], providers=["CPUExecutionProvider"])

    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"][not offered :]
    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    for _ in range(2):
        Predictor(onnx_file, device=device)  # type: ignore[arg-type]
    assert events == [*["loaded"] * loads, "opened", "opened"]
    assert capsys.readouterr().out == ""
