"""Executed notebooks as HTML pages, by nbconvert and the template in `templates/`."""

import base64
import hashlib
import html
import io
import re
import sys
from itertools import groupby
from pathlib import Path

import nbformat
from matplotlib.mathtext import math_to_image
from nbconvert import HTMLExporter
from nbconvert.preprocessors import Preprocessor

from mtkd.errors import UserError

TEMPLATES = Path(__file__).with_name("templates")
INDEX = "11_report"  # the notebook whose page is index.html


class Clean(Preprocessor):
    """Drop widgets, stale progress bars and machine paths; draw maths as images."""

    def preprocess_cell(self, cell, resources, index):
        """Clean one cell."""
        if cell.cell_type == "markdown":
            cell.source = draw_maths(cell.source)
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = _without_paths(re.sub(r"[^\n]*\r(?!\n)", "", output.text))
            data = output.get("data", {})
            data.pop("application/vnd.jupyter.widget-view+json", None)
            for kind in {"text/plain", "text/html", "text/markdown"} & set(data):
                data[kind] = _without_paths(data[kind])
        return cell, resources


def _without_paths(text: str) -> str:
    for folder in {sys.prefix, str(Path.cwd())} - {"/"}:
        text = text.replace(f"{folder}/", "")
    return text


def draw_maths(source: str) -> str:
    """Return Markdown with its `$...$` drawn by matplotlib, so that a page needs no MathJax.

    What matplotlib cannot draw becomes code. Code stays as it is.
    """
    parts = re.split(r"(```.*?```|`[^`\n]*`)", source, flags=re.DOTALL)
    maths = r"\$\$(.+?)\$\$|(?<![\\\w$])\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\w$])"
    parts[::2] = [re.sub(maths, _formula, part, flags=re.DOTALL) for part in parts[::2]]
    return "".join(parts)


def _formula(match: re.Match) -> str:
    tex, buffer = " ".join((match[1] or match[2]).split()), io.BytesIO()
    try:
        math_to_image(f"${tex}$", buffer, format="svg")
    except ValueError:
        return f"`{tex}`"
    source = f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return f'<img class="maths" alt="{html.escape(tex)}" src="{source}">'


def write_pages(folder: Path) -> list[Path]:
    """Write a page for each executed notebook in `folder`/notebooks, linked to each other.

    A notebook is called `<stage>[.<run>].ipynb`; the page of `INDEX` is index.html.
    """
    notebooks = sorted((folder / "notebooks").glob("*.ipynb"))
    return [write_page(one, folder / page_name(one), notebooks) for one in notebooks]


def write_page(notebook: Path, page: Path, beside: list[Path] = (), drop: str = "") -> Path:
    """Write an executed notebook as a page that makes no request; the index shows no code.

    A browser runs one script, the one that sorts tables, and refuses any other and any address,
    whatever an output holds.

    Args:
        notebook: the executed notebook.
        page: where to write.
        beside: the notebooks whose pages this one links to.
        drop: tag of cells to leave out.

    Raises:
        UserError: if the notebook cannot be read.
    """
    try:
        content = nbformat.read(notebook, as_version=4)
    except ValueError:
        raise UserError(f"{notebook} is damaged: remove it and run the study again.") from None
    content.cells = [one for one in content.cells if drop not in one.metadata.get("tags", [])]
    content.metadata.pop("widgets", None)
    script = (TEMPLATES / "mtkd" / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    texts = "\n".join(one.source for one in content.cells if one.cell_type == "markdown")
    heading, run = re.search(r"^# (.+)", texts, re.M), notebook.stem.partition(".")[2]
    links = [
        {"href": page_name(one), "current": one == notebook, "name": one.stem} for one in beside
    ]
    values = {
        "title": " · ".join(filter(None, [heading[1] if heading else notebook.stem, run])),
        "script": script,
        "policy": f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'",
        "report": f"Report {page.absolute().parent.name}",
        "index": notebook.stem == INDEX,
        "stage": notebook.stem.partition(".")[0],
        "stages": {
            stage: list(pages)
            for stage, pages in groupby(links, lambda link: link["name"].partition(".")[0])
            if stage != INDEX
        },
    }
    exporter = HTMLExporter(
        template_name="mtkd",
        extra_template_basedirs=[str(TEMPLATES)],
        preprocessors=[Clean],
        exclude_input=notebook.stem == INDEX,
    )
    body, _ = exporter.from_notebook_node(content, resources={"page": values})
    page.write_text(body, encoding="utf-8")
    return page


def page_name(notebook: Path) -> str:
    """Return the file name of a notebook's page."""
    return "index.html" if notebook.stem == INDEX else f"{notebook.stem}.html"
