"""Executed notebooks as pages that ask no other host for anything, and the files of a report."""

import base64
import html
import io
import json
import re
import sys
from pathlib import Path

import nbformat
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from nbconvert import HTMLExporter

from mtkd.config.study import Study
from mtkd.errors import UserError
from mtkd.report import diagrams, tables
from mtkd.report import figures as plots
from mtkd.report import significance as comparisons
from mtkd.report.finding import finding
from mtkd.report.page_style import SCRIPT, policy, stylesheet
from mtkd.report.sections import ablation as ablation_report
from mtkd.report.sections import adaptation as adaptation_report
from mtkd.report.sections import mkd as mkd_report
from mtkd.report.sections import ranking as ranking_report
from mtkd.report.style import save
from mtkd.report.table import Table

INDEX = "07_report"  # the notebook whose page is index.html


def to_html(
    notebook: Path, page: Path, title: str | None = None, nav: str = "", inputs: bool = True
) -> Path:
    """Writes an executed notebook as one page: images synthetic, no request; `inputs` shows the code too.

    One script runs, the one that sorts tables; a browser refuses any other, and any address, whatever an output holds.
    """
    content = _cleaned(_read(notebook))
    exporter = HTMLExporter(template_name="basic", exclude_input=not inputs)
    body, _ = exporter.from_notebook_node(content)
    name = html.escape(title or heading(notebook))
    text = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">\n'
        f'<title>{name}</title><link rel="icon" href="data:,">\n<style>{stylesheet()}</style></head>\n'
        f"<body>{nav}<main>\n{body}\n</main><script>{SCRIPT}</script></body></html>\n"
    )
    page.write_text(text, encoding="utf-8")
    return page


def _read(notebook: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(notebook, as_version=4)
    except ValueError:
        raise UserError(f"{notebook} is damaged: remove it and run the study again.") from None


def requests(text: str) -> list[str]:
    """Addresses on other hosts that a browser would fetch with this page (links to follow are none)."""
    fetched = re.findall(
        r"""<[^>]*?\s(?:src|srcset|data|poster|xlink:href)\s*=\s*["']?\s*((?:https?:)?//[^"'\s>]+)""",
        text,
    )
    fetched += re.findall(r"""<link[^>]*?href\s*=\s*["']?\s*((?:https?:)?//[^"'\s>]+)""", text)
    return fetched + re.findall(
        r"""(?:@import\s+|url\()\s*["']?\s*((?:https?:)?//[^"')\s]+)""", text
    )


def all_pages(folder: Path) -> list[Path]:
    """A page for every executed notebook of `folder`/notebooks, linked to each other; `07_report` is the index."""
    folder = Path(folder)
    return [
        to_html(
            notebook,
            folder / page_name(notebook),
            nav=_nav(folder, notebook),
            inputs=_stage(notebook) != INDEX,
        )
        for notebook in notebooks(folder)
    ]


def notebooks(folder: Path) -> list[Path]:
    """Executed notebooks of a study, `<stage>[.<run>].ipynb`, in the order of their stages."""
    return sorted((Path(folder) / "notebooks").glob("*.ipynb"))


def page_name(notebook: Path) -> str:
    return "index.html" if notebook.stem == INDEX else f"{notebook.stem}.html"


def _stage(notebook: Path) -> str:
    return notebook.stem.partition(".")[0]


def _run(notebook: Path) -> str:
    return notebook.stem.partition(".")[2]


def heading(notebook: Path) -> str:
    """The first heading of a notebook, or its name; with the run."""
    for cell in _read(notebook).cells:
        lines = cell.source.splitlines() if cell["cell_type"] == "markdown" else []
        for line in lines:
            if line.startswith("#"):
                return line.lstrip("# ") + (f" · {_run(notebook)}" if _run(notebook) else "")
    return notebook.stem


def _link(notebook: Path, text: str, here: Path | None = None) -> str:
    mark = ' aria-current="page"' if notebook == here else ""
    return f'<a href="{html.escape(page_name(notebook))}"{mark}>{html.escape(text)}</a>'


def _nav(folder: Path, here: Path) -> str:
    """The lines above a page: back to the index, to every stage's first page, and to the other runs of its stage."""
    every = notebooks(folder)
    first = {_stage(notebook): notebook for notebook in reversed(every)}
    stages = "".join(_link(first[stage], stage, here) for stage in sorted(first) if stage != INDEX)
    runs = [notebook for notebook in every if _stage(notebook) == _stage(here)]
    beside = (
        f"<p>{''.join(_link(notebook, _run(notebook) or 'all', here) for notebook in runs)}</p>"
        if len(runs) > 1
        else ""
    )
    mark = ' aria-current="page"' if _stage(here) == INDEX else ""
    index = f'<a href="index.html"{mark}>Report {html.escape(folder.name)}</a>'
    return f'<nav aria-label="pages"><p>{index}{stages}</p>{beside}</nav>'


class links:
    """A list of every stage's pages, as links from the index."""

    def __init__(self, folder: Path):
        self.notebooks = [notebook for notebook in notebooks(folder) if _stage(notebook) != INDEX]

    def _repr_html_(self) -> str:
        lines = []
        for stage in dict.fromkeys(map(_stage, self.notebooks)):
            runs = [notebook for notebook in self.notebooks if _stage(notebook) == stage]
            title = html.escape(heading(runs[0]).removesuffix(f" · {_run(runs[0])}"))
            shown = ", ".join(_link(notebook, _run(notebook) or notebook.stem) for notebook in runs)
            lines.append(f"<li>{title}: {shown}</li>")
        return (
            f"<ul>{''.join(lines)}</ul>"
            if lines
            else "<p>No executed notebooks stand beside this report.</p>"
        )

    def __repr__(self) -> str:
        return "\n".join(page_name(notebook) for notebook in self.notebooks)


def _cleaned(notebook):
    """Fit for a page: no widgets (their text stays), no stale progress lines, no local paths, maths as images."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _maths(cell.source)
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = _no_paths(re.sub(r"[^\n]*\r(?!\n)", "", output.text))
            data = output.get("data", {})
            data.pop("application/vnd.jupyter.widget-view+json", None)
            for kind in ("text/plain", "text/html", "text/markdown"):
                if kind in data:
                    data[kind] = _no_paths(data[kind])
    notebook.metadata.pop("widgets", None)
    return notebook


def _no_paths(text: str) -> str:
    for place in (sys.prefix, str(Path.cwd())):
        if len(place) > 1:
            text = text.replace(f"{place}/", "")
    return text


def _maths(source: str) -> str:
    """Markdown whose $...$ are images drawn by matplotlib; what it cannot draw stays as code. Code is left alone."""
    parts = re.split(r"(```.*?```|`[^`\n]*`)", source, flags=re.DOTALL)
    pattern = r"\$\$(.+?)\$\$|(?<![\\\w$])\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\w$])"
    parts[::2] = [
        re.sub(pattern, lambda m: _formula((m[1] or m[2]).strip()), part, flags=re.DOTALL)
        for part in parts[::2]
    ]
    return "".join(parts)


def _formula(tex: str) -> str:
    buffer, figure = io.BytesIO(), Figure(figsize=(0.01, 0.01))
    figure.text(0, 0, f"${' '.join(tex.split())}$", fontsize=12)
    try:
        with rc_context({"svg.hashsalt": "mtkd", "svg.fonttype": "path"}):
            figure.savefig(
                buffer,
                format="svg",
                bbox_inches="tight",
                pad_inches=0.02,
                metadata={"Date": None, "Creator": None},
            )
    except ValueError:
        return f"`{tex}`"
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img class="maths" alt="{html.escape(tex)}" src="data:image/svg+xml;base64,{data}">'


def write_report(
    folder: Path,
    *,
    study: Study,
    results: pd.DataFrame,
    curves: pd.DataFrame,
    soft: pd.DataFrame,
    selection: pd.DataFrame,
    sizes: pd.DataFrame,
    run: dict,
    compared: comparisons.Compared | None = None,
    mkd: mkd_report.Found | None = None,
    ablation: ablation_report.Found | None = None,
    adaptation: pd.DataFrame | None = None,
    ranking: pd.DataFrame | None = None,
) -> None:
    """Writes results.csv, comparisons.csv, run.json, finding.md, tables/ (CSV, Markdown) and figures/ (PNG, SVG) of a study to `folder`.

    Scores of adaptation go to adaptation.csv: they are of another task, have a share beside a seed, and count in no average;
    those of ranking, by another way of answering, to ranking.csv.

    The same frames give the same files, byte for byte; the frames are those of `stages.report`.
    """
    folder, compared = Path(folder), compared or comparisons.Compared()
    for part in (folder / "tables", folder / "figures"):
        part.mkdir(parents=True, exist_ok=True)
    every = [
        results if mkd is None else mkd.results,
        *([] if ablation is None else [ablation.rows]),
    ]
    pd.concat(every, ignore_index=True).to_csv(
        folder / "results.csv", index=False, lineterminator="\n"
    )
    compared.frame.round(4).to_csv(folder / "comparisons.csv", index=False, lineterminator="\n")
    for name, rows in (("adaptation", adaptation), ("ranking", ranking)):
        if rows is not None:
            rows.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    (folder / "run.json").write_text(
        json.dumps(run, indent=1, default=str, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    text = finding(results, selection, sizes, study.distil, compared)
    text += "" if mkd is None else f"\n\n{mkd_report.finding(mkd)}"
    text += "" if adaptation is None else f"\n\n{adaptation_report.finding(adaptation)}"
    text += "" if ranking is None else f"\n\n{ranking_report.finding(ranking)}"
    (folder / "finding.md").write_text(text + "\n", encoding="utf-8")
    written = [
        *all_tables(results, sizes, compared, mkd),
        *mkd_report.write_tables(mkd),
        *ablation_report.write_tables(ablation),
        *adaptation_report.write_tables(adaptation),
        *ranking_report.write_tables(ranking),
    ]
    for table in written:
        (folder / "tables" / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
        (folder / "tables" / f"{table.name}.md").write_text(table.markdown(), encoding="utf-8")
    drawn = all_figures(study, results, curves, soft, sizes, compared)
    drawn |= (
        mkd_report.write_figures(mkd)
        | ablation_report.write_figures(ablation)
        | adaptation_report.write_figures(adaptation)
    )
    for name, figure in drawn.items():
        save(figure, folder / "figures" / name)


def all_tables(
    results: pd.DataFrame,
    sizes: pd.DataFrame,
    compared: comparisons.Compared,
    mkd: mkd_report.Found | None = None,
) -> list[Table]:
    shown = [
        tables.table1(sizes),
        tables.table2(results),
        tables.table3(results),
        tables.gains_table(results, compared),
    ]
    return [*shown, comparisons.table(compared, mkd_report.label(mkd))]


def all_figures(
    study: Study, results, curves, soft, sizes, compared: comparisons.Compared
) -> dict[str, Figure]:
    """Every figure of the report by its file name."""
    teachers = study.distil.teachers
    return {
        "overview": plots.overview(results, sizes, teachers, compared),
        "gain_by_size": plots.gain_by_size(results, sizes, teachers, compared),
        "ensemble_vs_student": plots.ensemble_vs_student(results, teachers, compared),
        "learning_curves": plots.learning_curves(curves),
        "loss_curves": plots.learning_curves(curves, of="loss"),
        "soft_targets": plots.soft_targets(soft),
        "model": diagrams.model(study),
        "distillation": diagrams.distillation(study),
    }
