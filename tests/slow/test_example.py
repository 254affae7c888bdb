"""The example of own tasks from its files to the report, killed on its way.

`make chaos` kills a study more often.
"""

import json
import random
import re
from pathlib import Path

import pandas as pd
import pytest
from helpers import EXAMPLE, compute
from slow.chaos import Chaos, check_equal, contents

from mtkd.config.study import SYSTEMS

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(900)]
OFTEN = ["train.checkpoint_seconds=0.2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Run the example under three kills; return the folder with its artifacts and reports."""
    folder = tmp_path_factory.mktemp("example")
    # A report that is there already must not be taken for the end of the run.
    page = folder / "reports" / "own-example" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("of another machine")
    chaos = Chaos(EXAMPLE, folder, OFTEN, longest=12)
    chaos.round(folder, kills=3, draw=random.Random(0))
    assert chaos.killed.total() == 3 and len(chaos.killed) > 1, chaos.killed
    assert "of another machine" not in page.read_text()
    return folder


def test_the_killed_study_ends_as_an_undisturbed_one(folder, tmp_path, monkeypatch):
    compute(EXAMPLE, tmp_path, monkeypatch, OFTEN)
    check_equal(contents(tmp_path), contents(folder))


def test_the_report_is_of_the_users_tasks_and_shows_no_row_of_their_data(folder):
    reports = folder / "reports" / "own-example"
    results = pd.read_csv(reports / "results.csv")
    assert set(results.task) == {"letters", "sentences"}
    assert {*SYSTEMS, "mt-dnn-ensemble"} <= set(results.system)
    letters = results[(results.system == "mt-dnn-kd") & (results.task == "letters")]
    assert letters.value.max() > 50, "chance is a third"
    assert "published" not in (folder / "out.txt").read_text()
    assert "GLUE" not in (reports / "finding.md").read_text()
    table = (reports / "tables" / "table1.md").read_text()
    assert "letters" in table and "acc/F1" in table and "Cut, %" in table
    made = json.loads((reports / "run.json").read_text())
    assert made["study"]["own_tasks"]["letters"]["train"] == "letters.csv"
    rows = (EXAMPLE.parent / "letters.csv").read_text().splitlines()[1:]
    texts = [re.split(r",\w+$", row)[0].strip('"') for row in rows]
    pages = "".join(page.read_text() for page in reports.glob("*.html"))
    assert not any(text in pages for text in texts)


def test_a_task_of_each_type_goes_from_its_file_to_the_report(tmp_path, monkeypatch):
    compute(EXAMPLE.with_name("outputs.yaml"), tmp_path, monkeypatch)
    results = pd.read_csv(tmp_path / "reports" / "outputs-example" / "results.csv")
    scores = (
        results[results.split == "validation"].groupby(["system", "task", "metric"]).value.mean()
    )
    for task, metric, chance in (
        ("letters", "accuracy", 50),
        ("orders", "entity_f1", 50),
        ("notes", "exact_match", 25),
        ("replies_ranked", "top", 50),
        ("kinds", "rouge_l", 60),
    ):
        for system in (*SYSTEMS[1:], "mt-dnn-ensemble"):
            assert scores[system, task, metric] > chance, (system, task)
    files = (tmp_path / "reports").rglob("*")
    written = [file.read_text() for file in files if file.suffix in (".md", ".csv", ".json")]
    texts = (EXAMPLE.parent / "notes.jsonl").read_text().splitlines()
    notes = [json.loads(text)["note"] for text in texts]
    assert written and not any(note in text for note in notes for text in written)
