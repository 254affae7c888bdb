"""The finding: at most six sentences, computed from the results alone."""

import math

import pandas as pd

from mtkd.report import claims, published, scores
from mtkd.report.scores import BASE, ENSEMBLE, SYSTEMS, name, title
from mtkd.report.significance import Compared
from mtkd.report.table import Table, number, p_text, percent, span


def finding(
    results: pd.DataFrame, compared: Compared | None = None, claimed: Table | None = None
) -> list[str]:
    """Return what the results show as sentences of Markdown, whether distillation helped first.

    `compared` holds the intervals, `claimed` is the table of `claims.claims`.
    """
    compared = compared or Compared()
    frame = scores.gains(results, compared)
    if "average" not in frame.index or math.isnan(frame.loc["average", "gain"]):
        unknown = "no averaged task has scores of both MT-DNN and MT-DNN_KD"
        sentences = [f"**Whether distillation helps is not known**: {unknown}.", _averages(results)]
    else:
        overall = frame.loc["average"]
        by_task = frame.loc[scores.averaged(results)].dropna(subset=["gain"])
        sentences = [_helped(overall), _averages(results), _by_task(by_task)]
        sentences.append(_kept(overall, compared))
    sentences += [claims.sentence(claimed)] if claimed else []
    if scores.beside_the_paper(results):
        row = published.gains().loc["average"]
        sentences.append(
            f"Published, with BERT-large on all of GLUE: {_points(row['gain'])} for MT-DNN_KD over "
            f"MT-DNN, {percent(row['kept'])} of the ensemble's gain ({published.SOURCE}, Table 3)."
        )
    return [one for one in sentences if one]


def _points(value: float) -> str:
    return f"{number(value, 2, sign=True)} points"


def _averages(results: pd.DataFrame) -> str:
    averages = scores.averages(results)
    means = averages.groupby("system")["average"].mean()
    texts = [f"{name(system)} {number(means[system])}" for system in SYSTEMS if system in means]
    seeds = averages.loc[averages["seed"] >= 0, "seed"].nunique()
    about = f"tasks: {len(scores.averaged(results))}, seeds: {seeds}"
    return f"Average dev scores in percent ({about}): {', '.join(texts) or 'none'}."


def _helped(row: pd.Series) -> str:
    """Say whether distillation helped on average, and how sure that is."""
    leads = {
        "better": "Distillation helped",
        "not better": "Distillation did not help",
        "not measurably better": "Distillation did not help measurably",
    }
    lead = leads.get(scores.judged(row), "Distillation helped in this run")
    seeds = int(row["seeds"])
    chance = "without predictions there is no interval"
    if math.isfinite(row["low"]):
        zero = "includes zero" if row["low"] <= 0 <= row["high"] else "excludes zero"
        over = f"{seeds} paired seeds" if seeds > 1 else "one seed, so without how training varies"
        p = f"p = {p_text(row['p'])}".replace("= <", "< ")
        chance = f"95 % interval {span(row)}, which {zero}; {p}; {over}"
    return f"**{lead}**: MT-DNN_KD is {_points(row['gain'])} against MT-DNN on average ({chance})."


def _by_task(frame: pd.DataFrame) -> str:
    rounded, parts = frame["gain"].round(2), []
    for word, some in (("better", rounded > 0), ("worse", rounded < 0)):
        names = f" ({', '.join(map(title, frame.index[some]))})" if some.any() else ""
        parts.append(f"{word} on {some.sum()}{names}")
    sure = frame[frame["p_holm"] < 0.05]["gain"].items()
    sure = ", ".join(f"{title(task)} {number(gain, 1, sign=True)}" for task, gain in sure)
    known = frame["p_holm"].notna().any()
    chance = f"; established (Holm's p < .05): {sure or 'none'}" if known else ""
    return f"Of {len(frame)} tasks MT-DNN_KD is {' and '.join(parts)}{chance}."


def _kept(row: pd.Series, compared: Compared) -> str:
    """Say how much of the ensemble's gain the student keeps (MT-DNN_KD, section 4.3)."""
    if math.isnan(row["ensemble_gain"]):
        return "There is no ensemble to compare with."
    rows = compared.of(ENSEMBLE, BASE)
    gain = _points(row["ensemble_gain"])
    gain += f", {span(rows.loc['average'])}" if "average" in rows.index else ""
    if math.isnan(compared.kept.share):
        return (
            f"The ensembles' gain over MT-DNN is not established ({gain}), and so no share of it "
            "that the student keeps."
        )
    tasks = int(row["ensemble_tasks"])
    where = f" on {tasks} of the tasks" if tasks < row["tasks"] else ""
    kept = claims.kept_text(compared.kept)
    return f"The ensembles gain over MT-DNN{where} ({gain}); the student keeps {kept} of it."
