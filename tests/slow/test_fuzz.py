"""Readers of studies, data and texts on arbitrary input: a value or a `UserError`."""

import csv
import io
import json

import datasets
import numpy as np
import pytest
import yaml
from helpers import PAIR, ROOT, tiny_bert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from mtkd import tasks
from mtkd.artifacts import read
from mtkd.config.study import Study, check, load
from mtkd.config.yaml import parse
from mtkd.data.custom import count_train_rows, read_custom_task
from mtkd.data.encode import encode
from mtkd.data.glue import load_tasks
from mtkd.errors import UserError, one_line
from mtkd.inference.reader import SUFFIXES, source

pytestmark = pytest.mark.slow
# The same examples every time, here and in CI.
some = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ENCODERS = {"uncased": {"checkpoint": "./none"}, "cased": {"checkpoint": "./none"}}
SMALL = yaml.safe_load((ROOT / "tests" / "studies" / "tiny.yaml").read_text()) | {
    "own_tasks": {"mine": PAIR}
}
TEXT = yaml.safe_dump(SMALL, sort_keys=False)
plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([2**70, -1, "rte", "../x"])
)
value = st.recursive(
    plain,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), below, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def or_refused(call, *arguments):
    """The call's result, or None after a `UserError` of one line."""
    try:
        return call(*arguments)
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 2100
        return None


def spots(node, path=()):
    """Every place in nested settings."""
    yield path
    below = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, child in below:
        yield from spots(child, (*path, key))


@some
@given(
    st.lists(
        st.tuples(st.sampled_from([path for path in spots(SMALL) if path]), value),
        min_size=1,
        max_size=3,
    )
)
def test_a_changed_study_is_loaded_or_refused(changes):
    changed = json.loads(json.dumps(SMALL))

    def has(place, key) -> bool:  # an earlier change may have put something else there
        return (
            key in place
            if isinstance(place, dict)
            else isinstance(place, list) and isinstance(key, int) and key < len(place)
        )

    for (*above, last), new in changes:
        place = changed
        for key in above:
            place = place[key] if has(place, key) else {}
        if isinstance(place, dict) or has(place, last):
            place[last] = new
    found = or_refused(check, changed)
    assert found is None or (
        isinstance(found, Study)
        and "/" not in found.name
        and all("/" not in name for name in found.tasks)
    )


@some
@given(
    st.integers(0, len(TEXT)),
    st.integers(0, 40),
    st.text(st.characters(codec="utf-8"), max_size=12)
    | st.sampled_from(
        [
            "\0",
            "\t",
            "&a ",
            "*a",
            "<<: ",
            "!!python/object:os.system ",
            "!!int ",
            "!!timestamp x",
            "!!binary é",
            "!!set ",
            "!!omap ",
            "!!bool x",
            "- ",
            ": ",
            "? ",
            "| \n",
            "%YAML 9",
            "---\n",
            "0o8",
            "1:99",
            ".nan",
            "\ufeff",
            "\r\n",
            "\u2028",
            "2024-13-45",
            "{[" * 500,
        ]
    ),
)
def test_a_changed_text_of_a_study_is_a_study_or_refused(tmp_path, at, gone, put):
    (tmp_path / "s.yaml").write_text(
        TEXT[:at] + put + TEXT[at + gone :], encoding="utf-8", newline=""
    )
    or_refused(load, tmp_path / "s.yaml")


@some
@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_bytes_for_a_study_are_refused(tmp_path, content):
    (tmp_path / "s.yaml").write_bytes(content)
    assert or_refused(load, tmp_path / "s.yaml") is None


@some
@given(st.text(max_size=30))
def test_an_override_makes_a_study_or_refused(override):
    or_refused(load, ROOT / "tests" / "studies" / "tiny.yaml", [override])


@some
@given(value)
def test_plain_values_of_yaml_are_read_as_pyyaml_reads_them(given):
    text = yaml.safe_dump(given)
    assert repr(parse(text)) == repr(yaml.safe_load(text))


cells = st.text(max_size=12) | st.sampled_from(
    [
        "no",
        "yes",
        "0",
        "1",
        "2",
        "",
        "NA",
        '"',
        '""',
        "'",
        ",",
        "\t",
        "\r\n",
        "\0",
        "\ufeff",
        "😀",
        "é",
    ]
)
rows = st.lists(st.lists(cells, min_size=1, max_size=4), max_size=6)


@st.composite
def tables(draw) -> tuple[str, bytes]:
    """A file's ending and content: a well-made table of odd cells, a badly made one, or bytes."""
    ending = draw(st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet", ".txt"]))
    found, header = (
        draw(rows),
        draw(
            st.sampled_from([["a", "b", "label"], ["label", "b", "a"], ["a", "a", "label"], ["a"]])
        ),
    )
    how = draw(st.integers(0, 3))
    if how == 0:
        return ending, draw(st.binary(max_size=120))
    if ending == ".jsonl":
        kept = [dict(zip(header, row, strict=False)) if how == 1 else draw(value) for row in found]
        text = "\n".join(json.dumps(row) for row in kept)
    elif how == 1:
        buffer = io.StringIO()
        csv.writer(buffer, delimiter="\t" if ending == ".tsv" else ",").writerows([header, *found])
        text = buffer.getvalue()
    else:
        text = "\n".join(("\t" if ending == ".tsv" else ",").join(row) for row in [header, *found])
    return ending, draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode(
        draw(st.sampled_from(["utf-8", "utf-8", "utf-16"])), "replace"
    )


@some
@given(
    tables(),
    st.sampled_from(["single", "pair", "similarity"]),
    st.sampled_from([0.25, "same"]),
    st.none() | st.booleans(),
)
def test_a_file_of_an_own_task_is_read_or_refused(tmp_path, table, kind, dev, quotes):
    ending, content = table
    path = tmp_path / f"t{ending}"
    path.write_bytes(content)
    task = {
        "type": kind,
        "train": path.name,
        "dev": path.name if dev == "same" else dev,
        "columns": ["a"] if kind == "single" else ["a", "b"],
        "labels": [] if kind == "similarity" else ["no", "yes"],
        "quotes": quotes,
    }
    study = check({"name": "x", "own_tasks": {"mine": task}, "encoders": ENCODERS})
    study._folder = tmp_path
    or_refused(count_train_rows, study, "mine")
    splits = or_refused(read_custom_task, study, "mine", tmp_path / "scratch")
    found = splits and or_refused(load_tasks, study.data, [study.task("mine")], {"mine": splits})
    for split in found["mine"].values() if found else ():
        assert len(split) and set(split.column_names) == {*task["columns"], "label", "idx"}
        assert all(isinstance(text, str) for column in task["columns"] for text in split[column])
        assert np.isfinite(split["label"][:]).all()


@some
@given(
    tables(),
    st.sampled_from(["sst2", "mrpc"]),
    st.none() | st.sampled_from(sorted(SUFFIXES)),
)
def test_texts_to_predict_are_read_or_refused(tmp_path, table, name, kind):
    ending, content = table
    path = tmp_path / f"t{ending}"
    path.write_bytes(content)
    task = tasks.get(name)
    found = or_refused(
        lambda: list(source([str(path)], task, "a,b" if len(task.columns) == 2 else "a", kind).rows)
    )
    for row in found or ():
        assert len(row) == len(task.columns) and all(
            isinstance(text, str) and text.encode("utf-8") is not None for text in row
        )


numbers = st.floats(width=32).map(str) | st.sampled_from(
    ["1", "-2e3", "nan", "1e400", "x", "", "１", "1_0"]
)
lines = st.lists(
    st.tuples(
        st.sampled_from(["the", "cat", "other", "", "\u00a0", "é", "\0"]),
        st.lists(numbers, max_size=4),
    ),
    max_size=6,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(tiny_bert(tmp_path_factory.mktemp("bert")))


words = st.lists(
    st.sampled_from(["the", "cat", "unknowable", "x", "é", "\0", "😀"]), max_size=25
).map(" ".join)


@some
@given(st.lists(st.tuples(words, words), min_size=1, max_size=3), st.integers(8, 40), st.booleans())
def test_examples_are_cut_as_the_tokenizer_would_cut_them(tokenizer, pairs, most, single):
    texts = [list(column) for column in zip(*pairs, strict=True)][: 1 if single else 2]
    cut = tokenizer(*texts, truncation="longest_first", max_length=most, return_token_type_ids=True)
    found = encode(texts, tokenizer, most)
    assert found["input_ids"] == cut["input_ids"]
    assert found["segment_start"] == [len(kinds) - sum(kinds) for kinds in cut["token_type_ids"]]


@some
@given(st.text())
def test_a_record_that_is_not_one_is_refused(tmp_path, content):
    (tmp_path / "record.json").write_text(content, encoding="utf-8", errors="replace")
    assert or_refused(read, tmp_path) is None


@some
@given(st.text(max_size=3000))
def test_a_message_is_one_line_that_can_be_printed(text):
    message = one_line(text)
    assert (
        message.isprintable() and len(message.splitlines()) <= 1 and len(message.encode()) < 40_000
    )
