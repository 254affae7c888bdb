"""Tables against cells worked out by hand, missing parts and hostile text."""

from dataclasses import replace

import helpers
import pandas as pd

from mtkd import tasks
from mtkd.report import tables
from mtkd.report.significance import COLUMNS, PAIRS, Compared
from mtkd.report.table import Table, count, gain_text, number, p_text, percent, spread


def cell(shown: Table, model: str, column: str) -> str:
    frame = shown.frame.set_index("Model")
    return frame.loc[model, next(name for name in frame.columns if name.startswith(column))]


def test_numbers_as_text():
    assert [number(-0.04), number(1.25, 2, sign=True), number(float("nan"))] == [
        "0.0",
        "+1.25",
        "–",
    ]
    assert number(-1.5) == "−1.5" and count(12345) == "12,345" and count(None) == "–"
    assert spread([70.0, 72.0, 74.0]) == "72.0 ± 2.0" and spread([]) == "–"
    assert percent(0.876) == "88 %" and percent(3.0) == "> 200 %"
    small, shown = p_text(0.0004), [p_text(p) for p in (0.001, 0.0354, 1.0, float("nan"))]
    assert small == "<.001" and shown == [".001", ".035", "1.000", "–"]
    assert gain_text({"gain": 1.234, "low": 0.5, "high": 2}) == "+1.23 (+0.50 to +2.00)"
    assert gain_text({"gain": -1, "low": float("nan"), "high": float("nan")}) == "−1.00"


def test_table3_by_hand(rows):
    results = rows(
        ("mt-dnn", "mrpc", "validation", "accuracy", (70.0, 72.0, 74.0)),
        ("mt-dnn", "mrpc", "validation", "f1", (80.0, 80.0, 83.0)),
        ("mt-dnn-kd", "mrpc", "validation", "accuracy", (71.0, 71.0, 71.0)),
        ("mt-dnn-kd", "mrpc", "validation", "f1", (82.0, 83.0, 84.0)),
        ("mt-dnn-ensemble", "mrpc", "validation", "accuracy", (90.0,)),
        ("mt-dnn-ensemble", "mrpc", "validation", "f1", (90.0,)),
    )
    shown = tables.table3(results)
    assert cell(shown, "MT-DNN", "MRPC") == "**72.0 ± 2.0** / 81.0 ± 1.7"
    assert cell(shown, "MT-DNN_KD", "MRPC") == "71.0 ± 0.0 / **83.0 ± 1.0**"
    assert cell(shown, "MT-DNN-ensemble", "MRPC") == "90.0 / 90.0"  # not a single model
    assert cell(shown, "MT-DNN", "Average") == "76.5 ± 1.8"  # 75, 76, 78.5
    assert cell(shown, "MT-DNN_KD", "Average") == "**77.0 ± 0.5**"
    assert cell(shown, "MT-DNN", "Seeds") == "3" and cell(shown, "MT-DNN-ensemble", "Seeds") == "–"
    assert cell(shown, "MT-DNN", "RTE") == "–" and cell(shown, "MT-DNN", "Params") == "1.0 M"
    assert cell(shown, "BERT (published)", "MRPC") == "85.8 / 89.5"
    assert cell(shown, "MT-DNN_KD (published)", "Average") == "87.7"
    columns = [column.split()[0] for column in shown.frame.columns[3:-1]]
    assert columns == ["MNLI", "QQP", "RTE", "QNLI", "MRPC", "CoLA", "SST-2", "STS-B"]


def test_table3_has_each_candidate_the_best_below_mt_dnn(rows):
    systems = {"mt-dnn": 60.0, "mt-dnn-kd": 61.0, "mt-dnn-ensemble": 64.0, "mt-dnn:mtl": 58.0}
    systems |= {"candidate/b-0.1-s1": 63.0, "candidate/a-0-s0": 62.0}
    systems |= {f"{one}:mtl": systems[one] - 3 for one in [*systems][-2:]}
    systems["candidate/c-0-s0:mtl"] = 50.0  # it is no member: not fine-tuned
    results = rows(*[(one, "rte", "validation", "accuracy", (systems[one],)) for one in systems])
    shown = tables.table3(results)
    before = " (before fine-tuning)"
    assert list(shown.frame["Model"])[: len(systems)] == [
        *("MT-DNN", "best single candidate (b-0.1-s1)", "MT-DNN_KD", "MT-DNN-ensemble"),
        *(f"MT-DNN{before}", "best single candidate (b-0.1-s1, before fine-tuning)"),
        *("candidate a-0-s0", f"candidate a-0-s0{before}", f"candidate c-0-s0{before}"),
    ]
    assert cell(shown, "best single candidate (b-0.1-s1)", "RTE") == "**63.0**"
    assert cell(shown, "best single candidate (b-0.1-s1, before fine-tuning)", "RTE") == "60.0"
    assert "An ensemble is one run" in " ".join(shown.notes)
    assert "one run" not in " ".join(tables.table3(results.head(1)).notes)
    closing = tables.closing_table(results, Compared().frame)
    assert "MT-DNN-ensemble" in closing and "candidate" not in closing


def test_missing_splits_are_dashes(rows, make_report):
    results = rows(
        ("mt-dnn", "mnli", "validation_matched", "accuracy", (70.0,)),
        ("mt-dnn", "rte", "validation", "accuracy", (60.0,)),
        ("mt-dnn-kd", "mnli", "validation_matched", "accuracy", (71.0,)),
    )
    shown = tables.table3(results)
    assert cell(shown, "MT-DNN_KD", "MNLI") == "**71.0** / –"
    assert cell(shown, "MT-DNN_KD", "Average") == "–"
    sizes = tables.table1(make_report().sizes, list(tasks.GLUE.values()))
    assert sizes.frame.set_index("Corpus").loc["MNLI", "Dev"] == "100 + –"
    assert "MNLI: these data lack validation_mismatched." in sizes.notes


def test_what_is_cut_is_told_where_it_is_known(make_report):
    sizes, task = make_report(names=("rte",)).sizes, [tasks.get("rte")]
    assert "Cut, %" not in tables.table1(sizes, task).frame
    shown = tables.table1(sizes.assign(cut=[12.25, 50.0]), task)
    assert shown.frame.loc[0, "Cut, %"] == "12.2" and any("Cut:" in note for note in shown.notes)


def test_own_tasks_have_no_published_figures_beside_them(rows, make_report):
    results = rows(("mt-dnn", "mine", "dev", "accuracy", (70.0,)))
    shown = tables.table3(results)
    assert list(shown.frame["Model"]) == ["MT-DNN"] and cell(shown, "MT-DNN", "mine") == "70.0"
    assert "Gain, published" not in tables.gains_table(results).frame
    sizes = make_report(names=("rte",)).sizes.assign(task="mine", title="Mine")
    frame = tables.table1(sizes, [replace(tasks.get("mrpc"), name="mine")]).frame
    assert tables.PUBLISHED not in frame and frame.loc[0, "Metrics"] == "acc/F1"


def test_the_closing_table_fits_a_terminal(make_report):
    report = make_report()
    more = report.results[report.results["system"] == "mt-dnn"].assign(system="mkd-" + "long" * 40)
    results = pd.concat([report.results, more])
    text = tables.closing_table(results, report.compared.frame)
    assert max(map(len, text.splitlines())) <= 100
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert lines["MT-DNN_KD"].split()[1:5] == ["4.4", "M", "3", "61.0"]
    assert "+1.0" in lines["MT-DNN_KD"] and "to +1." in lines["MT-DNN_KD"]
    assert "−2.0" in lines["BERT"] and "(−2.2" in lines["BERT"]  # MT-DNN against BERT, reversed
    assert lines["MT-DNN"].endswith("–") and any(name.startswith("mkd-") for name in lines)


def test_the_gains_table(make_report):
    report = make_report(names=("rte", "cola"))
    frame = tables.gains_table(report.results, report.compared).frame.set_index("Task")
    assert list(frame.index) == ["RTE", "CoLA", "Average"]
    assert frame.loc["RTE", "Gain, published"] == "+5.20"
    assert frame.loc["RTE", "p (Holm)"] == "<.001"
    assert " to +1." in frame.loc["Average", "MT-DNN_KD's gain"]
    assert frame["Share kept"].str.endswith(" %").all()
    unsure = helpers.compared(report.results, [*PAIRS], reach=5)
    shown = tables.gains_table(report.results, unsure).frame["Share kept"]
    assert list(shown) == ["not established"] * 3
    alone = report.results[report.results["system"] != "mt-dnn-ensemble"]
    assert list(tables.gains_table(alone, unsure).frame["Share kept"]) == ["–"] * 3


def test_the_comparisons_table():
    pairs = [("mt-dnn-kd", "mt-dnn", 2.0, 3), ("mt-dnn-kd:x", "mt-dnn", 1.0, 3)]
    pairs += [("mkd-lstm:mtl", "lstm", 1.0, 1)]
    rows = [
        [a, b, task, gap, gap - 0.5, gap + 0.5, p, p_holm, seeds, 100]
        for a, b, gap, seeds in pairs
        for task, p, p_holm in (("rte", 0.01, 0.02), ("cola", 0.03, 0.06), ("average", 1e-5, 1e-5))
    ]
    shown = tables.comparisons_table(Compared(pd.DataFrame(rows, columns=COLUMNS)))
    row, single = shown.frame.to_dict("records")  # a variant has a table of its own
    assert row == {
        "Comparison": "MT-DNN_KD against MT-DNN",
        "Seeds": "3",
        "Average difference": "+2.00 (+1.50 to +2.50)",
        "p": "<.001",
        "Tasks better": "RTE +2.0",
        "Tasks worse": "none",
    }
    assert single["Seeds"] == "1 (how training varies is left out)"
    assert not len(tables.comparisons_table(Compared()).frame)


def test_text_is_escaped(make_report):
    sizes = make_report(names=("rte",)).sizes.assign(title="<script>alert(1)</script>|")
    shown = tables.table1(sizes, [tasks.get("rte")])
    assert "<script" not in shown.html() and "&lt;script&gt;" in shown.html()
    assert "<script" not in shown.markdown() and "\\|" in shown.markdown()
    assert "<script" not in tables.provenance({"machine": "<script>"}).html()


def test_provenance():
    run = {"study": {}, "commit": "abc", "seconds": {"00_data": 61.0, "02": 3600}, "notes": ["x"]}
    shown = tables.provenance(run)
    values = dict(shown.frame.values)
    assert values == {
        "commit": "abc",
        "time": "00_data: 0:01:01 · 02: 1:00:00 · all stages: 1:01:01",
    }
    assert shown.notes == ["x"]
