"""The finding in one paragraph, worked out from the results alone."""

import math

import numpy as np
import pandas as pd
from scipy import stats

from mtkd import tasks
from mtkd.config.distillation import Distil
from mtkd.report import published
from mtkd.report import scores as figures
from mtkd.report import significance as comparisons
from mtkd.report.scores import BASE, ENSEMBLE, STUDENT, SYSTEMS, gains, name, title
from mtkd.report.sections.ablation import amounts
from mtkd.report.significance import Compared, sentence, share, span
from mtkd.report.table import number, percent


def finding(
    results: pd.DataFrame,
    selection: pd.DataFrame | None = None,
    sizes: pd.DataFrame | None = None,
    distil: Distil | None = None,
    compared: Compared | None = None,
) -> str:
    """One paragraph of Markdown that says what these results show, whichever way they fall.

    `sizes` gives the train sizes (without it those of the full data sets serve), `distil` who teaches what (without
    it the published teachers), `compared` the intervals.
    """
    distil = distil or Distil(teachers=list(published.TEACHERS))
    compared = compared or Compared()
    frame, sentences = gains(results, compared), []
    if "average" not in frame.index or math.isnan(frame.loc["average", "gain"]):
        sentences += [_nothing(results), _averages(results)]
    else:
        overall = frame.loc["average"]
        by_task = frame.loc[
            [task for task in figures.averaged(results) if math.isfinite(frame.loc[task, "gain"])]
        ]
        sentences += [
            _verdict(overall, len(figures.averaged(results))),
            _averages(results),
            _others(compared),
            _tally(by_task),
            _with_teacher(by_task, distil.teachers),
        ]
        sentences += [
            _by_size(by_task, figures.train_sizes(sizes)),
            _kept(overall, compared),
            _apart(frame),
        ]
    sentences += [_further(distil), _selected(selection), *comparisons.without(compared)]
    sentences += [_paper() if figures.beside_the_paper(results) else ""]
    return " ".join(sentence for sentence in sentences if sentence)


def _listed(items) -> str:
    items = list(items)
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]])) if items else ""


def _points(value: float) -> str:
    return f"{number(value, 2, sign=True)} points"


def _averages(results: pd.DataFrame) -> str:
    counted = figures.averaged(results)
    if not counted:
        return "No task that is averaged has dev scores, so there is no average."
    means = figures.averages(results).groupby("system")["average"]
    present = [system for system in SYSTEMS if system in means.groups]
    if not present:
        return "No system has scores on every task, so there is no average."
    texts = [f"{name(system)} {number(means.mean()[system])}" for system in present]
    seeds = max(means.count()[system] for system in present)
    over = f"{len(counted)} tasks" if len(counted) > 1 else title(counted[0])
    return f"Average dev scores over {over} (percent; {seeds} {'seeds' if seeds > 1 else 'seed'}): {_listed(texts)}."


def _nothing(results: pd.DataFrame) -> str:
    absent = [
        name(system)
        for system in (BASE, STUDENT)
        if system not in set(figures.dev(results)["system"])
    ]
    verb = "has" if len(absent) == 1 else "have"
    why = (
        f"{_listed(absent)} {verb} no dev scores"
        if absent
        else "the two share no dev scores on a task that is averaged"
    )
    return f"Whether distillation helps cannot be told: {why}."


def _verdict(row: pd.Series, counted: int) -> str:
    gain, seeds = row["gain"], int(row["seeds"])
    rounded = round(gain, 2)
    over = "" if row["tasks"] == counted else f" over the {int(row['tasks'])} tasks that both have"
    change = f"MT-DNN_KD is {_points(gain)} against MT-DNN on average{over}"
    if not span(row):
        lead = "Distillation did not help" if rounded <= 0 else "Distillation helped in this run"
        return f"**{lead}: {change}**; there are no predictions to work an interval out from, so chance is not ruled out."
    seeds = f"{seeds} seeds, paired" if seeds > 1 else "one seed: how training varies is not in it"
    within = f"95 % interval {span(row)}, {seeds}"
    if rounded <= 0:
        tail = (
            "the interval includes zero"
            if row["low"] <= 0 <= row["high"]
            else "the interval excludes zero"
        )
        return f"**Distillation did not help: {change}** ({within}); {tail}."
    if row["low"] <= 0:
        return f"**Distillation did not help measurably: {change}** ({within}); the interval includes zero."
    return (
        f"**Distillation helped{'' if row['seeds'] > 1 else ' in this run'}: {change}** ({within})."
    )


def _others(compared: Compared) -> str:
    """The other comparisons on average, a sentence each; the ensembles' against MT-DNN is told with the share kept."""
    texts = []
    for a, b in comparisons.PAIRS:
        rows = compared.of(a, b)
        if "average" in rows.index and (a, b) not in ((STUDENT, BASE), (ENSEMBLE, BASE)):
            row = rows.loc["average"]
            texts.append(
                f"{sentence(row).removesuffix('.')} ({_points(row.difference)}, {span(row)})."
            )
    return " ".join(texts)


def _tally(frame: pd.DataFrame) -> str:
    rounded = frame["gain"].round(2)
    better, worse = (
        [title(t) for t in frame.index[rounded > 0]],
        [title(t) for t in frame.index[rounded < 0]],
    )
    parts = [
        f"better on {len(better)} of {len(frame)} tasks"
        + (f" ({_listed(better)})" if better else ""),
        f"worse on {len(worse)}" + (f" ({_listed(worse)})" if worse else ""),
    ]
    if equal := len(frame) - len(better) - len(worse):
        parts.append(f"equal on {equal}")
    text = f"MT-DNN_KD is {_listed(parts)}"
    sure = frame[frame["p"] < 0.05]
    if frame["p"].notna().any():
        names = [
            f"{title(task)} ({number(row.gain, 1, sign=True)})" for task, row in sure.iterrows()
        ]
        text += f"; taken one by one, p < .05 on {_listed(names) or 'no task'} (approximate randomisation)"
    return text + "."


def _with_teacher(frame: pd.DataFrame, teachers) -> str:
    taught, untaught = frame[frame.index.isin(teachers)], frame[~frame.index.isin(teachers)]
    parts = []
    for part, which in ((taught, "with"), (untaught, "without")):
        if len(part):
            what = f"{len(part)} {'tasks' if len(part) > 1 else 'task'} {which} a teacher"
            parts.append(f"{_points(part['gain'].mean())} on the {what}")
    return f"The mean change is {_listed(parts)}." if parts else ""


def _further(distil: Distil) -> str:
    return (
        f"MT-DNN_KD learns from soft targets also on {amounts(distil.unlabelled)}."
        if distil.unlabelled
        else ""
    )


def _by_size(frame: pd.DataFrame, sizes: dict[str, float]) -> str:
    source = "" if sizes else " of the full data sets"
    sizes = sizes or {task: tasks.GLUE[task].examples for task in frame.index if task in tasks.GLUE}
    known = frame[[task in sizes for task in frame.index]]
    if len(known) < 5:
        return "Five tasks are needed to say whether small tasks gain more."
    train = np.array([sizes[task] for task in known.index])
    if len(set(train)) < 2 or known["gain"].nunique() < 2:
        return "Train sizes or gains are all alike, so no trend with size can be told."
    rank, chance = stats.spearmanr(train, known["gain"])
    trend = (
        "Smaller tasks gained more"
        if rank < 0
        else "Larger tasks gained more, against the paper's claim"
    )
    rank_text = f"{number(rank, 2, sign=True)} over {len(known)} tasks, p = {chance:.2f}"
    figure = f"rank correlation of gain and train size{source} {rank_text}"
    if chance > 0.05:
        way = "smaller" if rank < 0 else "larger"
        return f"No trend with the size of the train set is established; {way} tasks lean to larger gains ({figure})."
    return f"{trend} ({figure})."


def _kept(row: pd.Series, compared: Compared) -> str:
    if math.isnan(row["ensemble_gain"]):
        return "There is no ensemble to compare with."
    above = compared.of(ENSEMBLE, BASE)
    within = f" (95 % interval {span(above.loc['average'])})" if "average" in above.index else ""
    if not math.isfinite(row["kept"]):
        return f"The ensembles do not beat MT-DNN ({_points(row['ensemble_gain'])}{within}), so there is no gain to keep."
    where = (
        f" on the {row['ensemble_tasks']:.0f} tasks that they have"
        if row["ensemble_tasks"] < row["tasks"]
        else ""
    )
    kept, text = (
        compared.kept,
        f"The ensembles gain {_points(row['ensemble_gain'])} over MT-DNN{where}{within}; the student keeps",
    )
    text = f"{text} {share(row['kept'])} of it"
    if not within:
        return f"{text}."
    if not math.isfinite(kept.low):
        return f"{text}, a share without bounds, as the ensembles' own gain may be nothing."
    return f"{text} ({percent(kept.low)} to {percent(kept.high)})."


def _apart(frame: pd.DataFrame) -> str:
    changes = frame.loc[frame.index.isin(figures.ASIDE), "gain"].dropna()
    texts = [f"{title(task)} {_points(change)}" for task, change in changes.items()]
    return f"Outside the average: {_listed(texts)}." if texts else ""


def _selected(selection: pd.DataFrame | None) -> str:
    if selection is None or not len(selection):
        return ""
    kept = selection[selection["kept"].astype(bool)]["candidate"].astype(str)
    return f"The {name(ENSEMBLE)} averages {len(kept)} of {len(selection)} candidates ({_listed(kept)})."


def _paper() -> str:
    row = published.gains().loc["average"]
    return (
        f"Published, with BERT-large on all of GLUE ({published.SOURCE}, Table 3): {_points(row['gain'])} for "
        f"MT-DNN_KD over MT-DNN on eight tasks, {percent(row['kept'])} of the ensemble's gain."
    )
