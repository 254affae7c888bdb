"""The benchmark's figure: a panel a shape and kind of work, a bar a system, its rounds as dots."""

import statistics

from matplotlib.figure import Figure

from mtkd.report.style import COLOURS, MUTED, blank, nothing, styled

TITLES = {"train": "training", "score": "scoring by an ensemble of three"}


@styled
def speed(rounds: list[dict], names: dict[str, str]) -> Figure:
    """Examples a second by system: bars are medians, dots rounds, and how many times as fast mtkd is stands behind the bar."""
    kinds = [
        kind
        for kind in dict.fromkeys((row["shape"], row["system"].split(":")[0]) for row in rounds)
        if kind[1] in TITLES
    ]
    if not kinds:
        return nothing("There are no rounds to show.")
    figure = blank(9, 1 + 1.9 * len(kinds))
    texts = []
    for axes, (shape, kind) in zip(
        figure.subplots(len(kinds), 1, squeeze=False)[:, 0], kinds, strict=True
    ):
        rates: dict[str, list[float]] = {}
        for row in rounds:
            if row["shape"] == shape and row["system"].startswith(kind):
                rates.setdefault(row["system"], []).append(row["examples"] / row["seconds"])
        systems = [name for name in names if name in rates]
        medians = {name: statistics.median(found) for name, found in rates.items()}
        own = medians[f"{kind}:mtkd"]
        for place, name in enumerate(systems):
            mine = name.split(":")[1] == "mtkd"
            axes.barh(
                place,
                medians[name],
                color=COLOURS["mt-dnn-kd" if mine else "bert"],
                alpha=0.85,
                height=0.62,
            )
            axes.plot(
                rates[name], [place] * len(rates[name]), "o", color="black", markersize=3, alpha=0.6
            )
            behind = (
                ""
                if name == f"{kind}:mtkd"
                else f", mtkd is {own / medians[name]:.1f} times as fast"
            )
            told = f"{medians[name]:,.0f}" + ("" if mine else behind)
            axes.annotate(
                told,
                (max(rates[name]), place),
                (6, 0),
                textcoords="offset points",
                va="center",
                color=MUTED,
            )
            texts.append(f"{shape}, {kind}, {names[name]}: {told}")
        axes.set_yticks(range(len(systems)), [names[name] for name in systems])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.6 * max(max(found) for found in rates.values()))
        axes.grid(False, axis="y")
        axes.set_title(f"BERT-{shape}, {TITLES[kind]}", loc="left")
    axes.set_xlabel("examples a second of the whole machine")
    figure.set_label("; ".join(texts) + ".")
    return figure
