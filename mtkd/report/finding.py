"""The finding: at most eight sentences, computed from the results alone."""

import math

import pandas as pd
from scipy import stats

from mtkd.config.distillation import Distil
from mtkd.report import published, scores
from mtkd.report.scores import BASE, ENSEMBLE, SYSTEMS, name, title
from mtkd.report.significance import Compared
from mtkd.report.table import number, percent, span


def finding(
    results: pd.DataFrame,
    sizes: pd.DataFrame | None = None,
    distil: Distil | None = None,
    compared: Compared | None = None,
) -> list[str]:
    """Return what the results show as sentences of Markdown, whether distillation helped first.

    `sizes` (sizes.csv) are those of the training sets, `distil` says which tasks have a teacher (by
    default the paper's), and `compared` holds the intervals.
    """
    distil = distil or Distil(teachers=list(published.TEACHERS))
    compared = compared or Compared()
    frame = scores.gains(results, compared)
    if "average" not in frame.index or math.isnan(frame.loc["average", "gain"]):
        unknown = "no averaged task has scores of both MT-DNN and MT-DNN_KD"
        sentences = [f"**Whether distillation helps is not known**: {unknown}.", _averages(results)]
    else:
        overall = frame.loc["average"]
        by_task = frame.loc[scores.averaged(results)].dropna(subset=["gain"])
        sentences = [_helped(overall), _averages(results), _over_bert(compared), _by_task(by_task)]
        sentences += [_by_teacher(by_task, distil), _by_size(by_task, scores.train_sizes(sizes))]
        sentences.append(_kept(overall, compared))
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
        chance = f"95 % interval {span(row)}, which {zero}; {over}"
    return f"**{lead}**: MT-DNN_KD is {_points(row['gain'])} against MT-DNN on average ({chance})."


def _over_bert(compared: Compared) -> str:
    rows = compared.of(BASE, "bert")
    if "average" not in rows.index:
        return ""
    row = rows.loc["average"]
    conclusion = f"MT-DNN is {'better' if row['difference'] > 0 else 'worse'} than BERT"
    if row["low"] <= 0 <= row["high"]:
        conclusion = "No difference between MT-DNN and BERT is established"
    return f"{conclusion} ({_points(row['difference'])}, {span(row)})."


def _by_task(frame: pd.DataFrame) -> str:
    rounded, parts = frame["gain"].round(2), []
    for word, some in (("better", rounded > 0), ("worse", rounded < 0)):
        names = f" ({', '.join(map(title, frame.index[some]))})" if some.any() else ""
        parts.append(f"{word} on {some.sum()}{names}")
    sure = frame[frame["p"] < 0.05]["gain"].items()
    sure = ", ".join(f"{title(task)} {number(gain, 1, sign=True)}" for task, gain in sure)
    chance = f"; p < .05: {sure or 'none'}" if frame["p"].notna().any() else ""
    return f"Of {len(frame)} tasks MT-DNN_KD is {' and '.join(parts)}{chance}."


def _by_teacher(frame: pd.DataFrame, distil: Distil) -> str:
    taught = frame.index.isin(distil.teachers)
    parts = [
        f"{_points(part['gain'].mean())} on tasks {which} a teacher ({len(part)})"
        for part, which in ((frame[taught], "with"), (frame[~taught], "without"))
        if len(part)
    ]
    more = f"; with further texts ({distil.unlabelled.labels} labels)" if distil.unlabelled else ""
    return f"The mean change is {' and '.join(parts)}{more}."


def _by_size(frame: pd.DataFrame, sizes: dict[str, float]) -> str:
    """Say whether smaller tasks gain more (MT-DNN_KD, section 4.2), by Spearman's correlation."""
    known = frame["gain"][frame.index.isin(list(sizes))]
    train = known.index.map(sizes)
    if len(known) < 5 or len(set(train)) < 2 or known.nunique() < 2:
        return "Too few tasks of different size to say whether small tasks gain more."
    rank, p = stats.spearmanr(train, known)
    smaller = "Smaller tasks" if rank < 0 else "Larger tasks, unlike published,"
    trend = f"{smaller} gained more"
    if p > 0.05:
        trend = "No trend with the size of the training set is established"
    figure = f"rank correlation of gain and training size {number(rank, 2, sign=True)}"
    return f"{trend} ({figure}, p = {p:.2f})."


def _kept(row: pd.Series, compared: Compared) -> str:
    """Say how much of the ensemble's gain the student keeps (MT-DNN_KD, section 4.3)."""
    if math.isnan(row["ensemble_gain"]):
        return "There is no ensemble to compare with."
    rows = compared.of(ENSEMBLE, BASE)
    gain = _points(row["ensemble_gain"])
    gain += f", {span(rows.loc['average'])}" if "average" in rows.index else ""
    if not math.isfinite(row["kept"]):
        return f"The ensembles do not beat MT-DNN ({gain}), so there is no gain to keep."
    tasks = int(row["ensemble_tasks"])
    where = f" on {tasks} of the tasks" if tasks < row["tasks"] else ""
    share, kept = percent(max(row["kept"], 0.0)), compared.kept
    share += f" ({percent(kept.low)} to {percent(kept.high)})" if math.isfinite(kept.low) else ""
    return f"The ensembles gain over MT-DNN{where} ({gain}); the student keeps {share} of it."
