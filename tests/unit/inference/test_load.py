"""Models by name or folder; damaged, foreign and hostile ones are refused in one sentence."""

import shutil

import numpy as np
import pytest
from helpers import TINY

from mtkd.config.study import load
from mtkd.errors import UserError
from mtkd.inference.load import find_model, load_model, trained_models
from mtkd.stages import Run, mtdnn, student, teacher

WEIGHTS = "model.safetensors"


def test_a_model_is_loaded_for_a_task_of_its_own(folder):
    trained = load_model(str(folder), "mrpc")
    assert trained.task.name == "mrpc" and trained.max_length == 64
    assert [len(examples) for _, examples in trained.dev_sets()] == [12]
    assert not trained.model.training


def test_a_san_is_loaded_where_the_description_has_one(made):
    trained = load_model(str(made.san), "mnli")
    assert trained.head == "san" and trained.for_task("sst2").head == "linear"
    assert load_model(str(made.transformer), "mnli").head == "linear"
    table = trained.predict([("a cat", "a dog sees it"), ("", "")], "mnli")
    assert np.allclose(table[list(trained.task.labels)].sum(axis=1), 1, atol=1e-5)


def test_ax_is_predicted_by_the_head_of_mnli(made):
    assert load_model(str(made.transformer), "ax").task.name == "mnli"


def test_a_custom_task_is_that_of_the_description(copied):
    custom = {"type": "single", "train": "t.csv", "dev": 0.1, "columns": ["text"]}
    custom |= {"labels": ["no", "yes"], "range": [0, 5]}
    copied.change_description(copied.transformer, tasks=[{"name": "sst2", "custom": custom}])
    task = load_model(str(copied.transformer)).task
    assert task.columns == ("text",) and task.labels == ("no", "yes")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (None, "has several tasks: .*sst2, mrpc, stsb, mnli"),
        ("colla", "no task 'colla': .*sst2, mrpc"),
        ("wnli", "no task 'wnli'"),
    ],
)
def test_a_task_that_the_model_lacks_is_refused(made, task, message):
    with pytest.raises(UserError, match=message):
        load_model(str(made.transformer), task)


def replaced(name: str, content: bytes | None):
    """Replace a file of the model, and make the record fit."""
    return lambda study: study.replace(study.transformer, name, content)


def broken(name: str, change):
    """Change a file's bytes behind the record's back."""

    def apply(study):
        path = study.transformer / name
        path.write_bytes(change(path.read_bytes()))

    return apply


def recorded(**changes):
    return lambda study: study.change_record(study.transformer, **changes)


def described(**changes):
    return lambda study: study.change_description(study.transformer, **changes)


def with_tasks(*names: str, custom: dict | None = None):
    return described(tasks=[{"name": name, "custom": custom} for name in names])


THREE = {
    "type": "single",
    "train": "t.csv",
    "dev": 0.1,
    "columns": ["a"],
    "labels": ["a", "b", "c"],
}
KEPT = {"kind": "transformer", "kept_layers": [0]}
NO_MODEL = r"describes no model \({}"
DAMAGED = {
    "no weights": (lambda study: (study.transformer / WEIGHTS).unlink(), "damaged"),
    "cut weights": (broken(WEIGHTS, lambda content: content[:500]), "damaged"),
    "other weights": (broken(WEIGHTS, lambda content: content[:-1] + b"?"), "changed since"),
    "no record": (lambda study: (study.transformer / "record.json").unlink(), "not a finished"),
    "a record that is no JSON": (broken("record.json", lambda _: b"\xff{"), "damaged"),
    "an endless record": (broken("record.json", lambda _: b"[" * 100_000), "damaged"),
    "a file elsewhere": (recorded(files={"../../x": [0, ""]}), "damaged"),
    "cut weights, recorded": (replaced(WEIGHTS, b"\x10\0\0\0\0\0\0\0{"), "not a readable model"),
    "a pickle": (replaced(WEIGHTS, b"\x80\x04cos\nsystem\n."), "not a readable model"),
    "no description": (replaced("model.json", None), "holds no model"),
    "no JSON": (replaced("model.json", b"{"), NO_MODEL.format("")),
    "a list": (replaced("model.json", b"[1]"), NO_MODEL.format("")),
    "endless JSON": (replaced("model.json", b"[" * 100_000), NO_MODEL.format("")),
    "an unknown task": (with_tasks("x"), "Unknown task 'x'"),
    "a head that is not there": (with_tasks("sst2", "rte"), "no head for 'rte'"),
    "a head of another size": (with_tasks("sst2", custom=THREE), "sst2"),
    "an unknown pooling": (described(pooling="sum"), NO_MODEL.format("pooling")),
    "no length": (described(max_length="long"), NO_MODEL.format("max_length")),
    "a path for the encoder": (described(encoder="../x"), NO_MODEL.format("encoder")),
    "an unknown encoder": (described(encoder="cased"), "01_pretrain/cased is not a finished"),
    "an unknown student": (described(student={"kind": "tree"}), NO_MODEL.format("student")),
    "a san that is none": (described(heads={"mnli": "san"}), "another kind of head for 'mnli'"),
    "a san on one text": (
        described(heads={"sst2": "san"}),
        "two texts with one label, which SST-2 has not",
    ),
    "an unknown head": (described(heads={"mnli": "tree"}), NO_MODEL.format("heads.mnli")),
    "another shape": (described(student=KEPT), "another encoder"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_model_is_refused(copied, case):
    change, message = DAMAGED[case]
    change(copied)
    with pytest.raises(UserError, match=message):
        load_model(str(copied.transformer), "sst2")


def test_a_model_outside_of_its_study_is_refused(copied, tmp_path):
    shutil.copytree(copied.transformer, tmp_path / "away")
    with pytest.raises(UserError, match="01_pretrain/uncased is not a finished output"):
        load_model(str(tmp_path / "away"), "sst2")


def test_a_model_of_another_encoder_is_refused(copied):
    copied.replace(copied.encoder, "origin.json", b'{"from": "elsewhere"}')
    with pytest.raises(UserError, match="another encoder"):
        load_model(str(copied.transformer), "sst2")
    copied.connect()
    assert load_model(str(copied.transformer), "sst2").task.name == "sst2"


ENCODERS = {
    "no configuration": ("config.json", None),
    "a configuration that is no JSON": ("config.json", b"{"),
    "a configuration of an unknown model": ("config.json", b'{"model_type": "nothing"}'),
    "a tokenizer that is no JSON": ("tokenizer.json", b"{"),
    "a tokenizer of other things": ("tokenizer.json", b"[]"),
    "no tokenizer": ("tokenizer.json", None),
}


@pytest.mark.parametrize("case", ENCODERS)
def test_a_damaged_encoder_is_refused(copied, case):
    name, content = ENCODERS[case]
    copied.replace(copied.encoder, f"encoder/{name}", content)
    copied.connect()
    with pytest.raises(UserError, match=r"(encoder|tokenizer).*uncased"):
        load_model(str(copied.transformer), "sst2")


@pytest.fixture
def named(copied, monkeypatch):
    """The tiny study, with the same model in the folders of some runs."""
    monkeypatch.setenv("MTKD_WORK", str(copied.work))
    study = load(TINY)
    runs = {
        mtdnn.baseline_run(study, 1).folder(study): "mt-dnn:mtl",
        Run(mtdnn.NAME, encoder="cased", dropout=0.1, seed=0).folder(study): "mt-dnn:mtl",
        Run(teacher.NAME, task="mnli").part_folder(study, "cased-0.1-s0"): "member",
        Run(student.NAME, seed=1).folder(study): "mt-dnn-kd:mtl",
    }
    for folder, system in runs.items():
        shutil.copytree(copied.transformer, folder)
        copied.change_description(folder, system=system)
    return study


def test_models_are_named_by_system_and_seed_as_candidates_and_as_members(named):
    models = trained_models(named)
    root = Run(student.NAME, seed=0).folder(named).parents[1]
    folders = {name: folder.relative_to(root).as_posix() for name, folder in models.items()}
    assert {
        "mt-dnn-s1": "02_mtdnn/uncased-0.1-s1",
        "uncased-0.1-s1": "02_mtdnn/uncased-0.1-s1",
        "cased-0.1-s0": "02_mtdnn/cased-0.1-s0",
        "cased-0.1-s0/mnli": "03_teacher/mnli.parts/cased-0.1-s0",
        "mt-dnn-kd-s0": "04_student/s0",
        "mt-dnn-kd-s1": "04_student/s1",
        "mkd-lstm-s0": "09_mkd/lstm-s0.parts/mtl-kd/all",
    }.items() <= folders.items()


@pytest.mark.parametrize(
    ("system", "folder"),
    [
        ("mt-dnn-kd", "04_student/s0"),
        ("mt-dnn-kd:mtl", "04_student/s0"),
        ("mt-dnn-kd-s1", "04_student/s1"),
        ("mkd-lstm", "09_mkd/lstm-s0.parts/mtl-kd/all"),
        ("mt-dnn", "02_mtdnn/uncased-0.1-s1"),
        ("cased-0.1", "02_mtdnn/cased-0.1-s0"),
        ("cased-0.1-s0/mnli", "03_teacher/mnli.parts/cased-0.1-s0"),
    ],
)
def test_a_system_without_its_seed_is_the_first(named, system, folder):
    assert find_model(f"{TINY}:{system}").as_posix().endswith(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "no folder 'nowhere': .*quick:mt-dnn"),
        ("quik:mt-dnn", "no study 'quik'"),
        (f"{TINY}:bert", "no model 'bert': it has mt-dnn-s1, .*mt-dnn-kd-s0, .*scores alone"),
        (f"{TINY}:", "no model ''"),
        (f"{TINY}:mt-dnn-s9", "no model 'mt-dnn-s9'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_names_there_are(named, name, message):
    with pytest.raises(UserError, match=message):
        find_model(name)


def test_a_study_that_has_not_run_has_no_models(tmp_path, monkeypatch):
    monkeypatch.setenv("MTKD_WORK", str(tmp_path))
    with pytest.raises(UserError, match=r"it has none so far .*mtkd run"):
        find_model(f"{TINY}:mt-dnn")


def test_a_folder_without_a_model_is_refused(made, tmp_path):
    with pytest.raises(UserError, match="not a finished output"):
        load_model(str(tmp_path), "sst2")
    with pytest.raises(UserError, match="holds no model"):
        load_model(str(made.tokens), "sst2")
