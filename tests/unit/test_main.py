"""The command line: what it imports, what it prints, how it fails."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mite
import numpy as np
import pytest
import small_project
import torch
from PIL import Image
from small_project import adaptformer, run_stages, snapshot

from adaptformer import __main__ as command_line
from adaptformer.base import files, yaml_text
from adaptformer.base.errors import UserError
from adaptformer.checkpoints import fetching
from adaptformer.commands import stages
from adaptformer.config import params
from adaptformer.config.run_folder import RunFolder
from adaptformer.data import image_files
from adaptformer.export.predictor import Prediction


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = small_project.write(tmp_path / "project")
    monkeypatch.chdir(root)
    return root


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Run a command that must fail, and return its two lines of cause and remedy."""
    capsys.readouterr()
    assert adaptformer(*arguments) == 1
    told = capsys.readouterr()
    match = re.fullmatch(r"error: (.+)\n  fix: (.+)\n", told.err)
    assert match, f"not two lines: {told.err!r}"
    assert told.out == ""
    return match[1], match[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["tuning.epochs=7", "tuning.rounds=2", "--preset", "linear"],
        ["--preset", "linear", "tuning.epochs=7", "tuning.rounds=2"],
        ["tuning.epochs=7", "--preset", "linear", "tuning.rounds=2", "--quiet"],
    ],
)
def test_options_and_overrides_may_stand_in_any_order(
    arguments: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adaptformer("params", *arguments) == 0
    shown = yaml_text.parse(capsys.readouterr().out)
    assert isinstance(shown, dict)
    assert (shown["tuning"]["epochs"], shown["tuning"]["rounds"], shown["adapter"]["method"]) == (7, 2, "linear")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([command, "--help"] for command in ("train", "predict", "data", "fit", "promote", "log", "compare")),
    ],
)
def test_help_imports_nothing_that_takes_its_time(arguments: list[str]) -> None:
    heavy = (
        "torch",
        "timm",
        "torchvision",
        "pandas",
        "numpy",
        "onnxruntime",
        "onnx",
        "pydantic",
        "yaml",
        "PIL",
        "sklearn",
        "filelock",
        "mlflow",
        "dvc",
    )
    code = (
        "import sys\nfrom adaptformer.__main__ import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n"
        f"    print(end.code, [name for name in {heavy!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[0].startswith("usage: adaptformer")
    assert result.stdout.splitlines()[-1] == "0 []"


def test_help_names_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        adaptformer("--help")
    assert end.value.code == 0
    told = capsys.readouterr().out
    for name, text in stages.STAGES.items():
        assert re.search(rf"\n +{name} +{text.split(';')[0][:20]}", told), name


WRONG_CALLS = [
    ["fly"], ["train", "extra"], ["predict"], ["predict", "x", "--top", "0"], ["rollback"], ["promote", "--bogus"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG_CALLS)
def test_a_wrong_call_exits_with_1_and_shows_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        adaptformer(*arguments)
    assert end.value.code == 1, "2 means that the gate refused a model"
    cause, remedy = capsys.readouterr().err.splitlines()
    assert cause.startswith("error: ")
    assert remedy.startswith("  fix: call it as adaptformer ")


def test_a_command_whose_packages_are_not_installed_says_what_to_install(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert failure(capsys, "history") == ("mlflow is not installed", "pip install 'adaptformer[pipeline]'")


def test_a_refused_model_exits_with_2(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from adaptformer.registry import promotion

    asked: list[Any] = []

    def promote(name: str, *_: object, **options: object) -> promotion.Outcome:
        asked.append((name, options))
        return promotion.Outcome(name, None, Path("page.html"), "", moved)  # type: ignore[arg-type]

    monkeypatch.setattr(promotion, "promote", promote)
    monkeypatch.setattr("adaptformer.gate.decision.table", lambda _: "the table")
    moved: Any = None
    assert adaptformer("promote", "--who", "Ada", "--why", "better") == 2
    assert capsys.readouterr().out == "the table\n\nthe decision, with images: page.html\n"
    moved = "a move"
    assert adaptformer("promote", "--version", "3", "--model", "other", "--who", "Ada") == 0
    assert asked == [
        ("squares", {"version": None, "who": "Ada", "why": "better"}),
        ("other", {"version": "3", "who": "Ada", "why": ""}),
    ]


def test_the_traceback_is_shown_on_request_only(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "params.yaml").unlink()
    assert failure(capsys, "validate")[0] == "there is no params.yaml"
    with pytest.raises(UserError, match=r"there is no params\.yaml"):
        adaptformer("--traceback", "validate")


def test_ctrl_c_says_how_to_go_on(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "_run", interrupted)
    assert adaptformer("train") == 130
    assert capsys.readouterr().err == "stopped; run the same command again to continue\n"


def test_stages_tell_their_progress_on_standard_error(project: Path) -> None:
    command = [sys.executable, "-m", "adaptformer", "validate"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())
    assert re.fullmatch("`adaptformer fetch`, then .*\n", result.stdout)  # a result, not progress
    assert re.fullmatch(r"validate begins\nvalidate done in \d+\.\d s\n", result.stderr)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def large() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


BAD_FILES = {
    "corrupt": (large()[:200] + b"\x00" * 400 + large()[600:1200], r"unreadable file"),
    "truncated": (large()[:900], r"truncated"),
    "zero-byte": (b"", r"empty file"),
    "not an image": (b"<html>404 Not Found</html>", r"not an image"),
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_image_stops_validation_and_is_listed(
    project: Path, capsys: pytest.CaptureFixture[str], content: tuple[bytes, str]
) -> None:
    (project / "data/train/blue/bad.jpg").write_bytes(content[0])
    before = snapshot(project)
    cause, remedy = failure(capsys, "validate")
    assert re.match(r"data/ has 1 fault: 1 x unreadable file; first: 'train/blue/bad\.jpg'", cause)
    assert "artifacts/data_faults.csv" in remedy
    after = snapshot(project)
    (line,) = csv.DictReader(io.StringIO(after.pop("artifacts/data_faults.csv").decode()))
    assert line["path"] == "train/blue/bad.jpg"
    assert re.search(content[1], f"{line['fault']} {line['detail']}")
    assert after == before


def test_the_list_of_faults_goes_when_they_are_mended(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "data/train/blue/bad.jpg").write_bytes(b"")
    failure(capsys, "validate")
    (project / "data/train/blue/bad.jpg").unlink()
    run_stages("validate")
    assert not RunFolder().faults.exists()


def missing_in_train(data: Path) -> None:
    shutil.rmtree(data / "train/coral")


def one_image(data: Path) -> None:
    for path in sorted((data / "train/coral").iterdir())[1:]:
        path.unlink()


def no_train(data: Path) -> None:
    shutil.rmtree(data / "train")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (missing_in_train, r"1 x class missing in train; first: 'test/coral'"),
        (one_image, r"1 x class with one image; first: 'train/coral'"),
        (no_train, r"data/ has no train split"),
        (shutil.rmtree, r"there are no images in data/"),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None], expected: str
) -> None:
    spoil(project / "data")
    before = snapshot(project)
    assert re.search(expected, failure(capsys, "validate")[0])
    after = snapshot(project)
    after.pop("artifacts/data_faults.csv", None)
    assert after == before


def test_a_manifest_from_before_survives_a_failed_validation(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_stages("validate")
    before = (project / "artifacts/manifest.csv").read_bytes()
    (project / "data/train/blue/bad.jpg").write_bytes(b"")
    failure(capsys, "validate")
    assert (project / "artifacts/manifest.csv").read_bytes() == before


class Runs:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("it ran",)


def hostile(project: Path) -> dict[str, Any]:
    torch.save({"model": mite.encoder(), "args": Runs()}, project / "hostile.pth")
    return {"backbone__checkpoint": "hostile.pth"}


def wrong_hash(project: Path) -> dict[str, Any]:
    return {"backbone__sha256": "0" * 64}


def wrong_shapes(project: Path) -> dict[str, Any]:
    torch.save({"model": {**mite.encoder(), "norm.bias": torch.ones(24)}}, project / "shapes.pth")
    return {"backbone__checkpoint": "shapes.pth"}


def missing_tensors(project: Path) -> dict[str, Any]:
    some = {name: tensor for name, tensor in mite.encoder().items() if not name.startswith("blocks.1")}
    torch.save({"model": some}, project / "some.pth")
    return {"backbone__checkpoint": "some.pth"}


def truncated(project: Path) -> dict[str, Any]:
    (project / "mite.safetensors").write_bytes((project / "mite.safetensors").read_bytes()[:-100])
    return {}


def absent(project: Path) -> dict[str, Any]:
    return {"backbone__checkpoint": "nothing.pth"}


def licence(project: Path) -> dict[str, Any]:
    return {"backbone__allowed_licences": ["apache-2.0"]}


def no_such_model(project: Path) -> dict[str, Any]:
    return {"backbone__model": "vit_bse_patch16_224"}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (hostile, r"hostile\.pth was not opened: it would run code when unpickled"),
        (wrong_hash, r"mite\.safetensors has sha256 [0-9a-f]{64}, not backbone\.sha256 = 0{64}"),
        (wrong_shapes, r"another shape for norm\.bias \(24,\) instead of \(12,\)"),
        (missing_tensors, r"the checkpoint lacks blocks\.1\.\S+, blocks\.1\.\S+, blocks\.1\.\S+ and 9 more"),
        (truncated, r"mite\.safetensors is damaged"),
        (absent, r"backbone\.checkpoint = nothing\.pth is neither a file"),
        (licence, r"mite\.safetensors has the licence MIT, which backbone\.allowed_licences does not list"),
        (no_such_model, r"vit_bse_patch16_224 is no architecture"),
    ],
)
def test_a_bad_checkpoint_is_refused_and_the_one_from_before_stays(
    project: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], dict[str, Any]], expected: str
) -> None:
    run_stages("fetch")
    small_project.write_params(project, **spoil(project))
    before = snapshot(project)
    assert re.search(expected, failure(capsys, "fetch")[0])
    assert snapshot(project) == before
    assert not Path("it ran").exists()


@pytest.mark.parametrize(
    ("key", "value", "cause", "remedy"),
    [
        ("tuning.epoch", 3, "params.yaml has an unknown key tuning.epoch", "did you mean tuning.epochs?"),
        ("tuning.momentum", 2, "tuning.momentum = 2 in params.yaml", "correct tuning.momentum"),
    ],
)
def test_bad_params_stop_a_stage_before_anything_is_written(
    project: Path, capsys: pytest.CaptureFixture[str], key: str, value: object, cause: str, remedy: str
) -> None:
    small_project.write_params(project, **{key.replace(".", "__"): value})
    before = snapshot(project)
    told = failure(capsys, "validate")
    assert told[0].startswith(cause)
    assert told[1].startswith(remedy)
    assert snapshot(project) == before
    assert not (project / "artifacts").exists()


@pytest.mark.parametrize("now", [b"changed", None])
def test_data_that_changed_since_validation_stop_training(
    project: Path, capsys: pytest.CaptureFixture[str], now: bytes | None
) -> None:
    run_stages("validate", "fetch")
    image = project / "data/train/blue/01.png"
    image.unlink()
    if now:
        image.write_bytes(now)
    before = snapshot(project)
    cause, remedy = failure(capsys, "train")
    assert cause.startswith("data/ has changed since the manifest was written: data/train/blue/01.png")
    assert "dvc add data" in remedy
    assert snapshot(project) == before


def test_an_image_size_that_the_patches_do_not_divide_is_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_project.write_params(project, image__size=9)
    run_stages("validate", "fetch")
    before = snapshot(project)
    assert failure(capsys, "train") == (
        f"image.size = 9 is not a multiple of the patch size 4 of {mite.MODEL}", "set image.size to 8",
    )  # fmt: skip
    assert snapshot(project) == before


def test_training_that_diverges_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_project.write_params(project, tuning__base_lr=1e30, tuning__warmup=0)
    run_stages("validate", "fetch")
    cause, remedy = failure(capsys, "train")
    assert cause.startswith("training diverged in epoch 1")
    assert "tuning.base_lr" in remedy
    assert not RunFolder().adapter.exists()


def test_cuda_asked_for_in_vain_is_told(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    small_project.write_params(project, runtime__device="cuda")
    run_stages("validate", "fetch")
    assert failure(capsys, "train")[0].startswith("runtime.device = cuda, but torch finds no CUDA device")


@pytest.mark.parametrize("stage", stages.STAGES)
def test_artifacts_that_cannot_be_written_are_told(
    project: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    # A file in the folder's place stops root too, which no permission does.
    (project / "artifacts").write_text("mine")
    before = snapshot(project)
    cause, remedy = failure(capsys, stage)
    assert cause.startswith("cannot write artifacts: ")
    assert remedy.startswith("move away the file")
    assert snapshot(project) == before


def test_an_output_that_cannot_be_written_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder().backbone.mkdir(parents=True)
    assert failure(capsys, "fetch")[0].startswith("cannot write artifacts/backbone.safetensors: ")
    assert not list(RunFolder().root.glob(".*partial*"))


def test_a_folder_in_use_names_its_user(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder().lock("make run"):
        cause, _ = failure(capsys, "validate")
    assert cause.startswith(f"artifacts/ is in use by `make run` (process {os.getpid()} on ")
    assert not RunFolder().manifest.exists()
    run_stages("validate")


def test_a_failed_stage_sets_the_lock_free(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failure(capsys, "train")
    run_stages("validate")


def test_in_a_real_process_the_error_is_two_lines_behind_the_log_and_no_traceback(project: Path) -> None:
    (project / "data/train/blue/bad.jpg").write_bytes(b"")
    result = subprocess.run(
        [sys.executable, "-m", "adaptformer", "validate"],
        capture_output=True, text=True, check=False, env=_environment(),
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "")
    begins, fault, cause, remedy = result.stderr.splitlines()
    assert begins == "validate begins"
    assert fault == "train/blue/bad.jpg: unreadable file (empty file)"
    assert cause.startswith("error: data/ has 1 fault")
    assert remedy.startswith("  fix: correct what")


class Classifies:
    """Stands in for the predictor: knows cats, and fails at files named bad."""

    provider = "CPUExecutionProvider"
    classes: tuple[str, ...] = ("cat", "dog")

    def __init__(self, model: Path, device: str, *, unverified: bool = False) -> None:
        self.asked = (model, device, unverified)

    def predict(self, paths: list[Path], top: int) -> list[Prediction]:
        return [
            Prediction(path, fault="empty file")
            if "bad" in path.name
            else Prediction(path, ("cat",) * top, (0.5,) * top)
            for path in paths
        ]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from adaptformer.export import predictor

    monkeypatch.setattr(predictor, "Predictor", Classifies)
    monkeypatch.chdir(tmp_path)
    for name in ("artifacts/model.onnx", "photos/a.png", "photos/bad.png", "photos/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "photos"


def test_predictions_are_a_table(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("predict", "photos/a.png", "photos/c.png", "--top", "2") == 0
    told = capsys.readouterr()
    assert told.out == "photos/a.png   cat 50.0 %   cat 50.0 %\nphotos/c.png   cat 50.0 %   cat 50.0 %\n"
    assert told.err == "the model in artifacts/, not registered here, on CPUExecutionProvider\n"


def test_or_csv_and_nothing_else(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("predict", "photos/a.png", "--csv", "--top", "1") == 0
    told = capsys.readouterr()
    assert told.out == "path,fault,class1,probability1\nphotos/a.png,,cat,0.500000\n"
    assert told.err == "the model in artifacts/, not registered here, on CPUExecutionProvider\n"


def test_or_json_a_line_each_with_what_is_unsure(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("predict", "photos/a.png", "--json", "--top", "1", "--unsure", "0.6") == 0
    expected = {"path": "photos/a.png", "classes": [{"class": "cat", "probability": 0.5}], "unsure": True}
    assert json.loads(capsys.readouterr().out) == expected


def test_images_are_sorted_into_folders(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "a.png").write_bytes(b"a")
    assert adaptformer("predict", "photos", "--sort-into", "sorted") == 0
    assert adaptformer("predict", "photos/a.png", "--sort-into", "sorted", "--unsure", "0.6") == 0
    found = sorted(path.relative_to("sorted").as_posix() for path in Path("sorted").rglob("*.png"))
    assert found == ["cat/a.png", "cat/c.png", "unsure/a.png"]
    assert Path("sorted/cat/a.png").read_bytes() == b"a"


def test_a_class_named_unsure_is_refused_before_anything_is_sorted(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifies, "classes", ("cat", "unsure"))
    assert adaptformer("predict", "photos", "--sort-into", "sorted", "--unsure", "0.4") == 1
    assert "error: the model has a class unsure" in capsys.readouterr().err
    assert not Path("sorted").exists()


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]])
def test_what_is_no_image_in_a_folder_is_left_out_and_counted(
    photos: Path, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    assert adaptformer("predict", "photos", "--top", "1", *form) == 0
    told = capsys.readouterr()
    assert told.out.count("cat") == 2
    assert "bad" not in told.out
    assert told.err.endswith("left out 1 files in folders that are no images\n")


def test_where_nothing_is_an_image_it_is_an_error(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "c.png"):
        (photos / name).unlink()
    assert adaptformer("predict", "photos") == 1
    assert "none of the files is an image" in capsys.readouterr().err
    (photos / "bad.png").unlink()
    assert "photos holds no files" in failure(capsys, "predict", "photos", "--csv")[0]


@pytest.mark.parametrize("share", ["0", "1.5", "-1"])
def test_a_probability_is_between_0_and_1(photos: Path, share: str) -> None:
    with pytest.raises(SystemExit, match="1"):
        adaptformer("predict", "photos", "--unsure", share)


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]])
def test_faulty_files_fail_the_command_after_the_others_are_classified(
    photos: Path, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    named = ("photos/a.png", "photos/bad.png", "photos/c.png")
    assert adaptformer("predict", *named, "--top", "1", *form) == 1
    told = capsys.readouterr()
    assert told.out.count("cat") == 2
    assert "empty file" in told.out
    assert told.err.endswith(
        "error: 1 of the files could not be read as images\n"
        "  fix: the others were classified; repair these, or move them away\n"
    )


def test_a_missing_model_or_path_is_told(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cause, remedy = failure(capsys, "predict", "photos", "--model", "nothing.onnx")
    assert cause == "nothing.onnx does not exist"
    assert "--model" in remedy
    assert failure(capsys, "predict", "nothing", "--csv")[0] == "nothing does not exist"


def test_data_sample_and_import_record_what_they_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from adaptformer.dataset_import import replacement

    source = small_project.write(tmp_path / "source") / "data"
    project = small_project.write(tmp_path / "project")
    shutil.rmtree(project / "data")
    (project / ".dvc").mkdir()
    monkeypatch.chdir(project)
    recorded: list[Path] = []
    monkeypatch.setattr(replacement, "dvc_add", recorded.append)
    assert adaptformer("data", "sample") == 0
    assert capsys.readouterr().out == "data/ holds the sample's 1,797 digits; recorded in data.dvc\n"
    assert "is not empty" in failure(capsys, "data", "sample")[0]
    shutil.rmtree(project / "data")
    assert adaptformer("data", "import", str(source)) == 0
    assert recorded == [Path("data")] * 2
    told = capsys.readouterr().out
    assert re.match(r"data/ holds 30 images of 3 classes .*; recorded in data\.dvc\n", told)
    assert "the model will be registered as squares" in told
    assert sorted(snapshot(project / "data").values()) == sorted(snapshot(source).values())
    assert "is not empty" in failure(capsys, "data", "import", str(source))[0]
    assert adaptformer("data", "import", str(source), "--replace") == 0
    (project / ".dvc").rmdir()
    assert adaptformer("data", "import", str(source), "--replace") == 0
    assert capsys.readouterr().out.count("recorded") == 1


def test_pretrain_makes_a_checkpoint_that_fetch_takes(project: Path) -> None:
    arguments = ("data/train", "own.safetensors", "--model", mite.MODEL, "--epochs", "1", "--threads", "2")
    assert adaptformer("pretrain", *arguments, "--origin", "squares", "--licence", "CC0-1.0") == 0
    card = fetching.fetch(mite.MODEL, "own.safetensors", None, ["cc0-1.0"])[1]
    assert (card.licence, card.note) == ("CC0-1.0", "MAE-pretrained by this project on 21 images (squares), 1 epochs")
    assert torch.get_num_threads() == 2


def test_a_reader_that_has_seen_enough_is_no_error(project: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "adaptformer", "params"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(command_line.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()  # before anything is written
    assert writer.stderr.read() == ""
    assert writer.wait(60) == 0


def classes_of(folder: Path, side: int) -> Path:
    for number in range(12):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side + 10, side), (20 * number, number, 0)).save(path)
    return folder


@pytest.mark.parametrize(("side", "preset"), [(200, True), (33, True), (31, False)])
def test_an_import_says_what_comes_next_for_what_it_found(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], side: int, preset: bool
) -> None:
    small_project.write_params(project, registry__model="digits")
    assert adaptformer("data", "import", str(classes_of(tmp_path / "my pets", side)), "--replace") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"half of the images have a shorter side of {side} pixels or more; image.size is {mite.SIDE}"
    assert any("adaptformer params --preset photos" in line for line in lines) == preset
    assert "  make run" in lines
    assert lines[-1] == (
        "the model will be registered as digits, the sample's name: "
        "`adaptformer params registry.model=my-pets --write` gives it its own"
    )


def test_an_import_gives_the_registered_model_its_name(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(classes_of(tmp_path / "pets", 30))
    before = snapshot(project)
    assert "registry.model" in failure(capsys, "data", "import", source, "--replace", "--model", "a b")[0]
    assert snapshot(project) == before
    assert adaptformer("data", "import", source, "--replace", "--model", "pets") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the model will be registered as pets"
    assert params.load().registry.model == "pets"


def test_images_are_added_and_what_is_none_is_left_out(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = classes_of(tmp_path / "more", 30)
    (more / "a" / "notes.txt").write_text("notes")
    before = snapshot(project / "data")
    assert "1 of 13 files" in failure(capsys, "data", "import", str(more), "--add")[0]
    assert snapshot(project / "data") == before
    assert adaptformer("data", "import", str(more), "--add", "--skip-bad") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("added 12 images")
    assert f"new classes: {', '.join('ab')}: a model trained before does not know them" in lines
    assert "notes.txt" in (project / "artifacts/left_out.csv").read_text()
    assert len(snapshot(project / "data")) == len(before) + 12
    with pytest.raises(SystemExit, match="1"):
        adaptformer("data", "import", str(more), "--add", "--replace")


def test_what_an_import_has_read_is_not_read_again(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def noting(reader: Callable[..., Any]) -> Callable[..., Any]:
        def noted(path: Path, *limit: int | None) -> Any:
            if (project / "data") in path.absolute().parents:
                read.append(path)
            return reader(path, *limit)

        return noted

    monkeypatch.setattr(image_files, "read", noting(image_files.read))
    monkeypatch.setattr(files, "sha256_file", noting(files.sha256_file))
    for number, how in enumerate(("--replace", "--add")):
        source = classes_of(tmp_path / how, 30 + number)
        read.clear()
        assert adaptformer("data", "import", str(source), how) == 0
        assert not read
        assert adaptformer("validate") == 0  # its page shows some of the images
        timing = json.loads((project / "artifacts/timing/validate.json").read_text())
        assert timing["known_before"] == timing["images"] == 12 * (number + 1)


def test_a_second_validation_reads_only_what_has_changed(project: Path) -> None:
    images = sorted((project / "data").rglob("*.png"))
    for path in images:
        os.utime(path, (1_600_000_000, 1_600_000_000))  # what was written just now is not trusted
    for known in (0, len(images), len(images) - 1):
        run_stages("validate")
        timing = json.loads((project / "artifacts/timing/validate.json").read_text())
        assert (timing["known_before"], timing["images"]) == (known, len(images))
        if known:
            images[0].write_bytes(images[0].read_bytes())


def test_the_groups_of_a_list_are_those_of_the_splits(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = classes_of(tmp_path / "images", 30)
    rows = [f"{path.relative_to(images)},{path.parent.name},g{int(path.stem) // 3}" for path in images.rglob("*.png")]
    (images / "list.csv").write_text("path,label,group\n" + "\n".join(rows))
    assert adaptformer("data", "import", str(images / "list.csv"), "--replace") == 0
    assert "data.group in params.yaml is now /(.+?)__" in capsys.readouterr().out
    assert params.load().data.group == "/(.+?)__"
    assert adaptformer("fetch") == 0
    assert adaptformer("validate") == 0
