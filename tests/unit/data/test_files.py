"""Files: read in parts, whatever their size."""

import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mtkd.data.files import read_head, read_rows

WRITE = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    # a page has a million characters, as in a large file
    "parquet": lambda frame, path: frame.to_parquet(path, use_dictionary=False, write_batch_size=5),
}


@pytest.mark.parametrize("suffix", WRITE)
def test_a_file_is_read_in_parts(tmp_path, suffix):
    path, text = tmp_path / f"t.{suffix}", "word " * 40_000
    frame = pd.DataFrame({"a": [f"{row} {text}" for row in range(200)], "label": "no"})
    WRITE[suffix](frame, path)
    sizes, held, before = [], [], pa.total_allocated_bytes()
    tracemalloc.start()
    for batch in read_rows(path, "t", ["a"], "label"):
        sizes.append(len(batch))
        held.append(pa.total_allocated_bytes() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(sizes) == 200 and max(sizes) <= 22, "a batch holds about 4 million characters"
    assert peak < 2e7 and max(held) < 2e7, "the file holds 40 million"


def test_the_head_tells_what_holds_text(tmp_path):
    columns = {
        "a": ["one text", "two texts"],
        "kind": pd.Categorical(["x", "y"]),
        "number": [1.0, np.nan],
        "time": pd.to_datetime(["2020-01-01 12:00", "2021-01-01 13:00"]),
        "list": [["a b", "c"], ["d"]],
        "": ["no", "name"],
    }
    frame = pd.DataFrame(columns)
    frame.to_parquet(tmp_path / "t.parquet")
    head, texts = read_head(tmp_path / "t.parquet", "t")
    assert list(head) == ["a", "kind", "number", "time"] and texts == ["a", "kind"]
    assert head["number"].tolist() == ["1", None] and head["kind"].tolist() == ["x", "y"]
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    head, texts = read_head(tmp_path / "t.jsonl", "t")
    assert list(head) == ["a", "kind", "number", "time"] and texts[:2] == ["a", "kind"]
    assert head["number"].tolist() == ["1.0", None]
    (tmp_path / "t.csv").write_text("sep=;\nid;a;id;\n1;one text;2;\n")
    head, texts = read_head(tmp_path / "t.csv", "t")
    assert list(head) == texts == ["a"]
