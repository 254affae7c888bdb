"""A report's files: the same twice, whole for partial studies, and the committed subset."""

import json
from dataclasses import replace
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from mtkd import paths
from mtkd.errors import UserError
from mtkd.report.predictions import write_predictions
from mtkd.report.significance import Compared
from mtkd.report.write import ARTIFACTS, check_commit, write_reference, write_report

ROOT = Path(__file__).parents[3]
REFERENCES = ROOT / "reports" / "reference"


def files(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The folders of the report and of the reference."""
    for name in ("reports", "reference"):
        monkeypatch.setattr(paths, name, lambda study, name=name: tmp_path / name)
    return tmp_path / "reports", tmp_path / "reference"


@pytest.mark.slow
def test_a_report_is_written_alike_twice(tmp_path, make_report):
    for name in ("a", "b"):
        write_report(make_report(names=("rte", "cola")), tmp_path / name)
    first, second = files(tmp_path / "a"), files(tmp_path / "b")
    assert first == second
    assert {"results.csv", "comparisons.csv", "run.json", "finding.md"} <= set(first)
    assert {"tables/table3.md", "tables/summary.md", "figures/overview.png"} <= set(first)
    assert max(map(len, first.values())) < 150_000
    back = pd.read_csv(tmp_path / "a" / "results.csv")
    report = make_report(names=("rte", "cola"))
    results = pd.concat([report.results, report.candidates], ignore_index=True)
    pd.testing.assert_frame_equal(back, results, check_dtype=False)
    assert first["finding.md"].startswith(b"- **Distillation helped**")


def test_small_p_values_keep_their_digits(make_report):
    report = make_report()
    frame = report.compared.frame.assign(p=1.23456e-7, p_holm=0.0012345, low=1.23456)
    written = replace(report, compared=Compared(frame)).frames["comparisons"]
    assert written.loc[0, ["p", "p_holm", "low"]].tolist() == [1.23e-7, 0.00123, 1.2346]


@pytest.mark.slow
@pytest.mark.parametrize("systems", [["bert"], ["bert", "mt-dnn"], ["mt-dnn", "mt-dnn-kd"]])
@pytest.mark.parametrize("names", [("rte", "wnli"), ("cola", "stsb")])
def test_partial_studies_have_a_report(systems, names, tmp_path, make_report):
    report = make_report(seeds=1, names=names)
    results = report.results[report.results["system"].isin(systems)]
    report = replace(report, results=results, soft=report.soft[:0], curves=report.curves[:0])
    write_report(report, tmp_path)
    assert all(files(tmp_path).values())


def test_the_reference_is_a_subset(folders, make_report):
    report, reference = folders
    with pytest.raises(UserError, match="holds no report: run 'mtkd run small' first"):
        write_reference("small")
    made = make_report(names=("rte",))
    run = made.run | {"commit": "d" * 12, "computed at commits": ["c" * 12]}
    write_report(replace(made, run=run), report)
    write_predictions(report / "predictions.parquet", [], [])
    (report / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(), report / "notebooks" / "11_report.ipynb")
    reference.mkdir()
    (reference / "stale.html").touch()
    assert write_reference("small") == reference
    written, source = files(reference), files(report)
    assert written.pop("index.html") and "results.csv" in written
    kept = json.loads(written["run.json"])
    assert kept["commit"] == "d" * 12 and kept["computed at commits"] == ["c" * 12]
    assert all(source[name] == content for name, content in written.items())
    kinds = {Path(name).parts[0] for name in written}
    tables = {"results.csv", "comparisons.csv", "predictions.parquet"}
    assert kinds == tables | {"run.json", "tables", "figures"}


@pytest.mark.parametrize(
    ("commits", "named"),
    [
        (["1234567890ab", "abcdef123456"], "1234567890ab and abcdef123456"),
        (["1234567890ab+changes"], "1234567890ab.changes"),
        (["unknown"], "unknown"),
        ([], "no commit"),
        (None, "no commit"),
    ],
)
def test_a_report_of_several_commits_or_of_changes_is_no_reference(
    commits, named, folders, make_report
):
    report, reference = folders
    made = make_report(names=("rte",))
    write_report(replace(made, run=made.run | {"computed at commits": commits}), report)
    (report / "notebooks").mkdir()
    (report / "notebooks" / "11_report.ipynb").touch()
    reference.mkdir()
    with pytest.raises(UserError, match=rf"run.json was computed at {named}: a reference is of "):
        write_reference("small")
    assert reference.is_dir()  # the old one stays


@pytest.mark.parametrize("path", sorted(REFERENCES.glob("*/run.json")), ids=lambda x: x.parent.name)
def test_committed_references_are_each_of_one_commit(path):
    check_commit(path)


def test_committed_references_are_small():
    files = [path for path in REFERENCES.rglob("*") if path.is_file() and path.name != ARTIFACTS]
    sizes = [path.stat().st_size for path in files]
    assert sum(sizes) <= 4_000_000 and len(sizes) <= 60


def test_the_index_notebook_runs_on_a_report(folders, monkeypatch, make_report):
    from mtkd.config import study as studies
    from mtkd.stages import report as stage

    path = ROOT / "notebooks" / "11_report.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert json.loads(path.read_text())["metadata"]["kernelspec"]["name"] == "python3"
    cells = [one for one in notebook.cells if one.cell_type == "code"]
    tags = [one.metadata.tags for one in cells if one.metadata.get("tags")]
    assert tags == [["parameters"], ["verdict"]]
    assert not any(one.outputs or one.execution_count for one in cells)
    monkeypatch.setattr(stage, "run", lambda settings, finished: make_report())
    monkeypatch.setattr(studies, "load", lambda name, overrides: None)
    space = {"display": print}
    for one in cells:
        lines = one.source.splitlines()
        if len(lines) > 1:
            exec(one.source, space)
        elif (shown := eval(one.source, space)) is not None:
            assert hasattr(shown, "_repr_html_") or shown._repr_markdown_()
