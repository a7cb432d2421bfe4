"""Which model answers: the champion if there is one, and what the first line says of it."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import clones
import pytest
import registered
from registered import ask, challenge, wrong

import adaptformer as af
from adaptformer.__main__ import main
from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline import summary
from adaptformer.prediction import model_file
from adaptformer.registry import local_record, model_choice, promotion
from adaptformer.tracking import mlflow_store

FOLDER = RunFolder()
PHOTO = "photo.ppm"


@pytest.fixture(scope="module")
def settled(database, tmp_path_factory):
    """A checkout in which version 1 is champion, version 2 was refused and is the model in artifacts/."""
    root = tmp_path_factory.mktemp("settled")
    with pytest.MonkeyPatch.context() as patch:
        enter(root, database, "pets", patch)
        registered.register(root / "runs", "pets", wrong(60))
        assert ask("pets").promoted
        challenge(root / "runs", "pets", wrong(90))
        assert not ask("pets").promoted
        put_into_artifacts(root, wrong(90), 0.2)
    return root


def enter(root, database, name, patch):
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    text = (clones.ROOT / "params.yaml").read_text()
    (root / "params.yaml").write_text(re.sub(r"model: digits\b", f"model: {name}", text))
    (root / PHOTO).write_bytes(registered.picture("red", 1))
    patch.chdir(root)


@pytest.fixture
def checkout(database, tmp_path, monkeypatch, name):
    """A checkout whose registered model is the test's own; nothing is registered, and no model is in artifacts/."""
    enter(tmp_path, database, name, monkeypatch)
    return tmp_path


@pytest.fixture
def champion(settled, database, tmp_path, monkeypatch):
    """A copy of the settled checkout, with the same registry, which the test leaves as it is."""
    shutil.copytree(settled / "artifacts", tmp_path / "artifacts")
    enter(tmp_path, database, "pets", monkeypatch)
    return "pets"


def put_into_artifacts(root, wrongs, sharpness):
    made = registered.run_folder(root / "made", "x", wrongs, sharpness=sharpness)
    FOLDER.root.mkdir(exist_ok=True)
    for path in made.root.iterdir():
        shutil.copy2(path, FOLDER.root)


def chosen(named=None, **options):
    return model_choice.choose(named, FOLDER, **options)


def file(named, scratch):
    scratch.mkdir(exist_ok=True)
    return model_choice.file_of(chosen(named), FOLDER, scratch)


@pytest.fixture
def no_mlflow(monkeypatch):
    def refuse():
        raise AssertionError("MLflow was asked")

    monkeypatch.setattr(mlflow_store, "connect", refuse)


def test_the_champion_answers_even_if_another_model_was_trained_later(champion, no_mlflow, tmp_path, capsys):
    assert main(["predict", PHOTO, "--csv"]) == 0
    told = capsys.readouterr()
    assert re.match(rf"{champion} version 1, champion since 20\S+ \(MLflow was asked on 20\S+\), on CPU", told.err)
    file = model_choice.file_of(chosen(), FOLDER, tmp_path / "scratch")
    assert file.parent.parent == local_record.MODELS
    assert model_file.sha256(file) == file.parent.name == local_record.read(champion).versions["1"].sha256
    assert model_file.sha256(FOLDER.model) != file.parent.name


def test_batch_prediction_uses_the_champion(champion, no_mlflow, tmp_path, capsys):
    assert main(["predict", PHOTO, "--output", "out", "--workers", "1"]) == 0
    assert capsys.readouterr().err.startswith(f"{champion} version 1, champion since")
    assert model_file.sha256(tmp_path / "out/model.onnx") == local_record.read(champion).versions["1"].sha256


def test_the_python_api_loads_a_registered_version(champion):
    model = af.load(f"models:/{champion}@champion")
    assert re.match(f"{champion} version 1, champion since", model.name)
    assert model.predict([PHOTO])[0].label == "red"
    assert af.load("v2").name.startswith(f"{champion} version 2, refused on")
    with pytest.raises(UserError, match="a registered model has no adapter and backbone here"):
        model.embed([PHOTO])


@pytest.mark.parametrize(
    ("named", "line"),
    [
        ("champion", r"NAME version 1, champion since \S+ \(MLflow"),
        ("v1", r"NAME version 1, champion since"),
        ("v2", r"NAME version 2, refused on \S+: not in use \(MLflow"),
        ("models:/NAME@champion", r"NAME version 1, champion since"),
        ("models:/NAME@challenger", r"NAME version 2, refused on"),
        ("models:/NAME/2", r"NAME version 2, refused on"),
        ("artifacts/model.onnx", r"NAME version 2, refused on \S+: not in use"),
        ("mine.onnx", r"mine.onnx, not registered here$"),
    ],
)
def test_the_first_line_names_version_and_verdict(champion, tmp_path, named, line):
    registered.write_model(tmp_path / "mine.onnx", 0.7)
    named = named.replace("NAME", champion)
    assert re.match(line.replace("NAME", champion), chosen(named).line)
    version = chosen(named).version or "2"
    if named != "mine.onnx":
        sha256 = local_record.read(champion).versions[version].sha256
        assert model_file.sha256(file(named, tmp_path / "scratch")) == sha256


@pytest.mark.parametrize(
    ("named", "cause"),
    [
        ("v7", "NAME has no version 7"),
        ("models:/NAME@best", "NAME has no alias best"),
        ("models:/NAME", "names no registered version"),
        ("models:/none@champion", "no model none is registered"),
        ("nothing.onnx", "nothing.onnx does not exist"),
        ("s3://bucket/model.onnx", "is an address"),
        ("artifacts", "is a folder"),
    ],
)
def test_models_that_do_not_exist_and_other_things_are_refused(champion, named, cause):
    with pytest.raises(UserError, match=cause.replace("NAME", champion)):
        chosen(named.replace("NAME", champion))


def test_without_a_champion_the_model_of_the_run_folder_answers(checkout, name, no_mlflow):
    put_into_artifacts(checkout, wrong(60), 0.1)
    local_record.RECORDS.mkdir()
    with pytest.raises(AssertionError, match="MLflow was asked"):  # nobody has told yet whether there is one
        chosen()


def test_a_model_that_the_gate_has_not_judged_is_called_so(checkout, name):
    registered.register(checkout / "runs", name, wrong(60))
    put_into_artifacts(checkout, wrong(60), 0.1)
    assert chosen().file == FOLDER.model
    assert chosen().line.startswith(f"{name} version 1, not judged: not in use")
    with pytest.raises(UserError, match=f"{name} has no champion"):
        chosen("champion")


def test_without_any_registry_the_file_answers(checkout, monkeypatch, no_mlflow):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    put_into_artifacts(checkout, wrong(60), 0.1)
    assert chosen().line == "the model in artifacts/, not registered here"
    with pytest.raises(UserError, match="there is no registry here"):
        chosen("v1")


def test_a_move_on_another_machine_is_unknown_until_mlflow_is_asked(champion, tmp_path):
    client = mlflow_store.connect()
    client.set_registered_model_alias(champion, "champion", "2")
    assert chosen().version == "1"
    assert "MLflow was asked on" in chosen().line
    assert chosen(f"models:/{champion}@champion").version == "2"
    assert chosen().version == "2"  # asking has refreshed the record
    client.set_registered_model_alias(champion, "champion", "1")
    assert chosen(ask=True).version == "1"


def test_moves_change_who_answers_and_one_that_is_killed_leaves_no_record(checkout, name, monkeypatch):
    for errors, sharpness in ((60, 0.1), (20, 0.4)):
        registered.register(checkout / "runs", name, wrong(errors), sharpness=sharpness)
        assert ask(name).promoted
    assert chosen().version == "2"
    promotion.rollback(name, to=None, who="Bob", why="rain")
    assert chosen().version == "1"
    both = {local_record.read(name).versions[number].sha256 for number in ("1", "2")}
    assert {path.name for path in local_record.MODELS.iterdir()} == both
    with monkeypatch.context() as context:
        context.setattr(local_record, "remember", lambda *_: 1 / 0)
        promotion.rollback(name, to=None, who="Bob", why="snow")
    assert local_record.read(name) is None
    assert chosen().version == "2"


def test_a_damaged_record_or_file_is_made_again(champion, tmp_path):
    record = local_record.RECORDS / f"{champion}.json"
    record.write_text(record.read_text().replace('"champion": "1"', '"champion": "2"'))
    assert chosen().version == "1"
    kept = file(None, tmp_path / "scratch")
    content = kept.read_bytes()
    kept.write_bytes(content[:-1] + b"x")
    again = file(None, tmp_path / "scratch")
    assert again.read_bytes() == content
    assert again == kept


def test_a_record_of_another_registry_is_not_believed(champion, tmp_path, monkeypatch, empty_database):
    shutil.copy2(empty_database, tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    assert chosen().file == FOLDER.model


def test_predicting_with_the_champion_imports_no_mlflow(champion, tmp_path):
    program = (
        "import sys; from adaptformer.__main__ import main; code = main(['predict', 'photo.ppm']); "
        "sys.exit(code or bool({'mlflow', 'torch'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("refused", r"version 2, refused on \S+: not in use; version 1 is champion since \S+$"),
        ("champion", r"version 1, champion since \S+$"),
        ("not judged", r"version 3, not judged: not in use; `make promote` asks the gate$"),
        ("not registered", r"not asked: this model is not registered; --register registers it$"),
        ("no record", r"its verdict on version 2 is not known here: `make history` asks MLflow$"),
    ],
)
def test_the_summary_always_says_what_the_gate_said(champion, tmp_path, monkeypatch, case, line):
    version, sharpness = {"champion": ("1", 0.1), "not judged": ("3", 0.6)}.get(case, ("2", 0.2))
    record = local_record.read(champion)
    if case == "not judged":
        versions = {**record.versions, "3": local_record.Known("0" * 64)}
        monkeypatch.setattr(local_record, "read", lambda _: dataclasses.replace(record, versions=versions))
    put_into_artifacts(tmp_path, wrong(60), sharpness)
    about = {
        "model": champion, "version": version, "model_sha256": model_file.sha256(FOLDER.model),
        "tracking_uri": local_record.tracking_place(), "run_id": "r",
    }  # fmt: skip
    FOLDER.registration.write_text(json.dumps(about))
    if case == "not registered":
        FOLDER.registration.unlink()
    if case == "no record":
        local_record.forget(champion)
    assert re.match(line, summary.verdict(summary.present(FOLDER, champion)))
