"""Tables 1 and 3 beside the published ones, the summary, gains, comparisons, and provenance."""

from datetime import timedelta
from itertools import compress

import numpy as np
import pandas as pd

from mtkd.report import published, scores
from mtkd.report.scores import BASE, CANDIDATE, ENSEMBLE, STUDENT, is_aside, name, title
from mtkd.report.significance import BEFORE, METHOD, ONE_RUN, PAIRS, Compared
from mtkd.report.table import NONE, Table, count, gain_text, number, p_text, percent, spread
from mtkd.tasks import GLUE, Task

GAIN = "vs. MT-DNN (95 % interval)"
PUBLISHED = "Published train/dev/test"
METRICS = {"accuracy": "acc", "f1": "F1", "matthews": "Matthews"}
METRICS |= {"pearson": "Pearson", "spearman": "Spearman"}
METRICS |= {"entity_f1": "entity F1", "exact_match": "exact match", "overlap_f1": "F1"}
METRICS |= {"rouge_l": "ROUGE-L", "top": "top", "mrr": "MRR"}


def millions(results: pd.DataFrame, system: str) -> str:
    """Return a system's parameters in millions."""
    largest = results.loc[results["system"] == system, "params"].max() / 1e6
    return NONE if pd.isna(largest) else f"{number(largest, 1 if largest >= 1 else 2)} M"


def seeds_of(results: pd.DataFrame, system: str) -> str:
    """Return how many seeds a system has."""
    return str(results.loc[results["system"] == system, "seed"].nunique() or NONE)


def summary(results: pd.DataFrame, comparisons: pd.DataFrame) -> Table:
    """Return the main systems: size, average, and gain over MT-DNN with its 95 % interval.

    `results` and `comparisons` are the frames of results.csv and comparisons.csv.
    """
    turned = comparisons.rename(columns={"a": "b", "b": "a", "low": "high", "high": "low"})
    turned[["difference", "low", "high"]] *= -1
    compared, rows = Compared(pd.concat([comparisons, turned], ignore_index=True)), []
    by_system = scores.averages(results)
    for system in filter(scores.is_main, scores.systems(scores.dev(results))):
        values = by_system.loc[by_system["system"] == system, "average"]
        cells = {"System": name(system), "Parameters": millions(results, system)}
        cells |= {"Seeds": seeds_of(results, system), "Dev average": spread(values), GAIN: NONE}
        frame = scores.gains(results, compared, student=system)
        if "average" in frame.index and system != BASE:
            cells[GAIN] = gain_text(frame.loc["average"])
        rows.append(cells)
    columns = ["System", "Parameters", "Seeds", "Dev average", GAIN]
    notes = [f"Percent, averaged over {_titles(scores.averaged(results))}."]
    notes += [ONE_RUN] if ENSEMBLE in set(results["system"]) else []
    return Table("summary", "Dev scores", pd.DataFrame(rows, columns=columns), notes)


def _titles(tasks: list[str]) -> str:
    return ", ".join(map(title, tasks)) or "no task"


def closing_table(results: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """Return `summary` as text of at most 100 columns, for the end of a run."""
    return summary(results, comparisons).text()


def table1(sizes: pd.DataFrame, tasks: list[Task]) -> Table:
    """Return Table 1 from the data themselves (sizes.csv) beside the published sizes.

    `sizes` may have a column `cut`: percent of a split's examples above the most word pieces.
    """
    rows = [_size_row(sizes[sizes["task"] == task.name], task) for task in tasks]
    frame = pd.DataFrame([row for row in rows if row])
    missing = sizes[sizes["missing"].astype(bool)].groupby("title", sort=False)["split"]
    notes = [f"{corpus}: these data lack {', '.join(gone)}." for corpus, gone in missing]
    notes.append(
        "Sizes of several splits are joined by +. Majority: share of the most frequent class. "
        "Words: mean per example. Dev in train: share of the dev examples that the train set has."
    )
    if "cut" in sizes:
        notes.append("Cut: train examples that lose their end, by `data.max_length`.")
    if not scores.beside_the_paper(sizes):
        frame = frame.drop(columns=PUBLISHED)
    return Table("table1", "Table 1: the tasks", frame, notes)


def _size_row(rows: pd.DataFrame, task: Task) -> dict:
    """Return a task's row of Table 1; empty where the data have no split of it."""
    if not len(rows):
        return {}
    present = rows[~rows["missing"].astype(bool)]
    sizes = rows["examples"].where(~rows["missing"].astype(bool)).map(count)

    def mean(column: str, role: str) -> str:
        """Return the mean per example of the splits of a role."""
        part = present[(present["role"] == role) & (present["examples"] > 0)]
        part = part.dropna(subset=[column])
        return number(np.average(part[column], weights=part["examples"])) if len(part) else NONE

    row = {"Corpus": str(rows["title"].iloc[0]), "Kind": task.kind}
    for role in ("train", "dev", "test"):
        row[role.capitalize()] = " + ".join(sizes[rows["role"] == role]) or NONE
    text = "train" if task.train else "test"
    row |= {
        PUBLISHED: "/".join(task.published) if any(task.published) else NONE,
        "Labels": _labels(task),
        "Metrics": "/".join(METRICS[metric] for metric in task.metrics),
        "Majority of dev, %": mean("majority", "dev"),
        "Words": mean("words", text),
        "Dev in train, %": mean("overlap", "dev"),
    }
    return row | ({"Cut, %": mean("cut", text)} if "cut" in rows else {})


def _labels(task: Task) -> str:
    return "text" if task.generates else "score" if task.regression else str(len(task.labels))


def table3(results: pd.DataFrame) -> Table:
    """Return Table 3: dev scores by system and task, mean ± standard deviation over seeds.

    Bold is the best single model of this study, by the mean as shown. Published rows are beneath.
    The first candidate of `results` is the best by the study's selection; it stands below MT-DNN.
    """
    rows, paper = scores.dev(results), scores.beside_the_paper(results)
    averages = scores.averages(results).rename(columns={"average": "value"})
    averages = averages.assign(task="average", split="", metric="")
    every, names = pd.concat([rows, averages], ignore_index=True), _names(rows)
    systems = list(names)
    values = every.groupby(["system", "task", "split", "metric"])["value"]
    means, texts = (values.agg(one).unstack("system") for one in ("mean", spread))
    means = means[[system for system in systems if not system.startswith(ENSEMBLE)]].round(1)
    best = means.eq(means.max(axis=1), axis=0) & (means.notna().sum(axis=1) > 1).to_numpy()[:, None]
    texts = texts.where(~best.reindex(columns=texts.columns, fill_value=False), "**" + texts + "**")
    tasks = scores.in_order([*(published.TASKS if paper else ()), *rows["task"]])
    frame = pd.DataFrame({"Model": names.values()})
    frame["Seeds"] = [seeds_of(rows, system) for system in systems]
    frame["Params"] = [millions(rows, system) for system in systems]
    labels = {}
    for task in (*tasks, "average"):
        numbers = _numbers(task, every)
        metrics = dict.fromkeys(METRICS.get(metric, "") for *_, metric in numbers)
        labels[task] = f"{title(task)} {'/'.join(metrics)}".strip()
        part = texts.reindex(pd.MultiIndex.from_tuples(numbers))
        column = part.fillna(NONE).agg(" / ".join).where(part.notna().any(), NONE)
        frame[labels[task]] = column[systems].to_numpy()
    notes = [
        "Mean ± standard deviation over seeds; a task's score is the mean of its numbers. Bold: "
        f"the best single model of this study. Average over {_titles(scores.averaged(results))}.",
    ]
    if ENSEMBLE in names:
        notes.append(ONE_RUN)
    if paper:
        notes += [
            f"Published: {published.SOURCE}, Table 3, BERT-large and all of GLUE; averages are "
            "computed here. It lacks WNLI, and prints MRPC as F1/accuracy.",
        ]
        official = published.read("table3").apply(lambda cells: cells.str.replace("/", " / "))
        official["average"] = published.scores().mean(axis=1).map(number)
        models = [f"{name(one)} (published)" for one in official.index]
        official = official.rename(columns=labels).assign(Model=models)
        frame = pd.concat([frame, official], ignore_index=True).fillna(NONE)
    return Table("table3", "Table 3: dev scores, percent", frame, notes, len(systems))


def _names(rows: pd.DataFrame) -> dict[str, str]:
    """Return the names of Table 3's systems in order, the best candidate's below MT-DNN's."""
    systems, names = scores.systems(rows), {}
    candidates = (one.partition(":")[0] for one in systems if one.startswith(CANDIDATE))
    best = next(candidates, None)
    for system in systems:
        names.setdefault(system, name(system))
        base, _, stage = system.partition(":")
        own = f"{best}:{stage}" if stage else best
        if base == BASE and own in systems:
            stage = ", before fine-tuning" if stage else ""
            names[own] = f"best single candidate ({best.removeprefix(CANDIDATE)}{stage})"
    return names


def _numbers(task: str, rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return the (task, split, metric) of each number in a cell of Table 3."""
    if task in GLUE:
        return [(task, split, one) for split in GLUE[task].dev for one in GLUE[task].metrics]
    part = rows.loc[rows["task"] == task, ["task", "split", "metric"]].drop_duplicates()
    return list(part.itertuples(index=False, name=None))


def gains_table(results: pd.DataFrame, compared: Compared | None = None) -> Table:
    """Return `scores.gains` of MT-DNN_KD and the ensembles over MT-DNN, beside published ones."""
    frame = scores.gains(results, compared)
    unknown = frame["ensemble_gain"].map(lambda gain: NONE if pd.isna(gain) else "not established")
    columns = {
        "Task": frame.index.map(title),
        "Seeds": frame["seeds"].map(count),
        "MT-DNN": frame["base"].map(number),
        "MT-DNN_KD's gain": frame.apply(gain_text, axis=1),
        "p (Holm)": frame["p_holm"].map(p_text),
        "Ensemble's gain": frame["ensemble_gain"].map(_signed),
        "Share kept": frame["kept"].map(percent).where(frame["kept"].notna(), unknown),
    }
    notes = [
        f"Points over MT-DNN, paired by seed. {METHOD} p is corrected for the number of tasks by "
        "Holm's method; the average is one test. Share kept: of the ensemble's gain, where that "
        f"is established (p < .05). {ONE_RUN}",
    ]
    if scores.beside_the_paper(results):
        paper = published.gains().reindex(frame.index)
        columns["Gain, published"] = paper["gain"].map(_signed)
        columns["Share kept, published"] = paper["kept"].map(percent)
        notes.append(f"Published: computed from Table 3 of {published.SOURCE}.")
    overall = len(frame) - 1 if "average" in frame.index else 0
    return Table("gains", "What distillation gains", pd.DataFrame(columns), notes, overall)


def _signed(value: float, digits: int = 2) -> str:
    return number(value, digits, sign=True)


def comparisons_table(compared: Compared) -> Table:
    """Return every comparison but the ablation's: average, and tasks on which it is established."""
    rows, frame = [], compared.frame.rename(columns={"difference": "gain"})
    columns = ["Comparison", "Seeds", "Average difference", "p", "Tasks better", "Tasks worse"]
    for (a, b), part in frame.groupby(["a", "b"], sort=False):
        ablation = a.startswith(f"{STUDENT}:") and (a, b) != BEFORE
        if ablation or (b, a) in PAIRS:
            continue
        average = part[part["task"] == "average"]
        aside = part["task"].map(is_aside) | (part["task"] == "average")
        tasks = part[(part["p_holm"] < 0.05) & ~aside]
        sure, seeds = tasks.set_index("task")["gain"], int(part["seeds"].max())
        texts = [f"{title(task)} {_signed(gain, 1)}" for task, gain in sure.items()]
        named = [", ".join(compress(texts, some)) or "none" for some in (sure > 0, sure < 0)]
        over = str(seeds) if seeds > 1 else "1 (how training varies is left out)"
        cells = [next(iter(average.apply(gain_text, axis=1)), NONE)]
        cells += [next(iter(average["p"].map(p_text)), NONE)]
        rows.append([f"{name(a)} against {name(b)}", over, *cells, *named])
    notes = [
        f"{METHOD} Tasks are named where p < .05 after Holm's correction over the tasks of the "
        "comparison; the average is one test. All comparisons are paired by seed.",
        f"Points on dev, averaged over the tasks that both have but WNLI and rankings. {ONE_RUN}",
    ]
    return Table("comparisons", "Every comparison", pd.DataFrame(rows, columns=columns), notes)


def provenance(run: dict) -> Table:
    """Return what made the report, from run.json, with the stages' notes below."""
    seconds = run.get("seconds", {})
    times = {one: timedelta(seconds=round(time)) for one, time in seconds.items()}
    times["all stages"] = sum(times.values(), timedelta())
    shown = {key: value for key, value in run.items() if key not in ("study", "notes", "seconds")}
    shown["time"] = times
    frame = pd.DataFrame({"What": list(shown), "Value": list(map(_flat, shown.values()))})
    return Table("provenance", "What made this report", frame, run.get("notes", []))


def _flat(value) -> str:
    if isinstance(value, dict):
        return " · ".join(f"{key}: {_flat(inner)}" for key, inner in value.items()) or NONE
    return ", ".join(value) if isinstance(value, list) else str(value)
