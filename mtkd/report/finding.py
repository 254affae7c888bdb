"""The finding: at most eight sentences, computed from the results alone."""

import math

import pandas as pd
from scipy import stats

from mtkd.config.distillation import Distil
from mtkd.report import published, scores
from mtkd.report.scores import BASE, ENSEMBLE, SYSTEMS, name, title
from mtkd.report.sections.ablation import describe_unlabelled
from mtkd.report.significance import Compared, sentence, span
from mtkd.report.table import number, percent


def finding(
    results: pd.DataFrame,
    sizes: pd.DataFrame | None = None,
    distil: Distil | None = None,
    compared: Compared | None = None,
) -> list[str]:
    """Return what the results show as sentences of Markdown, whether distillation helped first.

    Args:
        results: frame of results.csv.
        sizes: the sizes of the training sets (`tables.table1`).
        distil: the tasks with a teacher, by default the paper's.
        compared: the intervals.
    """
    distil = distil or Distil(teachers=list(published.TEACHERS))
    compared = compared or Compared()
    frame, over = scores.gains(results, compared), scores.averaged(results)
    if "average" not in frame.index or math.isnan(frame.loc["average", "gain"]):
        unknown = "no averaged task has scores of both MT-DNN and MT-DNN_KD"
        sentences = [f"**Whether distillation helps is not known**: {unknown}.", _averages(results)]
    else:
        overall, by_task = frame.loc["average"], frame.loc[over].dropna(subset=["gain"])
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


def _listed(items) -> str:
    *most, last = list(items) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _count(amount: int, noun: str) -> str:
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def _points(value: float) -> str:
    return f"{number(value, 2, sign=True)} points"


def _averages(results: pd.DataFrame) -> str:
    averages = scores.averages(results)
    means = averages.groupby("system")["average"].mean()
    texts = [f"{name(system)} {number(means[system])}" for system in SYSTEMS if system in means]
    tasks = _count(len(scores.averaged(results)), "task")
    seeds = _count(averages.loc[averages["seed"] >= 0, "seed"].nunique(), "seed")
    averages = f"Average dev scores in percent ({tasks}, {seeds}): {_listed(texts)}."
    return averages if texts else "No system has a score on every task, so there is no average."


def _helped(row: pd.Series) -> str:
    """Say whether distillation helped on average, and how sure that is."""
    seeds, interval = int(row["seeds"]), span(row)
    if round(row["gain"], 2) <= 0:
        lead = "Distillation did not help"
    elif interval and row["low"] <= 0:
        lead = "Distillation did not help measurably"
    else:
        lead = (
            "Distillation helped" if interval and seeds > 1 else "Distillation helped in this run"
        )
    change = f"MT-DNN_KD is {_points(row['gain'])} against MT-DNN on average"
    if not interval:
        return f"**{lead}**: {change}; without predictions there is no interval."
    zero = "includes zero" if row["low"] <= 0 <= row["high"] else "excludes zero"
    paired = f"{seeds} paired seeds" if seeds > 1 else "one seed, so without how training varies"
    return f"**{lead}**: {change} (95 % interval {interval}, which {zero}; {paired})."


def _over_bert(compared: Compared) -> str:
    rows = compared.of(BASE, "bert")
    if "average" not in rows.index:
        return ""
    row = rows.loc["average"]
    conclusion = sentence(row).removesuffix(".")
    return f"{conclusion} ({_points(row['difference'])}, {span(row)})."


def _by_task(frame: pd.DataFrame) -> str:
    rounded = frame["gain"].round(2)
    better, worse = (list(map(title, frame.index[sign * rounded > 0])) for sign in (1, -1))
    parts = [f"better on {len(better)} of {_count(len(frame), 'task')}", f"worse on {len(worse)}"]
    for index, names in enumerate((better, worse)):
        parts[index] += f" ({_listed(names)})" if names else ""
    if equal := len(frame) - len(better) - len(worse):
        parts.append(f"equal on {equal}")
    text = f"MT-DNN_KD is {_listed(parts)}"
    if frame["p"].notna().any():
        sure = frame[frame["p"] < 0.05]["gain"].items()
        names = [f"{title(task)} ({number(gain, 1, sign=True)})" for task, gain in sure]
        text += f"; p < .05 on {_listed(names) or 'no task'}"
    return f"{text}."


def _by_teacher(frame: pd.DataFrame, distil: Distil) -> str:
    taught = frame.index.isin(distil.teachers)
    parts = [
        f"{_points(part['gain'].mean())} on the {_count(len(part), 'task')} {which} a teacher"
        for part, which in ((frame[taught], "with"), (frame[~taught], "without"))
        if len(part)
    ]
    text = f"The mean change is {_listed(parts)}"
    if distil.unlabelled:
        text += f"; soft targets also on {describe_unlabelled(distil.unlabelled)}"
    return f"{text}."


def _by_size(frame: pd.DataFrame, sizes: dict[str, float]) -> str:
    """Say whether smaller tasks gain more (MT-DNN_KD, section 4.2), by Spearman's correlation."""
    known = frame["gain"][frame.index.isin(list(sizes))]
    train = known.index.map(sizes)
    if len(known) < 5 or len(set(train)) < 2 or known.nunique() < 2:
        return "Too few tasks of different size to say whether small tasks gain more."
    rank, p = stats.spearmanr(train, known)
    figure = f"rank correlation of gain and training size {number(rank, 2, sign=True)}, p = {p:.2f}"
    if p > 0.05:
        return f"No trend with the size of the training set is established ({figure})."
    claim = (
        "Smaller tasks gained more" if rank < 0 else "Larger tasks gained more, unlike published"
    )
    return f"{claim} ({figure})."


def _kept(row: pd.Series, compared: Compared) -> str:
    """Say how much of the ensemble's gain the student keeps (MT-DNN_KD, section 4.3)."""
    if math.isnan(row["ensemble_gain"]):
        return "There is no ensemble to compare with."
    rows, kept = compared.of(ENSEMBLE, BASE), compared.kept
    gain = _points(row["ensemble_gain"])
    gain += f", {span(rows.loc['average'])}" if "average" in rows.index else ""
    if not math.isfinite(row["kept"]):
        return f"The ensembles do not beat MT-DNN ({gain}), so there is no gain to keep."
    share = percent(max(row["kept"], 0.0))
    share += f" ({percent(kept.low)} to {percent(kept.high)})" if math.isfinite(kept.low) else ""
    fewer = row["ensemble_tasks"] < row["tasks"]
    where = f" on {_count(int(row['ensemble_tasks']), 'task')}" if fewer else ""
    return f"The ensembles gain over MT-DNN{where} ({gain}); the student keeps {share} of it."
