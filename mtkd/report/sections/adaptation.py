"""The report's part on adaptation with few labels: system by share of SNLI's train set, the curve, and what it shows.

Every function takes the frame of `mtkd.stages.adaptation.results`, or None where the study adapts nothing.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mtkd.artifacts import Artifact
from mtkd.report.scores import interval, name
from mtkd.report.style import MUTED, Shown, blank, colour, marker, nothing, styled
from mtkd.report.table import NONE, Table, bold_html, count, gained, number, spread
from mtkd.tasks import SNLI
from mtkd.workflow.jobs import SYSTEMS

HEADING = "Adaptation with few labels"
WORDS = (
    "MT-DNN's claim (Liu et al. 2019, arXiv:1901.11504) is that its shared layers need fewer labels of a new task than BERT's. "
    "Each system is fine-tuned with a new head on shares of SNLI's train set: for a seed the same head, examples, batches and number "
    "of updates."
)


def scores(found: pd.DataFrame) -> pd.DataFrame:
    """Seeds x (system, examples): accuracy on dev in percent."""
    return found.pivot_table(index="seed", columns=["system", "examples"], values="value")


def gains(found: pd.DataFrame, system: str, base: str = "bert") -> pd.DataFrame:
    """By examples: `gain` of a system over another in points, mean over paired seeds, with its 95 % t-interval (`low`, `high`).

    A seed counts where both have all shares. The last row, under the index 0, is the mean over all shares but the whole
    train set (over all, where there is only that).
    """
    wide = scores(found)
    if system not in wide or base not in wide:
        return pd.DataFrame(columns=["gain", "low", "high", "seeds"])
    paired = (wide[system] - wide[base]).dropna()
    part = [size for size in paired if size != found.loc[found["share"] == 1, "examples"].max()]
    paired = paired.assign(**{"0": paired[part or list(paired)].mean(axis=1)}).rename(
        columns={"0": 0}
    )
    rows = {size: (paired[size].mean(), *interval(paired[size]), len(paired)) for size in paired}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["gain", "low", "high", "seeds"])


def table(found: pd.DataFrame) -> Table:
    """System x share: percent, mean ± standard deviation over seeds; below, what the multi-task models add to BERT."""
    wide, shares = scores(found), found.groupby("examples")["share"].first()
    heads = {
        size: f"{number(100 * share, 3).rstrip('0').rstrip('.')} % ({count(size)})"
        for size, share in shares.items()
    }
    present = [system for system in SYSTEMS if system in wide]
    rows = []
    for system in present:
        cells = {
            head: spread(wide[system][size].dropna()) if size in wide[system] else NONE
            for size, head in heads.items()
        }
        rows.append({"System": name(system), **cells})
    for system in present[1:] if present[:1] == ["bert"] else []:
        frame = gains(found, system)
        rows.append(
            {
                "System": f"{name(system)} − BERT",
                **{head: gained(frame.loc[size]) for size, head in heads.items()},
            }
        )
    seeds = len(wide)
    updates = f"{count(found['updates'].min())} to {count(found['updates'].max())}"
    whole = count(round(found["examples"].max() / found["share"].max()))
    notes = [
        f"Percent right on {count(found['n'].max())} of SNLI's dev examples, mean ± standard deviation over {_seeds(seeds)}; in brackets "
        f"the number of train examples. A small share is gone through again: a run has {updates} updates, all systems as many.",
        "Differences in points, paired by seed, with the 95 % t-interval over seeds in brackets.",
        f"Shares are of the train examples in use, {whole} of SNLI's {count(SNLI.num_train)}.",
    ]
    return Table(
        "adaptation",
        "Adaptation to SNLI by share of its train set",
        pd.DataFrame(rows),
        notes,
        divide=(len(present),),
    )


def _seeds(seeds: int) -> str:
    return f"{seeds} seeds" if seeds > 1 else "one seed"


@styled
def curve(found: pd.DataFrame | None) -> Figure:
    """Accuracy on SNLI's dev set by train examples (log scale); bars are the 95 % t-interval over seeds."""
    if found is None or not len(found):
        return nothing("Nothing was adapted to SNLI in this study.")
    wide, told = scores(found), []
    sizes = sorted(found["examples"].unique())
    figure = blank(8.5, 4.8)
    axes = figure.subplots()
    for place, system in enumerate([system for system in SYSTEMS if system in wide]):
        part = wide[system]
        means, reach = (
            part.mean(),
            [interval(part[size].dropna())[1] - part[size].mean() for size in part],
        )
        beside = np.asarray(part.columns) * 1.06 ** (
            place - 1
        )  # bars that would cover each other stand side by side
        axes.errorbar(
            beside,
            means,
            yerr=None if np.isnan(reach).all() else np.nan_to_num(reach),
            fmt=f"{marker(system)}-",
            color=colour(system),
            markersize=7,
            linewidth=2,
            capsize=3,
            elinewidth=1.2,
            label=name(system),
            zorder=3,
        )
        told.append(
            f"{name(system)} "
            + ", ".join(f"{number(value)} with {count(size)}" for size, value in means.items())
        )
    axes.axhline(100 / SNLI.num_outputs, color=MUTED, linewidth=1, linestyle=":", label="chance")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.set(xlabel="train examples of SNLI", ylabel="right on SNLI's dev set, percent")
    seeds = len(wide)
    axes.set_title(
        HEADING + (f" (bars: 95 % interval over {seeds} seeds)" if seeds > 1 else " (one seed)"),
        loc="left",
    )
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.set_label(
        "Accuracy on SNLI's dev set in percent by train examples. " + "; ".join(told) + "."
    )
    return figure


def finding(found: pd.DataFrame) -> str:
    """One sentence of Markdown on each multi-task system against BERT, whichever way it falls."""
    return " ".join(_finding_of(found, system) for system in SYSTEMS[1:])


def _finding_of(found: pd.DataFrame, system: str) -> str:
    frame = gains(found, system)
    if not len(frame) or not math.isfinite(frame.loc[0, "gain"]):
        return f"Whether {name(system)} needs fewer labels than BERT cannot be told: the two share no run."
    mean = frame.loc[0]
    if round(mean.gain, 1) <= 0:
        verdict = "does not adapt better than BERT"
    elif not math.isfinite(mean.low):
        verdict = "adapts better than BERT in this run (one seed: chance is not ruled out)"
    else:
        verdict = (
            "adapts better than BERT"
            if mean.low > 0
            else "does not measurably adapt better than BERT"
        )
    by_size = [f"{gained(row)} with {count(size)}" for size, row in frame.drop(index=0).iterrows()]
    over = " on average over the shares below the whole train set" if len(frame) > 2 else ""
    bars = (
        f" (in brackets the 95 % interval over {_seeds(int(mean.seeds))})"
        if math.isfinite(mean.low)
        else ""
    )
    return f"**With few labels {name(system)} {verdict}: {gained(mean)} points{over}**{bars}; by examples {', '.join(by_size)}."


class part:
    """The report's part: heading, finding, table and curve; nothing where the study adapts nothing."""

    def __init__(self, found: pd.DataFrame | None):
        self.found = found

    def _repr_html_(self) -> str:
        if self.found is None:
            return ""
        return "\n".join(
            [
                f"<h2>{HEADING}</h2>",
                f"<p>{WORDS}</p>",
                f"<p>{bold_html(finding(self.found))}</p>",
                table(self.found)._repr_html_(),
                Shown(curve(self.found))._repr_html_(),
            ]
        )

    def __repr__(self) -> str:
        return "" if self.found is None else f"[{HEADING}]"


def write_tables(found: pd.DataFrame | None) -> list[Table]:
    return [] if found is None else [table(found)]


def write_figures(found: pd.DataFrame | None) -> dict[str, Figure]:
    return {} if found is None else {"adaptation": curve(found)}


def scores_of(found: pd.DataFrame) -> Table:
    """One run of the notebook: a row a share."""
    rows = [
        {
            "Share": f"{row.share:g}",
            "Examples": count(row.examples),
            "Updates": count(row.updates),
            "Split": row.split,
            "Metric": row.metric,
            "Score": number(row.value),
            "Scored": count(row.n),
        }
        for row in found.itertuples()
    ]
    return Table("scores", "Dev scores in percent", pd.DataFrame(rows))


def curves_of(runs: list[Artifact], system: str, seed: int) -> pd.DataFrame:
    """Curves of the shares, a panel each, with the columns that `learning_curves` takes."""
    sizes = [count(run.json("about.json")["examples"]) for run in runs]
    parts = [
        run.frame("curve.csv").assign(
            run=run.path.name, system=system, seed=seed, task=f"train examples: {size}"
        )
        for run, size in zip(runs, sizes, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)
