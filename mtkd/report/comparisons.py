"""Tables of gains and comparisons: which system is better, by how much, and how sure that is."""

import math
from collections.abc import Callable

import pandas as pd

from mtkd.report import published
from mtkd.report.scores import ASIDE, STUDENT, beside_the_paper, gains, title
from mtkd.report.significance import BEFORE, DRAWS, METHOD, PAIRS, Compared, called, sentence, span
from mtkd.report.table import NONE, Table, number, percent


def gains_table(results: pd.DataFrame, compared: Compared | None = None) -> Table:
    """Return `gains` of MT-DNN_KD and the ensembles over MT-DNN, beside the published ones."""
    frame, paper, rows = gains(results, compared), published.gains(), []
    for task, row in frame.iterrows():
        official = paper.loc[task] if task in paper.index else {"gain": None, "kept": float("nan")}
        cells = {"Task": "**Average**" if task == "average" else title(task)}
        cells |= {"Seeds": str(int(row.seeds)), "MT-DNN": number(row.base)}
        cells |= {"MT-DNN_KD": number(row.student), "Gain": number(row.gain, 2, sign=True)}
        cells |= {
            "95 % interval": span(row) or NONE,
            "p": NONE if pd.isna(row.p) else f"{row.p:.3f}",
        }
        cells["Ensemble's gain"] = number(row.ensemble_gain, 2, sign=True)
        cells["Share kept"] = percent(row.kept)
        if beside_the_paper(results):
            cells["Gain, published"] = number(official["gain"], 2, sign=True)
            cells["Share kept, published"] = percent(official["kept"])
        rows.append(cells)
    notes = [
        f"Points over MT-DNN, paired by seed. {METHOD} Share kept: the student's gain over the "
        "ensemble's, given only where the ensemble gains."
    ]
    if beside_the_paper(results):
        notes.append(f"Published: computed from Table 3 of {published.SOURCE}.")
    overall = (len(rows) - 1,) if "average" in frame.index else ()
    return Table("gains", "What distillation gains", pd.DataFrame(rows), notes, divide=overall)


def comparisons_table(compared: Compared, label: Callable[[str], str] = called) -> Table:
    """Return every comparison but the ablation's: average, and the single tasks with p < .05."""
    rows = []
    for a, b in dict.fromkeys(zip(compared.frame["a"], compared.frame["b"], strict=True)):
        ablation = a.startswith(f"{STUDENT}:") and (a, b) != BEFORE
        if ablation or (b, a) in PAIRS:
            continue
        part = compared.of(a, b)
        sure = part[(part["p"] < 0.05) & ~part.index.isin(ASIDE)]
        cells = {"Average difference": NONE, "95 % interval": NONE, "Conclusion": NONE}
        if "average" in part.index:
            row = part.loc["average"]
            cells["Average difference"] = number(row["difference"], 2, sign=True)
            cells |= {"95 % interval": span(row), "Conclusion": sentence(row, label)}
        cells["Tasks better, p < .05"] = _listed(sure[sure["difference"] > 0])
        cells["Tasks worse, p < .05"] = _listed(sure[sure["difference"] < 0])
        rows.append({"Comparison": f"{label(a)} against {label(b)}", **cells})
    kept = compared.kept
    if rows and math.isfinite(kept.share):
        cells = {"Comparison": "Share of the ensembles' gain that the student keeps"}
        cells["Average difference"] = percent(max(kept.share, 0.0))
        if math.isfinite(kept.low):
            cells["95 % interval"] = f"{percent(kept.low)} to {percent(kept.high)}"
        else:
            cells["Conclusion"] = "Unbounded: the interval of the ensembles' gain includes zero."
        rows.append(dict.fromkeys(rows[0], NONE) | cells)
    notes = [
        f"{METHOD} {DRAWS:,} draws; one task in twenty is below p = .05 by chance alone.",
        "Points on dev, averaged over the tasks that both have but WNLI. An ensemble has no seeds: "
        "it is compared with every seed of the other.",
    ]
    seeds = int(compared.frame["seeds"].max()) if rows else 0
    notes += ["One seed: the intervals leave out how training varies."] * (seeds == 1)
    notes += [f"With {seeds} seeds, the intervals understate how training varies."] * (
        1 < seeds < 5
    )
    return Table("comparisons", "Every comparison", pd.DataFrame(rows), notes, all_prose=True)


def _listed(sure: pd.DataFrame) -> str:
    """Return how many tasks there are, and their differences."""
    differences = sure["difference"].items()
    texts = [f"{title(task)} {number(value, 1, sign=True)}" for task, value in differences]
    return f"{len(sure)}: {', '.join(texts)}" if texts else "0"
