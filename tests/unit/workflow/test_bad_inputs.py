"""Bad inputs to the command line: each ends with one line that says what, where and how to mend it.

The status is 2, there is no traceback, and nothing is written.
"""

from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT, mirror, mtkd, rows

from mtkd import tasks

pytestmark = pytest.mark.usefixtures("isolated")
ENCODERS = "encoders: {uncased: {checkpoint: ./none}, cased: {checkpoint: ./none}}\n"
OWN = (
    ENCODERS
    + "own_tasks: {mine: {type: pair, train: t.csv, dev: 0.25, columns: [a, b], "
    + "labels: ['no', 'yes']}}\n"
)
TABLE = "a,b,label\n" + "".join(f"text {n},other {n},{('no', 'yes')[n % 2]}\n" for n in range(8))
RTE = tasks.get("rte")


def state(folder: Path) -> dict[str, bytes | None]:
    """Return the content of every file below, and every folder, but for locks and their parents."""
    paths = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    content = {name: path.read_bytes() if path.is_file() else None for name, path in paths.items()}
    locks = [Path(name) for name in content if name.endswith(".lock")]
    ignored = {str(path) for lock in locks for path in (lock, *lock.parents)}
    return {name: content[name] for name in content if name not in ignored}


def put(folder: Path, files: dict) -> None:
    """Write texts, bytes and folders (None); a function is given the path."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def refused(run, folder: Path, arguments: list[str], parts: list[str]) -> None:
    """Assert that a command is refused in one line with these parts, and writes nothing."""
    before = state(folder)
    code, out, err = run(arguments)
    assert code == 2 and (not out or arguments[0] == "new"), (code, out, err)
    assert "Traceback" not in err and len(err.splitlines()) == 1 and err.startswith("mtkd: "), err
    assert len(err) < 3000 and err.rstrip("\n").isprintable(), err
    missing = [part for part in parts if part not in err]
    assert not missing, (missing, err)
    assert state(folder) == before


def damaged(path: Path) -> None:
    """Write half a Parquet file."""
    texts = {"a": ["text"] * 500, "b": ["other"] * 500, "label": ["no", "yes"] * 250}
    pd.DataFrame(texts).to_parquet(path)
    path.write_bytes(path.read_bytes()[:2000])


# A study's file: its content, and parts of the message.
STUDIES = {
    "a typo": (ENCODERS + "train: {epoch: 3}", "mine.yaml|unknown field 'train.epoch'|epochs"),
    "a typo at the top": (ENCODERS + "sed: [1]", "unknown field 'sed'|seeds"),
    "a word for a number": (ENCODERS + "train: {epochs: five}", "train.epochs|integer|five"),
    "a truth value for a number": (ENCODERS + "train: {epochs: yes}", "train.epochs|integer|true"),
    "no number": (ENCODERS + "train: {learning_rate: .nan}", "train.learning_rate|finite"),
    "a large number": (ENCODERS + f"train: {{epochs: {'9' * 400}}}", "train.epochs"),
    "too many digits": (ENCODERS + f"train: {{epochs: {'9' * 5000}}}", "mine.yaml"),
    "a seed out of range": (ENCODERS + f"seeds: [{2**32}]", "seeds.0|less than 4294967296"),
    "no YAML": (ENCODERS + "train: {epochs: 3", "mine.yaml|not a readable YAML"),
    "tabs": ("train:\n\tepochs: 3\n", "mine.yaml|not a readable YAML"),
    "a list": ("- train\n- seeds", "holds no settings"),
    "an empty file": ("", "holds no settings"),
    "two documents": (ENCODERS + "---\nseeds: [1]\n", "not a readable YAML|single document"),
    "no encoders": ("seeds: [0]", "encoders|required"),
    "a number for a field's name": (ENCODERS + "1: 2\n", "1"),
    "a list for a field's name": (ENCODERS + "? [a, b]\n: 2\n", "mine.yaml"),
    "a repeated value": (ENCODERS + "seeds: [1, 1]", "seeds"),
    "a repeated field": (ENCODERS + "seeds: [1]\nseeds: [2]\n", "mine.yaml|seeds|twice"),
    "an unknown task": (ENCODERS + "tasks: [rte, snli]", "snli|mnli"),
    "an unknown encoder": (ENCODERS + "student_encoder: large", "student_encoder|large|uncased"),
    "a name that climbs": (ENCODERS + "name: ../up", "name|../up|pattern"),
    "a name with a line's end": (ENCODERS + 'name: "up\\n"', "name|pattern"),
    "a long name": (ENCODERS + f"name: {'x' * 300}", "name|40"),
    "an encoder's name that climbs": ("encoders: {../up: {checkpoint: a}}", "../up|pattern"),
    "a student's name that climbs": (
        ENCODERS + "mkd: {students: {../up: {kind: lstm}}}",
        "mkd.students|../up|pattern",
    ),
    "a task's name that climbs": (OWN.replace("mine:", "../up:"), "own_tasks|../up|pattern"),
    "a Python object": (
        ENCODERS + "about: !!python/object/apply:os.system ['touch owned']",
        "not a readable YAML|python/object",
    ),
    "deep nesting": (ENCODERS + "about: " + "[" * 3000, "mine.yaml|not a readable YAML"),
    "no UTF-8": (ENCODERS.encode() + b"about: \xff\xfe\n", "mine.yaml|not a readable YAML"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", "mine.yaml|not a readable YAML"),
    "an escape for the terminal": (
        ENCODERS + 'train: {optimizer: "\\e[31mred"}',
        "train.optimizer|red",
    ),
    "a missing file": (OWN, "own_tasks.mine|no file"),
    "an address for a file": (OWN.replace("t.csv", "https://example.org/t.csv"), "example.org"),
    "a folder for a file": (OWN.replace("t.csv", "."), "folder"),
    "a file of an unknown kind": (OWN.replace("t.csv", "mine.yaml"), "mine.yaml|.csv, .tsv"),
}


@pytest.mark.parametrize("case", STUDIES)
def test_a_bad_study_is_refused(run, tmp_path, case):
    content, parts = STUDIES[case]
    put(tmp_path, {"mine.yaml": content})
    refused(run, tmp_path, ["run", "mine.yaml"], parts.split("|"))


# The command line; ok.yaml is a good study, with these files beside it.
GOOD = {
    "ok.yaml": OWN,
    "glue.yaml": ENCODERS,
    "t.csv": TABLE,
    "folder.yaml": None,
    "bad/config.yaml": "executor: [",
    "other/config.yaml": "executor: nothing",
    "full/a": "a",
    "numbers.csv": "a,label\n1,0\n2,1\n",
}
LINES = {
    "studdy": "studdy|--help",
    "run": "Missing argument|mtkd run --help",
    "run ok.yaml --epochs 3": "--epochs|mtkd run --help",
    "run ok.yaml more": "more|mtkd run --help",
    "run ok.yaml -c 0": "cores|mtkd run --help",
    "run quik": "no study 'quik'|quick",
    "run none.yaml": "none.yaml|quick",
    "run folder.yaml": "folder.yaml|study",
    "run ../../etc/passwd": "no study|../../etc/passwd",
    "run ok.yaml --set train.epochs": "--set train.epochs|field=value",
    "run ok.yaml --set =3": "--set =3|field=value",
    "run ok.yaml --set train..epochs=3": "--set train..epochs=3",
    "run ok.yaml --set train.epoch=3": "train.epoch|epochs",
    "run ok.yaml --set train.epochs=0": "train.epochs|greater than or equal to 1",
    "run ok.yaml --set seeds.a=3 --set seeds.a.b=3": "seeds.a|not settings",
    "run ok.yaml --set seeds=[": "--set seeds=[|YAML",
    "run ok.yaml --set about=!!python/name:os.system": "--set about|YAML",
    "run ok.yaml --set adaptation={}": "stanfordnlp/snli|MTKD_SNLI|--set adaptation=null",
    "run ok.yaml --set name=../up": "name|pattern",
    "run ok.yaml --profile none": "--profile none|profiles/slurm",
    "run ok.yaml --profile bad": "bad/config.yaml|YAML",
    "run ok.yaml --profile other": "nothing|pip install",
    "stage ok.yaml 09_more": "no run '09_more'|00_data",
    "stage ok.yaml ../00_data": "no run|00_data",
    "notebook ok.yaml 09_more": "no run '09_more'|00_data",
    "notebook ok.yaml 00_data --set sed=1": "unknown field 'sed'|seeds",
    "pages none.yaml": "none.yaml|quick",
    "pages ok.yaml": "reports/ok|mtkd run ok.yaml",
    "predict nowhere text": "nowhere|STUDY:SYSTEM",
    "predict quik:mt-dnn text": "no study 'quik'|quick",
    "predict ok.yaml:mt-dn text": "mt-dn|mtkd run ok.yaml",
    "predict ok.yaml:mt-dnn text": "mtkd run ok.yaml",
    "predict t.csv text": "t.csv|folder",
    "predict full text": "full|record.json",
    "submit none.yaml bert a.zip": "none.yaml|quick",
    "submit ok.yaml mkd a.zip": "mkd|test_predictions",
    "submit ok.yaml bert a.tar": "a.tar|.zip",
    "submit ok.yaml bert none/a.zip": "none/a.zip",
    "submit glue.yaml bert a.zip": "05_finetune",
    "doctor none": "no study 'none'|quick",
    "doctor --gpu": "--gpu|mtkd doctor --help",
    "new mine.yaml": "--train|mtkd new --help",
    "new mine.yaml -y --train none.csv": "no file|none.csv",
    "new mine.yaml -y --train full": "full|folder",
    "new mine.yaml -y --train numbers.csv": "numbers.csv|text",
    "new ok.yaml -y --train t.csv": "ok.yaml|exists",
    "new My.yaml -y --train t.csv": "name|My|pattern",
    "new t.csv/mine.yaml -y --train t.csv": "t.csv",
    "new mine.yaml --train t.csv": "answer|--yes",
    "new mine.yaml -y --train t.csv --set dev=0.2": "TASK.FIELD=VALUE|t",
}


@pytest.mark.parametrize("line", LINES)
def test_a_bad_command_line_is_refused(run, tmp_path, monkeypatch, line):
    monkeypatch.setenv("MTKD_STUDIES", str(ROOT / "studies"))
    put(tmp_path, GOOD)
    refused(run, tmp_path, line.split(" "), LINES[line].split("|"))


# A task's data, read by the first stage: name of the file, its content, parts of the message.
DATA = {
    "a missing column": ("t.csv", "a,c,label\nx,y,no\n", "column 'b'|a, c, label"),
    "no label's column": ("t.csv", "a,b\nx,y\n", "column 'label'|a, b"),
    "an unknown label": ("t.csv", TABLE + "x,y,maybe\n", "row 8|'maybe'|no, yes"),
    "a label of many lines": ("t.csv", TABLE + 'x,y,"a\n\x1b[31m\nb"\n', "row 8|no, yes"),
    "a long label": ("t.csv", TABLE + f"x,y,{'word ' * 100_000}\n", "row 8|no, yes"),
    "no examples": ("t.csv", "a,b,label\n", "no examples"),
    "an empty file": ("t.csv", "", "empty"),
    "one class": ("t.csv", TABLE.replace("yes", "no"), "label 0|at least two"),
    "ragged rows": ("t.csv", TABLE + "x,y\n", "CSV|3 columns, got 2"),
    "a repeated column": ("t.csv", "a,b,b,label\nx,y,z,no\n", "column 'b' appears twice"),
    "NUL bytes": ("t.csv", b"\0" * 100, "t.csv"),
    "Latin-1": ("t.csv", TABLE.encode() + "ä,ö,no\n".encode("latin-1"), "t.csv|UTF-8"),
    "UTF-16": ("t.csv", TABLE.encode("utf-16"), "t.csv"),
    "TSV named CSV": ("t.csv", TABLE.replace(",", "\t"), "column 'a'"),
    "broken JSON": ("t.jsonl", '{"a": "x", "b"\n', "JSON lines"),
    "JSON of two kinds": (
        "t.jsonl",
        '{"a": "x", "b": "y", "label": "no"}\n{"a": 3, "b": "y", "label": "no"}\n',
        "row 1|column 'a'|not text",
    ),
    "numbers for texts": ("t.jsonl", '{"a": 1, "b": "y", "label": "no"}\n', "column 'a'|not text"),
    "no Parquet": ("t.parquet", TABLE, "Parquet"),
    "half a Parquet file": ("t.parquet", damaged, "Parquet"),
    "too few to hold out": ("t.csv", "a,b,label\nx,y,no\n", "0.25 of 1|dev"),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_data_are_refused(run, tmp_path, case):
    name, content, parts = DATA[case]
    put(tmp_path, {"mine.yaml": OWN.replace("t.csv", name), name: content})
    refused(run, tmp_path, ["stage", "mine.yaml", "00_data"], parts.split("|"))


def write_glue(path, **columns) -> None:
    mirror(path, RTE, {"train": rows(RTE, 4, **columns), "validation": rows(RTE)})


# GLUE in a folder: what is written there, parts of the message.
FOLDERS = {
    "no such folder": (None, "no directory|MTKD_GLUE"),
    "no Parquet in it": (lambda path: path.mkdir(), "rte/train"),
    "one class": (lambda path: write_glue(path, label=[1] * 4), "at least two"),
    "a label out of range": (lambda path: write_glue(path, label=[0, 1, -1, 0]), "row 2|allowed"),
    "a repeated idx": (lambda path: write_glue(path, idx=[0, 1, 7, 7]), "idx 7"),
    "damaged Parquet": (lambda path: put(path, {"rte/train-0.parquet": b"PAR1 no"}), "Parquet"),
    "a file for a folder": (lambda path: path.write_text("rte"), "glue|MTKD_GLUE"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_bad_folder_of_glue_is_refused(run, tmp_path, monkeypatch, case):
    make, parts = FOLDERS[case]
    chosen = "tasks: [rte]\ncandidates: {select_on: [rte]}\ndistil: {teachers: [rte]}\n"
    put(tmp_path, {"mine.yaml": ENCODERS + chosen})
    if make:
        make(tmp_path / "glue")
    monkeypatch.setenv("MTKD_GLUE", str(tmp_path / "glue"))
    refused(run, tmp_path, ["stage", "mine.yaml", "00_data"], parts.split("|"))


def test_the_command_itself_ends_with_one_line_and_status_2():
    done = mtkd("run", "quik")
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("mtkd: "), done.stderr
