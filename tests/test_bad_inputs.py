"""Bad inputs of every kind, given to the command line: each ends with one line that says what, where and how to mend it, status 2,
no traceback, and nothing written."""

import pytest
from conftest import ROOT, mtkd
from helpers import mirror, rows
from refusals import damaged, put, refused

from mtkd import tasks

pytest_plugins = "refusals"
pytestmark = pytest.mark.usefixtures("places")
ENCODERS = "encoders: {uncased: {checkpoint: ./none}, cased: {checkpoint: ./none}}\n"
TASK = "own_tasks: {mine: {type: pair, train: t.csv, dev: 0.25, columns: [a, b], labels: ['no', 'yes']}}\n"
OWN = ENCODERS + TASK
TABLE = "a,b,label\n" + "".join(
    f"text {row},other {row},{('no', 'yes')[row % 2]}\n" for row in range(8)
)
RTE = tasks.get("rte")

# A study's file (mine.yaml): its content, words of the message.
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
STUDIES = {
    "a typo": (
        ENCODERS + "train: {epoch: 3}",
        ["mine.yaml", "unknown field 'train.epoch'", "epochs"],
    ),
    "a typo at the top": (ENCODERS + "sed: [1]", ["unknown field 'sed'", "seeds"]),
    "a word for a number": (
        ENCODERS + "train: {epochs: five}",
        ["train.epochs", "integer", "five"],
    ),
    "a truth value for a number": (
        ENCODERS + "train: {epochs: yes}",
        ["train.epochs", "number", "true"],
    ),
    "no number": (ENCODERS + "train: {learning_rate: .nan}", ["train.learning_rate", "finite"]),
    "infinity": (ENCODERS + "data: {scale: .inf}", ["data.scale", "finite"]),
    "a number with thousands of digits": (
        ENCODERS + f"train: {{epochs: {'9' * 5000}}}",
        ["mine.yaml", "not a readable YAML", "digits", "correct it"],
    ),
    "a great whole number": (
        ENCODERS + f"train: {{epochs: {'9' * 400}}}",
        ["train.epochs", "too great", "400 digits", "smaller"],
    ),
    "a great number of layers": (
        f"encoders: {{uncased: {{pretrain: {{layers: {10**30}}}}}}}\ncandidates: {{ensemble_size: 1}}\n",
        ["encoders.uncased.pretrain.layers", "too great"],
    ),
    "a seed out of range": (ENCODERS + f"seeds: [{2**32}]", ["seeds.0", "less than 4294967296"]),
    "not YAML": (ENCODERS + "train: {epochs: 3", ["mine.yaml", "not a readable YAML"]),
    "tabs": ("train:\n\tepochs: 3\n", ["mine.yaml", "not a readable YAML"]),
    "a list at the top": ("- train\n- seeds", ["holds no settings", "mapping"]),
    "a word": ("quick", ["holds no settings", "mapping"]),
    "empty": ("", ["holds no settings", "mapping"]),
    "notes alone": ("# nothing yet\n", ["holds no settings", "mapping"]),
    "two documents": (ENCODERS + "---\nseeds: [1]\n", ["not a readable YAML", "single document"]),
    "no encoders": ("seeds: [0]", ["encoders", "required"]),
    "numbers for fields' names": (ENCODERS + "1: 2\n", ["1"]),
    "a list for a field's name": (ENCODERS + "? [a, b]\n: 2\n", ["mine.yaml"]),
    "nothing for a field's name": (ENCODERS + "data: {~: 3}\n", ["data"]),
    "values twice": (ENCODERS + "seeds: [1, 1]", ["seeds", "twice"]),
    "a field twice": (ENCODERS + "seeds: [1]\nseeds: [2]\n", ["mine.yaml", "seeds", "twice"]),
    "an unknown task": (ENCODERS + "tasks: [rte, snli]", ["snli", "mnli"]),
    "an unknown encoder": (
        ENCODERS + "student_encoder: large",
        ["student_encoder", "large", "uncased, cased"],
    ),
    "a name that climbs": (ENCODERS + "name: ../up", ["name", "../up", "pattern"]),
    "a name from the root": (ENCODERS + "name: /tmp/up", ["name", "pattern"]),
    "a name with a line's end": (ENCODERS + 'name: "up\\n"', ["name", "pattern"]),
    "an empty name": (ENCODERS + "name: ''", ["name", "pattern"]),
    "a long name": (ENCODERS + f"name: {'x' * 300}", ["name", "40"]),
    "an encoder's name that climbs": ("encoders: {../up: {checkpoint: a}}", ["../up", "pattern"]),
    "a student's name that climbs": (
        ENCODERS + "mkd: {students: {../up: {kind: lstm}}}",
        ["mkd.students", "../up", "pattern"],
    ),
    "an own task's name that climbs": (
        OWN.replace("mine:", "../up:"),
        ["own_tasks", "../up", "pattern"],
    ),
    "a Python object": (
        ENCODERS + "about: !!python/object/apply:os.system ['touch owned']",
        ["not a readable YAML", "python/object"],
    ),
    "a Python name": (ENCODERS + "about: !!python/name:os.system", ["not a readable YAML"]),
    "anchors that multiply": (
        BOMB + ENCODERS + "about: *i\n",
        ["mine.yaml", "anchors", "100,000", "correct"],
    ),
    "an anchor in itself": (
        ENCODERS + "about: &a [*a]\n",
        ["mine.yaml", "an anchor holds itself (line 2)", "correct"],
    ),
    "nested without end": (ENCODERS + "about: " + "[" * 3000, ["mine.yaml", "not a readable YAML"]),
    "not UTF-8": (ENCODERS.encode() + b"about: \xff\xfe\n", ["mine.yaml", "not a readable YAML"]),
    "a NUL": (ENCODERS + "about: a\0b\n", ["mine.yaml", "not a readable YAML"]),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", ["mine.yaml", "not a readable YAML"]),
    "a date for a text": (ENCODERS + "about: 2024-02-30\n", ["mine.yaml", "not a readable YAML"]),
    "an escape for the terminal": (
        ENCODERS + 'train: {optimizer: "\\e[31mred"}',
        ["train.optimizer", "red"],
    ),
    "an own task's file is missing": (OWN, ["own_tasks.mine", "no file", "correct the path"]),
    "an own task's file is an address": (
        OWN.replace("t.csv", "https://example.org/t.csv"),
        ["no file", "example.org", "correct the path"],
    ),
    "an own task's file is a folder": (OWN.replace("t.csv", "."), ["is a folder", "name the file"]),
    "an own task's file is of no kind": (
        OWN.replace("t.csv", "mine.yaml"),
        ["mine.yaml", ".csv, .tsv", "convert"],
    ),
}


@pytest.mark.parametrize("case", STUDIES)
def test_a_bad_study_is_refused(run, tmp_path, case):
    content, words = STUDIES[case]
    put(tmp_path, {"mine.yaml": content})
    refused(run, tmp_path, ["run", "mine.yaml"], words)


# The command line: arguments, words of the message; ok.yaml is a good study, files stand beside it.
GOOD = {
    "ok.yaml": OWN,
    "t.csv": TABLE,
    "folder.yaml": None,
    "bad/config.yaml": "executor: [",
    "other/config.yaml": "executor: nothing",
    "list/config.yaml": "- a",
    "odd/config.yaml": "executor: [a]",
    "full/a": "a",
    "numbers.csv": "a,label\n1,0\n2,1\n",
}
LINES = {
    "no such command": ("studdy", ["studdy", "--help"]),
    "no study": ("run", ["study", "mtkd run --help"]),
    "an unknown option": ("run ok.yaml --epochs 3", ["--epochs", "mtkd run --help"]),
    "an argument too many": ("run ok.yaml more", ["more", "mtkd run --help"]),
    "no cores": ("run ok.yaml -c 0", ["cores", "mtkd run --help"]),
    "cores that are no number": ("run ok.yaml -c two", ["cores", "integer"]),
    "a study that is not there": ("run quik", ["no study 'quik'", "quick"]),
    "a study's file that is not there": ("run none.yaml", ["none.yaml", "quick"]),
    "a folder for a study": ("run folder.yaml", ["folder.yaml", "study"]),
    "a name of a study that climbs": ("run ../../etc/passwd", ["no study", "../../etc/passwd"]),
    "--set without a value": (
        "run ok.yaml --set train.epochs",
        ["--set train.epochs", "field=value"],
    ),
    "--set of nothing": ("run ok.yaml --set =3", ["--set =3", "field=value"]),
    "--set of an empty part": ("run ok.yaml --set train..epochs=3", ["--set train..epochs=3"]),
    "--set with a typo": ("run ok.yaml --set train.epoch=3", ["train.epoch", "epochs"]),
    "--set out of range": (
        "run ok.yaml --set train.epochs=0",
        ["train.epochs", "greater than or equal to 1"],
    ),
    "--set inside a value": (
        "run ok.yaml --set seeds.first=3 --set seeds.first.again=3",
        ["seeds.first", "not settings"],
    ),
    "--set of no YAML": ("run ok.yaml --set seeds=[", ["--set seeds=[", "YAML"]),
    "--set of a Python object": (
        "run ok.yaml --set about=!!python/object/apply:os.getcwd|[]",
        ["--set about", "YAML"],
    ),
    "SNLI that cannot be had": (
        "run ok.yaml --set adaptation={}",
        ["stanfordnlp/snli", "MTKD_SNLI", "--set adaptation=null"],
    ),
    "an ablation without a variant": (
        "run ok.yaml --set ablation.variants.soft=null",
        ["ablation.variants", "at least 1"],
    ),
    "--set of a name that climbs": ("run ok.yaml --set name=../up", ["name", "pattern"]),
    "no such profile": ("run ok.yaml --profile none", ["--profile none", "profiles/slurm"]),
    "a profile that is no YAML": ("run ok.yaml --profile bad", ["bad/config.yaml", "YAML"]),
    "a profile of an unknown executor": ("run ok.yaml --profile other", ["nothing", "pip install"]),
    "a profile of an odd executor": ("run ok.yaml --profile odd", ["odd/config.yaml", "executor"]),
    "a profile that is a list": ("run ok.yaml --profile list", ["list/config.yaml", "executor"]),
    "an unknown stage": ("stage ok.yaml 09_more", ["no stage '09_more'", "00_data"]),
    "no such notebook": ("notebook 09_more out.ipynb", ["no notebook '09_more'", "00_data"]),
    "a notebook outside of its folder": (
        "notebook ../notebooks/00_data out.ipynb",
        ["no notebook", "00_data"],
    ),
    "an unknown parameter": (
        "notebook 02_mtdnn out.ipynb -p sed=1",
        ["no parameter 'sed'", "study, overrides"],
    ),
    "a parameter without a value": (
        "notebook 02_mtdnn out.ipynb -p seed",
        ["-p seed", "name=value"],
    ),
    "a parameter of the wrong type": (
        "notebook 02_mtdnn out.ipynb -p seed=one",
        ["seed", "one", "02_mtdnn"],
    ),
    "a word for a dropout": (
        "notebook 02_mtdnn out.ipynb -p dropout=[0.1]",
        ["dropout", "02_mtdnn"],
    ),
    "a notebook into a file": ("notebook 00_data t.csv/out.ipynb", ["t.csv"]),
    "pages of no study": ("pages none.yaml", ["none.yaml", "quick"]),
    "pages before the run": ("pages ok.yaml", ["reports/ok", "mtkd run ok.yaml"]),
    "no such model": ("predict nowhere text", ["no folder 'nowhere'", "quick:mt-dnn-kd"]),
    "no such study of a model": ("predict quik:mt-dnn text", ["no study 'quik'", "quick"]),
    "a model of an unknown system": ("predict ok.yaml:mt-dn text", ["mt-dn", "mt-dnn-kd"]),
    "a model that is not made": (
        "predict ok.yaml:mt-dnn text",
        ["not made yet", "mtkd run ok.yaml"],
    ),
    "a model that is a file": ("predict t.csv text", ["t.csv", "folder"]),
    "a folder without a model": ("predict full text", ["full", "record.json"]),
    "an empty name of a model": ("predict  text", ["folder", "quick:mt-dnn-kd"]),
    "submit of no study": ("submit none.yaml bert a.zip", ["none.yaml", "quick"]),
    "submit of an unknown system": ("submit ok.yaml mkd a.zip", ["mkd", "test_predictions"]),
    "submit to no zip": ("submit ok.yaml bert a.tar", ["a.tar", ".zip"]),
    "submit into no folder": (
        "submit ok.yaml bert none/a.zip",
        ["none/a.zip", "folder that exists"],
    ),
    "submit before the run": ("submit glue.yaml bert a.zip", ["finetune/bert", "run the stage"]),
    "doctor of no study": ("doctor none", ["no study 'none'", "quick"]),
    "doctor of a bad study": ("doctor bad/config.yaml", ["bad/config.yaml", "YAML"]),
    "doctor's unknown option": ("doctor --gpu", ["--gpu", "mtkd doctor --help"]),
    "new without a file": ("new mine.yaml", ["--train", "mtkd new --help"]),
    "new of no file": ("new mine.yaml -y --train none.csv", ["no file", "none.csv"]),
    "new of a folder": ("new mine.yaml -y --train full", ["full", "folder"]),
    "new of numbers": ("new mine.yaml -y --train numbers.csv", ["numbers.csv", "text"]),
    "new over a file": ("new ok.yaml -y --train t.csv", ["ok.yaml", "there already"]),
    "new with an unknown type": (
        "new mine.yaml -y --train t.csv --type sorting",
        ["type", "'single', 'pair', 'similarity' or 'ranking'"],
    ),
    "new with an unknown column": (
        "new mine.yaml -y --train t.csv --columns a,c",
        ["'c'", "a, b, label"],
    ),
    "new with an unknown label": (
        "new mine.yaml -y --train t.csv --label kind",
        ["'kind'", "a, b, label"],
    ),
    "new with a name that climbs": (
        "new mine.yaml -y --train t.csv --name ../up",
        ["../up", "pattern"],
    ),
    "new with a share of all": (
        "new mine.yaml -y --train t.csv --dev 1.5",
        ["dev", "between 0 and 1"],
    ),
    "new with an unknown metric": (
        "new mine.yaml -y --train t.csv --metrics bleu",
        ["bleu", "accuracy"],
    ),
    "new in no YAML file": ("new mine.txt -y --train t.csv", ["mine.txt", ".yaml"]),
    "new with a study's name that cannot be": (
        "new My.yaml -y --train t.csv",
        ["name", "My", "pattern"],
    ),
    "new under a file": ("new t.csv/mine.yaml -y --train t.csv", ["t.csv"]),
    "new without an answer": ("new mine.yaml --train t.csv", ["answer it", "--yes"]),
}


@pytest.mark.parametrize("case", LINES)
def test_a_bad_command_line_is_refused(run, tmp_path, monkeypatch, case):
    line, words = LINES[case]
    monkeypatch.setenv("MTKD_STUDIES", str(ROOT / "studies"))
    put(tmp_path, GOOD | {"glue.yaml": ENCODERS})
    refused(run, tmp_path, [part.replace("|", " ") for part in line.split(" ")], words)


# An own task's data, read by its first stage: name of the file, its content, words of the message.
DATA = {
    "a missing column": ("t.csv", "a,c,label\nx,y,no\n", ["column 'b' is missing", "a, c, label"]),
    "no label's column": ("t.csv", "a,b\nx,y\n", ["column 'label' is missing", "a, b"]),
    "a label that is none": ("t.csv", TABLE + "x,y,maybe\n", ["row 8", "'maybe'", "no, yes"]),
    "a label out of range": (
        "t.csv",
        TABLE.replace(",yes", ",1").replace(",no", ",2"),
        ["row 0", "'2'", "no, yes"],
    ),
    "a label of many lines": ("t.csv", TABLE + 'x,y,"a\n\x1b[31m\nb"\n', ["row 8", "no, yes"]),
    "a label of 100,000 words": (
        "t.csv",
        TABLE + f"x,y,{'word ' * 100_000}\n",
        ["row 8", "no, yes"],
    ),
    "an empty split": ("t.csv", "a,b,label\n", ["no examples"]),
    "an empty file": ("t.csv", "", ["is empty"]),
    "one class": ("t.csv", TABLE.replace("yes", "no"), ["label 0", "at least two"]),
    "ragged rows": ("t.csv", TABLE + "x,y\n", ["cannot be read as CSV", "3 columns, got 2"]),
    "a quote that stays open": ("t.csv", TABLE + '"x,y,no\n', ["cannot be read as CSV", "correct"]),
    "a column twice": (
        "t.csv",
        "a,b,b,label\nx,y,z,no\n",
        ["CSV", "multiple columns named b", "correct"],
    ),
    "a header of one empty name": ("t.csv", "\n\n\n", ["t.csv"]),
    "NUL bytes alone": ("t.csv", b"\0" * 100, ["t.csv"]),
    "Latin-1": ("t.csv", TABLE.encode() + "ä,ö,no\n".encode("latin-1"), ["CSV", "UTF-8"]),
    "UTF-16": ("t.csv", TABLE.encode("utf-16"), ["t.csv"]),
    "a packed file": ("t.csv", b"\x1f\x8b\x08\0" + bytes(range(256)), ["t.csv"]),
    "TSV named CSV": ("t.csv", TABLE.replace(",", "\t"), ["column 'a' is missing"]),
    "TSV with a field of two lines in quotes": (
        "t.tsv",
        'a\tb\tlabel\n"x\ny"\tz\tno\n',
        ["cannot be read as TSV", "3 columns, got 1", "correct"],
    ),
    "broken JSON": ("t.jsonl", '{"a": "x", "b"\n', ["JSON lines", "correct"]),
    "a JSON list": ("t.jsonl", '[{"a": "x", "b": "y", "label": "no"}]', ["JSON lines"]),
    "JSON of two kinds": (
        "t.jsonl",
        '{"a": "x", "b": "y", "label": "no"}\n{"a": 3, "b": "y", "label": "no"}\n',
        ["JSON lines", "correct"],
    ),
    "JSON nested without end": ("t.jsonl", '{"a": ' + "[" * 100_000, ["JSON lines"]),
    "numbers for texts": (
        "t.jsonl",
        '{"a": 1, "b": "y", "label": "no"}\n',
        ["column 'a' holds int64", "text"],
    ),
    "no Parquet": ("t.parquet", TABLE, ["cannot be read as Parquet"]),
    "half a Parquet file": ("t.parquet", lambda path: damaged(path), ["Parquet"]),
    "a Parquet file with its middle gone": (
        "t.parquet",
        lambda path: damaged(path, middle=True),
        ["Parquet"],
    ),
    "too few to hold out": ("t.csv", "a,b,label\nx,y,no\n", ["0.25 of 1", "dev"]),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_data_are_refused(run, tmp_path, case):
    name, content, words = DATA[case]
    put(tmp_path, {"mine.yaml": OWN.replace("t.csv", name), name: content})
    refused(run, tmp_path, ["stage", "mine.yaml", "00_data"], words)


# GLUE in a folder: what is written there, words of the message.
FOLDERS = {
    "no such folder": (None, ["no directory", "MTKD_GLUE"]),
    "no Parquet in it": (lambda path: path.mkdir(), ["not a GLUE directory", "rte/train"]),
    "a split without examples": (
        lambda path: mirror(path, RTE, {"train": rows(RTE), "validation": rows(RTE, 0)}),
        ["RTE", "no examples"],
    ),
    "one class": (
        lambda path: mirror(
            path, RTE, {"train": rows(RTE, 5, label=[1] * 5), "validation": rows(RTE)}
        ),
        ["at least two"],
    ),
    "a label out of range": (
        lambda path: mirror(
            path, RTE, {"train": rows(RTE, 3, label=[0, 1, -1]), "validation": rows(RTE)}
        ),
        ["row 2", "allowed"],
    ),
    "a missing column": (
        lambda path: mirror(
            path, RTE, {"train": rows(RTE).remove_columns("sentence2"), "validation": rows(RTE)}
        ),
        ["'sentence2' is missing", "sentence1"],
    ),
    "idx twice": (
        lambda path: mirror(
            path, RTE, {"train": rows(RTE, 4, idx=[0, 1, 7, 7]), "validation": rows(RTE)}
        ),
        ["idx 7", "number"],
    ),
    "damaged Parquet": (
        lambda path: put(path, {"rte/train-0.parquet": b"PAR1 nothing"}),
        ["Parquet", "copy"],
    ),
    "a file for a folder": (lambda path: path.write_text("rte"), ["glue", "MTKD_GLUE"]),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_bad_folder_of_glue_is_refused(run, tmp_path, monkeypatch, case):
    make, words = FOLDERS[case]
    put(
        tmp_path,
        {
            "mine.yaml": ENCODERS
            + "tasks: [rte]\ncandidates: {select_on: [rte]}\ndistil: {teachers: [rte]}\n"
        },
    )
    if make:
        make(tmp_path / "glue")
    monkeypatch.setenv("MTKD_GLUE", str(tmp_path / "glue"))
    refused(run, tmp_path, ["stage", "mine.yaml", "00_data"], words)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "quik"],
        ["predict", "nowhere", "a"],
        ["doctor", "--gpu"],
        ["notebook", "x", "out.ipynb"],
    ],
)
def test_the_command_itself_ends_with_one_line_and_status_2(arguments):
    done = mtkd(*arguments)
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("mtkd: "), done.stderr


def test_the_table_is_long_enough():
    assert sum(map(len, (STUDIES, LINES, DATA, FOLDERS))) >= 60
