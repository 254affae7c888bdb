"""Studies: files, the list of section 4.1, overrides, and how a bad study is refused."""

import json
import os
from collections.abc import Iterator

import pytest
from pydantic import BaseModel, ValidationError

from mtkd import paths
from mtkd.config.base import Settings
from mtkd.config.distillation import Distil
from mtkd.config.study import Study, check, load
from mtkd.config.training import Candidate, Candidates, Train
from mtkd.errors import UserError

ROOT = paths.Path(paths.__file__).resolve().parent.parent
FILES = sorted((ROOT / "studies").glob("*.yaml"))
OTHERS = [*(ROOT / "tests" / "studies").glob("*.yaml"), *(ROOT / "examples").glob("*.yaml")]
ENCODERS = {"uncased": {"checkpoint": "a/bert"}, "cased": {"checkpoint": "a/bert-cased"}}


def study(**settings) -> Study:
    return check({"name": "small", "encoders": ENCODERS} | settings)


@pytest.fixture(autouse=True)
def places(monkeypatch):
    """The checkout's own studies, and nothing else that an environment may name."""
    for name in [name for name in os.environ if name.startswith("MTKD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MTKD_STUDIES", str(ROOT / "studies"))


@pytest.fixture
def written(tmp_path):
    """Writes a study file and returns its path; it has two encoders unless the text has some."""

    def write(text: str, name: str = "mine"):
        path = tmp_path / f"{name}.yaml"
        encoders = "encoders: {uncased: {checkpoint: a/bert}, cased: {checkpoint: a/bert-cased}}\n"
        path.write_text(text if "encoders" in text else encoders + text)
        return path

    return write


def refusal(path, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load(path, overrides)
    return str(error.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_of_the_checkout_loads_by_name_and_by_path(path):
    assert load(path.stem).name == path.stem
    assert load(path.stem) == load(path)


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_settings_of_a_loaded_study_can_be_loaded_again(path):
    loaded = load(path)
    assert check(loaded.model_dump()).model_dump() == loaded.model_dump()


def test_paper_is_section_4_1():
    paper = load("paper")
    assert paper.train == Train(
        optimizer="adamax",
        learning_rate=5e-5,
        batch_size=32,
        epochs=5,
        warmup_ratio=0.1,
        max_grad_norm=1.0,
        sampling="proportional",
    )
    heads = paper.model.head_dropout_of
    assert heads == {"cola": 0.05, "sst2": 0.05, "mnli": 0.3} and paper.model.head_dropout == 0.1
    data = paper.data
    assert (data.source, data.hub, data.max_length) == ("glue", "nyu-mll/glue", 512)
    assert data.max_train is data.max_dev is data.holdout_fraction is None
    assert paper.candidates == Candidates(
        dropouts=[0.1, 0.2, 0.3],
        seeds=[0],
        ensemble_size=3,
        select_on=["mnli", "rte"],
        selection_examples=None,
        new_head=True,
    )
    assert set(paper.candidate_models) == {
        Candidate(name, dropout, 0) for name in ("cased", "uncased") for dropout in (0.1, 0.2, 0.3)
    }
    assert paper.distil == Distil(
        teachers=["mnli", "qqp", "rte", "qnli"], hard_weight=0.5, temperature=1.0
    )
    assert paper.model.pooling == "cls"
    assert set(paper.multitask) == {"cola", "sst2", "mnli", "rte", "qqp", "mrpc", "stsb", "qnli"}
    assert set(paper.trainable) == set(paper.multitask) | {"wnli"}
    assert set(paper.tasks) == set(paper.trainable) | {"ax"}
    checkpoints = {name: encoder.checkpoint for name, encoder in paper.encoders.items()}
    bert = "google-bert/bert-large"
    assert checkpoints == {"uncased": f"{bert}-uncased", "cased": f"{bert}-cased"}
    assert paper.finetuning == paper.member_finetuning == paper.train


def test_candidates_are_named_by_encoder_dropout_and_seed():
    given = {"dropouts": [0.0, 0.25], "seeds": [3, 1]}
    assert [one.name for one in study(candidates=given).candidate_models] == [
        *("uncased-0-s3", "uncased-0-s1", "uncased-0.25-s3", "uncased-0.25-s1"),
        *("cased-0-s3", "cased-0-s1", "cased-0.25-s3", "cased-0.25-s1"),
    ]


def test_sections_take_their_defaults_from_the_study():
    students = {"lstm": {"kind": "lstm"}}
    variants = {"hot": {"temperature": 2.0}}
    loaded = study(
        seeds=[3, 4],
        mkd={"students": students},
        ablation={"variants": variants},
        adaptation={},
    )
    assert loaded.mkd.seeds == loaded.ablation.seeds == loaded.adaptation.seeds == [3, 4]
    assert loaded.mkd.tasks == loaded.multitask and loaded.mkd.teacher_encoder == "uncased"
    chosen = study(
        seeds=[3, 4],
        mkd={"students": students, "seeds": [9], "tasks": ["rte"], "teacher_encoder": "cased"},
        ablation={"variants": variants, "seeds": [4]},
    )
    assert (chosen.mkd.seeds, chosen.mkd.tasks, chosen.mkd.teacher_encoder) == (
        [9],
        ["rte"],
        "cased",
    )
    assert chosen.ablation.seeds == [4] and chosen.adaptation is None


def test_a_ranking_in_multi_task_training_is_a_second_task():
    plain, loaded = (
        study(mkd={"students": {"s": {"kind": "lstm"}}}),
        study(
            rank_in_multitask=["qnli"],
            distil={"hard_weight_of": {"qnli_ranked": 0.1}},
            mkd={"students": {"s": {"kind": "lstm"}}},
            ablation={"variants": {"two": {"teachers": ["rte", "qnli"]}}},
        ),
    )
    assert loaded.multitask == [*plain.multitask, "qnli_ranked"]
    assert loaded.finetuned == [*plain.trainable, "qnli_ranked"]
    assert (loaded.tasks, loaded.trainable) == (plain.tasks, plain.trainable)
    assert loaded.mkd.tasks == plain.mkd.tasks == plain.multitask
    assert loaded.distil.teachers == [*plain.distil.teachers, "qnli_ranked"]
    two = loaded.ablation.variants["two"]
    assert two.changes == {"teachers": ["rte", "qnli"]}
    assert two.distil(loaded.distil, loaded.multitask).teachers == ["rte", "qnli", "qnli_ranked"]
    task = loaded.task("qnli_ranked")
    assert (task.ranks, task.metrics, task.num_outputs) == ("qnli", ("top", "mrr"), 1)
    assert (task.dev, task.test, task.regression) == (("validation",), (), False)
    again = check(loaded.model_dump())
    assert again.model_dump() == loaded.model_dump()


def test_a_section_that_a_study_lacks_is_refused_by_name():
    with pytest.raises(UserError, match="Study small has no section 'mkd'"):
        study().require("mkd")
    assert study(adaptation={}).require("adaptation").min_updates == 200


def test_fine_tuning_differs_where_the_study_says_so():
    given = {"train": {"learning_rate": 1e-3, "epochs": 4}, "finetune": {"epochs": 2}}
    assert study(**given).finetuning == Train(learning_rate=1e-3, epochs=2)
    assert study(**given).member_finetuning == study(**given).finetuning
    members = study(**given, candidates={"epochs": 6}).member_finetuning
    assert members == Train(learning_rate=1e-3, epochs=6)


def test_numbers_are_written_as_in_yaml_1_2(written):
    loaded = load(written("train: {learning_rate: 5e-5}\ndata: {max_train: 60_000}"))
    assert loaded.train.learning_rate == 5e-5 and loaded.data.max_train == 60_000


def test_the_name_of_a_file_is_the_study_s(written):
    assert load(written("seeds: [3]", name="other")).name == "other"
    assert load(written("name: mine-2", name="other")).name == "mine-2"


def test_files_are_seen_from_the_study_s_folder(written):
    path = written("seeds: [3]")
    assert load(path).resolve("rows.csv") == path.parent / "rows.csv"


def test_a_study_cannot_be_changed_and_is_loaded_once():
    with pytest.raises(ValidationError):
        study().seeds = [5]
    assert load(loaded := study()) is loaded


KEPT = "students: {s: {kind: transformer, kept_layers: [0]}}"
BAD = {
    "train: {epoch: 3}": ["unknown field 'train.epoch'", "optimizer", "epochs", "batch_size"],
    "sed: [1]": ["unknown field 'sed'", "seeds", "distil"],
    "encoders: {uncased: {pretrain: {layer: 2}}}": [
        "unknown field 'encoders.uncased.pretrain.layer'",
        "layers",
    ],
    "mkd: {students: {s: {kind: lstm, size: 3}}}": ["'mkd.students.s.lstm.size'", "embeddings"],
    "mkd: {students: {s: {kind: gru}}}": ["mkd.students.s", "'lstm', 'transformer'"],
    "mkd: {students: {bert: {kind: lstm}}}": ["mkd.students", "bert is another system"],
    "mkd: {students: {s: {kind: lstm}}, tasks: [wnli]}": ["mkd.tasks", "'wnli' is not trained"],
    "mkd: {students: {s: {kind: lstm}}, teacher_encoder: x}": ["mkd.teacher_encoder", "'x'"],
    "mkd: {students: {s: {kind: lstm, assistant: t}}}": ["students.s.assistant", "'t' is no", "s."],
    "mkd: {students: {s: {kind: lstm, assistant: s}}}": ["s.assistant", "teacher (s from s)"],
    "mkd: {students: {s: {kind: lstm, assistant: t}, t: {kind: lstm, assistant: s}}}": [
        "mkd: students.t.assistant: none learns from the teacher (s from t, t from s)",
    ],
    "mkd: {students: {s: {kind: lstm, assistant: T!}}}": ["mkd.students.s.lstm.assistant", "T!"],
    f"mkd: {{students: {{t: {{kind: lstm}}, {KEPT[11:-2]}, assistant: t}}}}, layerwise: [pkd]}}": [
        "layerwise",
        "no student without an assistant has kept_layers",
    ],
    f"mkd: {{{KEPT}, layerwise: [tiny]}}": ["mkd.layerwise", "'pkd' or 'minilm'"],
    f"mkd: {{{KEPT}, layerwise: [pkd, pkd]}}": ["mkd", "layerwise", "twice"],
    f"mkd: {{{KEPT}, layerwise: [pkd]}}": [
        "mkd",
        "layerwise",
        "last layer of s",
        "two kept_layers",
    ],
    f"mkd: {{{KEPT}, layerwise: [minilm], teacher: ensemble}}": ["layerwise", "teacher to mt-dnn"],
    "mkd: {students: {s: {kind: lstm}}, layerwise: [minilm]}": ["layerwise", "has kept_layers"],
    "train: {epochs: 0}": ["train.epochs", "greater than or equal to 1", "it is 0"],
    "train: {epochs: true}": ["train.epochs", "integer", "it is true"],
    f"train: {{epochs: {2**70}}}": ["train.epochs", "less than"],
    "train: {learning_rate: -0.1}": ["train.learning_rate", "greater than 0", "-0.1"],
    "train: {learning_rate: .nan}": ["train.learning_rate", "finite", "NaN"],
    "train: {learning_rate: yes}": ["train.learning_rate", "number", "true"],
    "distil: {hard_weight: 1.5}": ["distil.hard_weight", "less than or equal to 1", "1.5"],
    "model: {head_dropout: 1.0}": ["model.head_dropout", "less than 1", "1.0"],
    "train: {epochs: five}": ["train.epochs", "integer", '"five"'],
    "train: {batch_size: 2.5}": ["train.batch_size", "integer", "2.5"],
    "about: 3": ["about", "string", "it is 3"],
    "seeds: 3": ["seeds", "list", "it is 3"],
    "train: 3": ["train", "dictionary", "it is 3"],
    "train:": ["train", "dictionary", "null"],
    "train: {optimizer: sgd}": ["train.optimizer", "'adamax' or 'adamw'", '"sgd"'],
    "data: {source: disk}": ["data.source", "'synthetic' or 'glue'", '"disk"'],
    "tasks: [rte, mnli, snli]": ["tasks", "'snli' is an unknown task", "cola", "mnli", "ax"],
    "model: {head_dropout_of: {snli: 0.1}}": ["model.head_dropout_of", "'snli'", "mnli"],
    "model: {heads: {rta: san}}": ["model.heads: 'rta' is an unknown task", "rte"],
    "model: {heads: {cola: san}}": ["model.heads: san is for two texts with one label", "cola has"],
    "model: {heads: {rte: sam}}": ["model.heads.rte", "'linear' or 'san'", '"sam"'],
    "test_predictions: [bertt]": ["test_predictions.0", '"bertt"', "'mt-dnn-kd'"],
    "ranking: [rte]": ["ranking", "rte is no task of type ranking"],
    "rank_in_multitask: [rte]": ["rank_in_multitask", "rte is no task of type ranking"],
    "rank_in_multitask: [qnli_ranked]": ["rank_in_multitask", "'qnli_ranked' is an unknown task"],
    "rank_in_multitask: [qnli, qnli]": ["rank_in_multitask", "twice"],
    "rank_in_multitask: [qnli]\nexclude_from_multitask: [qnli]\ndistil: {teachers: [rte]}": [
        "rank_in_multitask",
        "qnli is no task of type ranking",
    ],
    "rank_in_multitask: [qnli]\ncandidates: {select_on: [qnli_ranked]}": [
        "candidates.select_on",
        "'qnli_ranked' is an unknown task",
    ],
    "distil: {teachers: [qnli_ranked]}": ["distil.teachers", "'qnli_ranked' is an unknown task"],
    "tasks: [rte, mnli, cola]\ndistil: {teachers: [rte, qqp]}": [
        "distil.teachers",
        "'qqp' is not trained",
        "cola, mnli, rte",
    ],
    "distil: {teachers: [wnli]}": ["distil.teachers", "'wnli' is not trained"],
    "tasks: [rte, cola]\ndistil: {teachers: [rte]}": [
        "candidates.select_on",
        "'mnli'",
        "cola, rte",
    ],
    "tasks: [wnli, ax]": ["tasks", "no task is left for multi-task training"],
    "tasks: [rte, mnli, qqp, qnli, rte]": ["tasks", "twice"],
    "seeds: [0, 1, 0]": ["seeds", "twice"],
    "candidates: {dropouts: [0.1, 0.1, 0.2]}": ["candidates.dropouts", "twice"],
    "candidates: {seeds: [0, 1, 0]}": ["candidates.seeds", "twice"],
    "candidates: {seed: 1}": ["unknown field 'candidates.seed'", "dropouts, seeds,"],
    "data: {max_train_of: {xyz: 90}}": ["data.max_train_of", "xyz", "not one of the study's tasks"],
    "candidates: {selection_examples: 9}": ["candidates.selection_examples", "set data.max_train"],
    "distil: {teachers: [rte, rte]}": ["distil.teachers", "twice"],
    "seeds: []": ["seeds", "at least 1"],
    "candidates: {ensemble_size: 7}": ["candidates.ensemble_size", "7 is more", "(6)"],
    "student_encoder: large": ["student_encoder", "'large'", "uncased, cased"],
    "encoders: {uncased: {}}": ["encoders.uncased", "checkpoint", "pretrain"],
    "encoders: {uncased: {package: a/b}}": ["encoders.uncased", "checkpoint", "pretrain"],
    "encoders: {a: {checkpoint: x, package: ../b}}": ["encoders.a.package", '"../b"', "pattern"],
    "encoders: {a: {checkpoint: x, package: b/../c}}": ["encoders.a.package", "pattern"],
    "encoders: {a: {checkpoint: x, sha256: abc}}": ["encoders.a.sha256", '"abc"', "pattern"],
    "encoders: {}": ["encoders", "at least 1"],
    "name: ../up": ["name", '"../up"', "pattern"],
    "train: {epochs: 0, max_grad_norm: -1}": ["train.epochs", "train.max_grad_norm"],
    "adaptation: {seeds: [7]}": ["adaptation.seeds", "'7' is not one of the study's seeds", "0"],
    "adaptation: {fractions: [0.1, 0.1]}": ["adaptation.fractions", "twice"],
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_study_is_refused_with_field_value_and_what_is_allowed(written, text):
    path = written(text)
    message = refusal(path)
    assert str(path) in message and "pydantic" not in message and "\n" not in message
    for words in BAD[text]:
        assert words in message, message


def test_the_only_encoder_is_the_student_s():
    encoders = {"minilm": {"checkpoint": "a/b"}}
    students = {"lstm": {"kind": "lstm"}}
    loaded = study(encoders=encoders, candidates={"ensemble_size": 1}, mkd={"students": students})
    assert loaded.student_encoder == loaded.mkd.teacher_encoder == "minilm"
    with pytest.raises(UserError, match="student_encoder: 'uncased' is not one of encoders"):
        study(encoders=encoders, student_encoder="uncased", candidates={"ensemble_size": 1})


def test_a_missing_encoder_is_named(tmp_path):
    (tmp_path / "bare.yaml").write_text("seeds: [0]")
    assert "encoders: field required" in refusal(tmp_path / "bare.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: b: c", "is not a readable YAML file"),
        (b"train: {epochs: 3", "is not a readable YAML file"),
        (b"\xff\xfe\x00name", "is not a readable YAML file"),
        (b"- train\n- seeds", "holds no settings"),
        (b"quick", "holds no settings"),
        (b"", "holds no settings"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content, words):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    message = refusal(path)
    assert str(path) in message and words in message


def test_a_study_that_does_not_exist_is_named_with_those_that_do(tmp_path):
    message = refusal("quikc")
    assert "There is no study 'quikc'" in message
    assert all(path.stem in message for path in FILES)
    assert str(tmp_path / "none.yaml") in refusal(tmp_path / "none.yaml")


def test_overrides_are_yaml_values_of_nested_fields(written):
    path = written("train: {epochs: 4, batch_size: 8}")
    overrides = ["train.epochs=2", "seeds=[4, 5]", "encoders.uncased.pretrain.layers=3"]
    loaded = load(path, [*overrides, "data.max_train=null"])
    assert loaded.train == Train(epochs=2, batch_size=8) and loaded.seeds == [4, 5]
    assert loaded.encoders["uncased"].pretrain.layers == 3


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epochs", ["--set train.epochs", "field=value", "--set train.epochs=2"]),
        ("train.epochs=0", ["train.epochs", "it is 0"]),
        ("train.epochs=", ["train.epochs", "integer", "null"]),
        ("train.epoch=3", ["unknown field 'train.epoch'", "epochs"]),
        ("seeds.first=3", ["--set seeds.first=3", "'seeds' holds a value, not settings"]),
        ("seeds=[-1]", ["seeds.0", "greater than or equal to 0", "-1"]),
        ("candidates.seeds=[4294967296]", ["candidates.seeds.0", "less than 4294967296"]),
        ("train.learning_rate=.inf", ["train.learning_rate", "finite"]),
        ("train.epochs=[", ["--set train.epochs=[", "not readable YAML"]),
        ("about=&a [*a]", ["about", "string"]),
        ("about=run #2", ["--set about=run #2", "comment", "quotes"]),
        ("seeds=[0, # first\n 1]", ["comment"]),
        ("about=a: b", ["about", "string"]),
        ("about=true", ["about", "string", "it is true"]),
        ("about=1e3", ["about", "string", "it is 1000.0"]),
    ],
)
def test_a_bad_override_is_refused(written, override, words):
    message = refusal(written("seeds: [0]"), override)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("text", ["run #2", "# 2", "a; b", "{c}: [d]", "true", "1e3", "ü\n'", ""])
def test_a_text_in_quotes_is_taken_as_it_is(written, text):
    quoted = [json.dumps(text), json.dumps(text, ensure_ascii=False)]
    assert {load(written(""), [f"about={one}"]).about for one in quoted} == {text}


@pytest.mark.parametrize("study", [20241, 1000.0, True, None])
def test_a_study_s_name_that_became_another_value_is_refused(study):
    with pytest.raises(UserError, match=f"The study is {study}, not a text.*-r"):
        load(study)


@pytest.mark.parametrize("overrides", ["train.epochs=2", [1], [["train.epochs=2"]]])
def test_overrides_that_are_no_list_of_texts_are_refused(overrides):
    with pytest.raises(UserError, match="not a list of texts: give"):
        load("quick", overrides)


def settings_classes(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in base.__subclasses__():
        yield child
        yield from settings_classes(child)


def test_every_setting_has_a_description():
    ours = (
        model for model in settings_classes(Settings) if model.__module__.startswith("mtkd.config")
    )
    for model in ours:
        for name, info in model.model_fields.items():
            assert info.description and info.description.endswith("."), f"{model.__name__}.{name}"


def test_results_go_below_the_current_folder_or_as_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert paths.work_folder("x") == paths.Path("artifacts/x")
    assert paths.reports("x") == paths.Path("reports/x") == paths.reports(study(name="x"))
    assert paths.reference("x") == paths.Path("reports/reference/x")
    monkeypatch.chdir(ROOT / "notebooks")
    assert paths.work_folder("x").resolve() == ROOT / "artifacts" / "x"
    monkeypatch.setenv("MTKD_WORK", "w")
    monkeypatch.setenv("MTKD_REPORTS", "r")
    assert (paths.work_folder("x"), paths.reports("x")) == (paths.Path("w/x"), paths.Path("r/x"))


def test_files_are_those_of_the_current_folder_or_else_those_shipped(monkeypatch, tmp_path):
    monkeypatch.delenv("MTKD_STUDIES")
    mine, there = tmp_path / "mine", tmp_path / "share"
    monkeypatch.setattr(paths, "SHARE", there)
    files = ("studies/a.yaml", "studies/b.yaml", "notebooks/00_data.ipynb", "notebooks/x.ipynb")
    for path in (there / file for file in files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    mine.mkdir()
    monkeypatch.chdir(mine)
    assert paths.studies() == {"a": there / "studies/a.yaml", "b": there / "studies/b.yaml"}
    assert paths.notebook("x") == there / "notebooks/x.ipynb"
    for name in ("studies/b.yaml", "studies/c.yaml", "notebooks/x.ipynb"):
        (mine / name).parent.mkdir(exist_ok=True)
        (mine / name).touch()
    assert list(paths.studies()) == ["a", "b", "c"]
    assert paths.studies()["a"] == there / "studies/a.yaml"
    assert paths.studies()["b"].resolve() == mine / "studies/b.yaml"
    assert paths.notebook("x").resolve() == mine / "notebooks/x.ipynb"
    assert paths.notebook("00_data") == there / "notebooks/00_data.ipynb"
    monkeypatch.setenv("MTKD_STUDIES", str(there / "studies"))
    monkeypatch.setenv("MTKD_NOTEBOOKS", "elsewhere")
    assert list(paths.studies()) == ["a", "b"]
    assert paths.notebook("x") == paths.Path("elsewhere/x.ipynb")
