"""The report against hand-worked numbers, the published tables, partial studies and hostile text."""

import json
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from helpers import compared
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mtkd import tasks
from mtkd.config import study as studies
from mtkd.config.training import Data
from mtkd.report import figures as plots
from mtkd.report import html as pages
from mtkd.report import notebook as views
from mtkd.report import published, scores, table, tables
from mtkd.report import significance as comparisons
from mtkd.report.finding import finding
from mtkd.report.style import Shown, image
from mtkd.stages import report as summary

RESULTS = ["study", "system", "task", "split", "metric", "value", "seed", "n", "params", "seconds"]


def made(
    gain: float = 1.0, seeds: int = 3, names=("mnli", "qqp", "rte", "cola", "stsb", "wnli")
) -> dict:
    """Frames of a small study in which MT-DNN_KD is about `gain` above MT-DNN, and the ensemble 2 points."""
    draw, rows, curves, sizes = np.random.default_rng(0), [], [], []
    shifts = {"bert": -2.0, "mt-dnn": 0.0, "mt-dnn-kd": gain, "mt-dnn-ensemble": 2.0}
    for name in names:
        task = tasks.get(name)
        sizes.append(
            [
                name,
                task.title,
                task.kind,
                "train",
                "train",
                task.examples,
                task.num_outputs,
                50,
                20,
                25,
                None,
                False,
            ]
        )
        for split in task.dev:
            missing = split == "validation_mismatched"
            count = None if missing else 100
            sizes.append(
                [
                    name,
                    task.title,
                    task.kind,
                    split,
                    "dev",
                    count,
                    task.num_outputs,
                    50,
                    20,
                    25,
                    1.5,
                    missing,
                ]
            )
        for metric in task.metrics:
            for system, shift in shifts.items():
                for seed in [np.nan] if system == "mt-dnn-ensemble" else range(seeds):
                    value = 60 + shift + 0.1 * draw.normal()
                    rows.append(
                        ["t", system, name, task.dev[0], metric, value, seed, 100, 4.4e6, 9.0]
                    )
            for epoch in (1, 2):
                curves.append(
                    ["mt-dnn-0", "mt-dnn", 0, epoch, name, 1 / epoch, metric, 50.0 + epoch]
                )
    sure = draw.uniform(0.5, 1, 200)
    soft = [
        ["rte", split, "teacher", 1 - c, c, draw.random() < c]
        for split in ("train", "validation")
        for c in sure
    ]
    columns = [
        "task",
        "title",
        "kind",
        "split",
        "role",
        "examples",
        "labels",
        "majority",
        "words",
        "pieces",
        "overlap",
    ]
    selection = pd.DataFrame({"candidate": ["a", "b"], "mean": [60.0, 59.0], "kept": [True, False]})
    results = pd.DataFrame(rows, columns=RESULTS)
    return dict(
        results=results,
        compared=compared(results, [*comparisons.PAIRS], reach=0.2),
        curves=pd.DataFrame(
            curves, columns=["run", "system", "seed", "epoch", "task", "loss", "metric", "value"]
        ),
        soft=pd.DataFrame(
            soft, columns=["task", "split", "source", "entropy", "confidence", "correct"]
        ),
        selection=selection,
        sizes=pd.DataFrame(sizes, columns=[*columns, "missing"]),
        run={"commit": "abc", "seconds": {"00_data": 61.0}, "notes": ["CoLA: constant"]},
    )


def study(
    names=("mnli", "qqp", "rte", "cola", "stsb", "wnli"), teachers=("mnli", "qqp", "rte")
) -> studies.Study:
    encoders = {"uncased": {"checkpoint": "x"}, "cased": {"checkpoint": "y"}}
    distil = {"teachers": list(teachers)}
    return studies.check(
        {
            "name": "t",
            "tasks": list(names),
            "encoders": encoders,
            "distil": distil,
            "candidates": {"select_on": [names[0]]},
        }
    )


def rows(*lines) -> pd.DataFrame:
    """Results from (system, task, split, metric, value, seed)."""
    return pd.DataFrame([["t", *line, 100, 1e6, 1.0] for line in lines], columns=RESULTS)


def cell(shown: table.Table, model: str, column: str) -> str:
    frame = shown.frame.set_index("Model")
    return frame.loc[model, next(name for name in frame.columns if name.startswith(column))]


def test_published_figures():
    gains = published.gains()
    assert gains.loc["average", "gain"] == pytest.approx(1.25)
    assert gains.loc["average", "kept"] == pytest.approx(
        10.0 / 11.3
    )  # 88 %: sums of the eight gains
    assert gains.loc["rte", "gain"] == pytest.approx(88.6 - 83.4)
    assert tuple(published.table3().columns) == published.TASKS
    assert published.table3().loc["bert", "mrpc"] == "89.5/85.8"
    assert published.table3(accuracy_first=True).loc["bert", "mrpc"] == "85.8/89.5"
    assert published.table2().loc["MT-DNN_KD", "score"] == "83.7"
    assert published.size("cola") == 8500 and published.size("wnli") == 634


def test_published_sizes_agree_with_the_tasks():
    for name, row in published.table1().iterrows():
        assert tuple(row[["train", "dev", "test"]]) == tasks.get(name).published
        assert row["corpus"] == tasks.get(name).title


def test_table3_by_hand():
    results = rows(
        *[
            ("mt-dnn", "mrpc", "validation", "accuracy", v, s)
            for s, v in enumerate((70.0, 72.0, 74.0))
        ],
        *[("mt-dnn", "mrpc", "validation", "f1", v, s) for s, v in enumerate((80.0, 80.0, 83.0))],
        *[
            ("mt-dnn-kd", "mrpc", "validation", "accuracy", v, s)
            for s, v in enumerate((71.0, 71.0, 71.0))
        ],
        *[
            ("mt-dnn-kd", "mrpc", "validation", "f1", v, s)
            for s, v in enumerate((82.0, 83.0, 84.0))
        ],
        ("mt-dnn-ensemble", "mrpc", "validation", "accuracy", 90.0, np.nan),
        ("mt-dnn-ensemble", "mrpc", "validation", "f1", 90.0, np.nan),
    )
    shown = tables.table3(results)
    assert cell(shown, "MT-DNN", "MRPC") == "**72.0 ± 2.0** / 81.0 ± 1.7"
    assert cell(shown, "MT-DNN_KD", "MRPC") == "71.0 ± 0.0 / **83.0 ± 1.0**"
    assert cell(shown, "MT-DNN-ensemble", "MRPC") == "90.0 / 90.0"  # not a single model
    assert cell(shown, "MT-DNN", "Average") == "76.5 ± 1.8"  # 75, 76, 78.5
    assert cell(shown, "MT-DNN_KD", "Average") == "**77.0 ± 0.5**"
    assert cell(shown, "MT-DNN", "Seeds") == "3" and cell(shown, "MT-DNN-ensemble", "Seeds") == "–"
    assert cell(shown, "MT-DNN", "RTE") == "–"
    assert cell(shown, "BERT-large (published)", "MRPC") == "85.8 / 89.5"
    columns = [column.split()[0] for column in shown.frame.columns[3:-1]]
    assert columns == ["MNLI-m/mm", "QQP", "RTE", "QNLI", "MRPC", "CoLA", "SST-2", "STS-B"]
    assert any("not in this study" in note and "RTE" in note for note in shown.notes)


def test_missing_parts_are_shown():
    results = rows(
        ("mt-dnn", "mnli", "validation_matched", "accuracy", 70.0, 0),
        ("mt-dnn", "rte", "validation", "accuracy", 60.0, 0),
        ("mt-dnn-kd", "mnli", "validation_matched", "accuracy", 71.0, 0),
    )
    shown = tables.table3(results)
    assert cell(shown, "MT-DNN_KD", "MNLI") == "**71.0** / –"
    assert cell(shown, "MT-DNN_KD", "Average") == "–"
    assert any("no dev scores of MNLI mismatched" in note for note in shown.notes)
    assert any("MT-DNN_KD has no score on RTE" in note for note in shown.notes)
    sizes = tables.table1(made()["sizes"])
    assert sizes.frame.set_index("Corpus").loc["MNLI", "Dev"] == "100 + –"
    assert any("validation_mismatched" in note for note in sizes.notes)


def test_a_seed_without_a_metric_is_no_score():
    results = rows(
        *[("mt-dnn", "qqp", "validation", metric, 70.0, 0) for metric in ("accuracy", "f1")],
        ("mt-dnn", "qqp", "validation", "accuracy", 90.0, 1),
    )
    assert list(scores.by_seed(results, "mt-dnn")["qqp"]) == [70.0]
    assert any("seed 1 lacks" in note for note in tables.table3(results).notes)


def test_gains_by_hand():
    results = rows(
        *[
            ("mt-dnn", "rte", "validation", "accuracy", v, s)
            for s, v in enumerate((60.0, 61.0, 62.0))
        ],
        *[
            ("mt-dnn-kd", "rte", "validation", "accuracy", v, s)
            for s, v in enumerate((61.0, 63.0, 65.0))
        ],
        ("mt-dnn-ensemble", "rte", "validation", "accuracy", 65.0, np.nan),
    )
    row = scores.gains(
        results,
        compared(results, [("mt-dnn-kd", "mt-dnn"), ("mt-dnn-ensemble", "mt-dnn")], reach=0.5),
    ).loc["rte"]
    assert row["gain"] == pytest.approx(2) and (row["low"], row["high"], row["p"]) == pytest.approx(
        (1.5, 2.5, 0.001)
    )
    assert (
        scores.gains(results)[["low", "high", "p"]].isna().all(axis=None)
    )  # nothing is made up where nothing was compared
    assert row["ensemble_gain"] == pytest.approx(4) and row["kept"] == pytest.approx(0.5)
    worse = results.assign(
        value=results["value"].where(results["system"] != "mt-dnn-ensemble", 50.0)
    )
    assert np.isnan(scores.gains(worse).loc["rte", "kept"])


@pytest.mark.parametrize(
    ("gain", "seeds", "words"),
    [
        (1.0, 3, ["**Distillation helped", "95 % interval +", "better on 5 of 5"]),
        (-1.0, 3, ["**Distillation did not help", "95 % interval −", "worse on 5", "keeps none"]),
        (0.03, 3, ["did not help measurably", "includes zero"]),
        (
            1.0,
            1,
            [
                "**Distillation helped in this run",
                "95 % interval +",
                "one seed: how training varies is not in it",
            ],
        ),
        (
            -1.0,
            1,
            [
                "did not help",
                "one seed: how training varies is not in it",
                "the interval excludes zero",
            ],
        ),
    ],
)
def test_finding(gain, seeds, words):
    frames = made(gain, seeds)
    text = finding(
        frames["results"], frames["selection"], frames["sizes"], compared=frames["compared"]
    )
    words = [
        *words,
        "MT-DNN is better than BERT (+",
        "The ensembles gain +2.0",
        "points over MT-DNN (95 % interval +1.",
    ]
    words += [
        "taken one by one, p < .05 on no task"
        if gain == 0.03
        else "taken one by one, p < .05 on MNLI ("
    ]
    for word in [
        *words,
        "Outside the average: WNLI",
        "1 of 2 candidates (a)",
        "Published",
        "+1.25 points",
        "88 %",
    ]:
        assert word in text, word


def test_without_predictions_the_finding_has_no_interval():
    frames = made()
    text = finding(frames["results"], compared=comparisons.Compared(lacking=("mt-dnn-kd",)))
    assert (
        "there are no predictions to work an interval out from, so chance is not ruled out" in text
        and "95 %" not in text
    )
    assert (
        "No predictions of MT-DNN_KD are at hand, so there is no interval: run those stages again."
        in text
    )
    assert "in this run" in text and "keeps 5" in text
    figure = plots.overview(frames["results"])
    assert "no predictions, so no interval" in figure.axes[1].get_xlabel()


@pytest.mark.parametrize("systems", [[], ["bert"], ["bert", "mt-dnn"], ["mt-dnn", "mt-dnn-kd"]])
@pytest.mark.parametrize("names", [("wnli",), ("rte",), ("cola", "stsb")])
def test_partial_studies_do_not_break_anything(systems, names, tmp_path):
    frames = made(seeds=1, names=names)
    frames["results"] = frames["results"][frames["results"]["system"].isin(systems)]
    frames["soft"], frames["curves"] = frames["soft"][:0], frames["curves"][:0]
    for figure in (
        plots.overview(frames["results"]),
        plots.gain_by_size(frames["results"], frames["sizes"]),
        plots.ensemble_vs_student(frames["results"]),
        plots.learning_curves(frames["curves"]),
        plots.soft_targets(frames["soft"]),
    ):
        assert figure.get_label()
    for shown in pages.all_tables(
        frames["results"], frames["sizes"], compared(frames["results"], [*comparisons.PAIRS], 0.2)
    ):
        assert shown.markdown() and shown.html() and shown.csv()
    if "mt-dnn-kd" not in systems:
        assert "cannot be told" in finding(frames["results"])


def test_report_is_written_alike_twice(tmp_path):
    frames = made(names=("rte", "cola"))
    for folder in ("a", "b"):
        pages.write_report(tmp_path / folder, study=study(("rte", "cola"), ("rte",)), **frames)
    written = [
        path.relative_to(tmp_path / "a")
        for path in sorted((tmp_path / "a").rglob("*"))
        if path.is_file()
    ]
    assert {"results.csv", "comparisons.csv", "comparisons.md", "run.json", "finding.md"} <= {
        path.name for path in written
    }
    assert {path.stem for path in written if path.suffix == ".svg"} == {
        path.stem for path in written if path.suffix == ".png"
    }
    for path in written:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path
        assert (tmp_path / "a" / path).stat().st_size < 150_000, path
    back = pd.read_csv(tmp_path / "a" / "results.csv")
    pd.testing.assert_frame_equal(back, frames["results"], check_dtype=False)


def test_text_is_escaped():
    frames = made(names=("rte",))
    frames["sizes"]["title"] = "<script>alert(1)</script>|"
    shown = tables.table1(frames["sizes"])
    assert "<script" not in shown.html() and "&lt;script&gt;" in shown.html()
    assert "<script" not in shown.markdown() and "\\|" in shown.markdown()
    assert "<script" not in tables.provenance({"machine": "<script>"}).html()
    figure = plots.overview(frames["results"])
    assert '"><script' not in Shown(figure, alt='"><script>')._repr_html_()


def _notebook(path: Path, title: str) -> None:
    outputs = [
        new_output(
            "stream",
            name="stdout",
            text="\x1b[31m<script>alert(1)</script>\x1b[0m\n10 %\r20 %\rdone\n",
        ),
        new_output("display_data", data={"text/html": "<p>shown</p>", "text/plain": "shown"}),
    ]
    words = f"# {title}\n\nEq. 4: $-\\sum_c Q(c|X) \\log P_r(c|X)$ and $\\nosuch{{x}}$"
    cells = [new_markdown_cell(words), new_code_cell("print('<b>')", outputs=outputs)]
    widgets = {
        "application/vnd.jupyter.widget-state+json": {
            "state": {},
            "version_major": 2,
            "version_minor": 0,
        }
    }
    nbformat.write(new_notebook(cells=cells, metadata={"widgets": widgets}), path)


def test_pages_ask_nobody_and_run_nothing(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in ("00_data", "02_mtdnn.cased-0.1", "02_mtdnn.cased-0.2", "07_report"):
        _notebook(tmp_path / "notebooks" / f"{name}.ipynb", f"Stage <script>{name}</script>")
    written = pages.all_pages(tmp_path)
    assert [page.name for page in written] == [
        "00_data.html",
        "02_mtdnn.cased-0.1.html",
        "02_mtdnn.cased-0.2.html",
        "index.html",
    ]
    for page in written:
        text = page.read_text(encoding="utf-8")
        assert (
            pages.requests(text) == []
            and "<script src" not in text
            and "mathjax" not in text.lower()
        )
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "10 %" not in text
        assert (
            text.count("<script>") == 2 and text.count("<script>\n") == 1
        )  # the heading's own, which the policy refuses, and the sorting
        assert "default-src 'none'" in text and "script-src 'sha256-" in text
        assert 'href="index.html"' in text and "<title>Stage &lt;script&gt;" in text
        assert text.count('class="maths"') == 1 and "nosuch" in text
    assert "cased-0.2" in written[1].read_text(encoding="utf-8")
    assert (
        "highlight" not in written[3].read_text(encoding="utf-8").split("</style>")[1]
    )  # the index shows no code
    shown = pages.links(tmp_path)._repr_html_()
    assert "<li>Stage &lt;script&gt;00_data&lt;/script&gt;: " in shown
    assert (
        "<script" not in shown
        and 'href="02_mtdnn.cased-0.2.html"' in shown
        and "07_report" not in shown
    )


def test_requests_are_found():
    text = '<img src="https://a/x.png"><link rel=x href=//b/y.css><style>@import "http://c/z.css"</style><a href="https://d">'
    assert pages.requests(text) == ["https://a/x.png", "//b/y.css", "http://c/z.css"]


def test_figures_repeat_and_have_words():
    frames = made()
    first, second = (
        image(plots.overview(frames["results"], frames["sizes"]), kind="svg") for _ in range(2)
    )
    assert first == second and b"<dc:date>" not in first
    shown = plots.show(plots.soft_targets(frames["soft"]))._repr_html_()
    assert 'alt="Entropy and calibration' in shown and "RTE train" in shown


def test_the_index_notebook_runs_on_a_report(tmp_path, monkeypatch):
    path = Path(__file__).parents[1] / "notebooks" / "07_report.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert json.loads(path.read_text())["metadata"]["kernelspec"]["name"] == "python3"
    cells = [one for one in notebook.cells if one.cell_type == "code"]
    assert [one.metadata.get("tags") for one in cells if one.metadata.get("tags")] == [
        ["parameters"]
    ]
    assert not any(one.outputs or one.execution_count for one in cells)
    none = dict.fromkeys(("mkd", "ablation", "adaptation", "ranking"))
    monkeypatch.setattr(
        summary, "report", lambda settings: SimpleNamespace(folder=tmp_path, **none, **made())
    )
    monkeypatch.setattr(studies, "load", lambda name, overrides: study())
    space = {}
    for one in cells:
        lines = one.source.splitlines()
        if len(lines) == 1 and "=" not in lines[0].split("(")[0]:
            shown = eval(lines[0], space)
            assert hasattr(shown, "_repr_html_") or shown._repr_markdown_()
        else:
            exec(one.source, space)


def test_no_row_of_real_glue_is_put_on_a_page():
    real = study().model_copy(update={"data": Data(source="glue")})
    shown = views.examples(real, None)  # no data are read at all
    assert not len(shown.frame) and "no row of them is shown" in shown._repr_html_()
