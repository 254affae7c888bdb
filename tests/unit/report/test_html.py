"""Pages make no request, run no script but their own, and show text as text."""

import base64
import hashlib
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mtkd.errors import UserError
from mtkd.report.html import draw_maths, write_page, write_pages

FETCHED = r"""<[^>]*?\s(?:src|srcset|data|poster)\s*=\s*["']?\s*((?:https?:)?//[^"'\s>]+)"""
STYLES = r"""(?:@import\s+|url\()\s*["']?\s*((?:https?:)?//[^"')\s]+)"""
WIDGET = "application/vnd.jupyter.widget-view+json"


def notebook(path: Path, title: str) -> Path:
    text = "\x1b[31m<script>alert(1)</script>\x1b[0m\n10 %\r20 %\rdone\n"
    data = {"text/html": f"<p>{Path.cwd()}/shown</p>", "text/plain": "shown", WIDGET: {}}
    outputs = [
        new_output("stream", name="stdout", text=text),
        new_output("display_data", data=data),
    ]
    words = f"# {title}\n\nEq. 4: $-\\sum_c Q(c|X) \\log P_r(c|X)$ and $\\nosuch{{x}}$"
    hidden = new_code_cell("'secret'", metadata={"tags": ["verdict"]})
    cells = [new_markdown_cell(words), new_code_cell("print('<b>')", outputs=outputs), hidden]
    state = {"state": {}, "version_major": 2, "version_minor": 0}
    widgets = {"application/vnd.jupyter.widget-state+json": state}
    nbformat.write(new_notebook(cells=cells, metadata={"widgets": widgets}), path)
    return path


@pytest.fixture
def pages(tmp_path) -> dict[str, str]:
    (tmp_path / "notebooks").mkdir()
    for name in ("00_data", "02_mtdnn.cased-0.1", "02_mtdnn.cased-0.2", "11_report"):
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        notebook(path, f"Stage <script>{name}</script>")
    return {page.name: page.read_text(encoding="utf-8") for page in write_pages(tmp_path)}


def test_pages_are_linked(pages):
    stages = ["00_data.html", "02_mtdnn.cased-0.1.html", "02_mtdnn.cased-0.2.html"]
    assert list(pages) == [*stages, "index.html"]
    for name, text in pages.items():
        assert f'<a aria-current="page" href="{name}">' in text
        assert "<title>Stage &lt;script&gt;" in text
    links = re.findall(r'href="([^#"]*\.html)"', pages["index.html"].split("</nav>")[1])
    assert links == stages
    assert 'href="02_mtdnn.cased-0.1.html"' in pages["02_mtdnn.cased-0.2.html"]


def test_pages_make_no_request_and_run_one_script(pages):
    for text in pages.values():
        assert not re.findall(FETCHED, text) and not re.findall(STYLES, text)
        script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[-1]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert "default-src 'none'" in text and f"script-src 'sha256-{digest}'" in text
        assert "<script src" not in text and "mathjax" not in text.lower()
        assert len(re.findall(r"<script>", text)) == 2  # the heading's, which the policy refuses


def test_outputs_are_cleaned(pages):
    for text in pages.values():
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "10 %" not in text
        assert "done" in text and "<p>shown</p>" in text and "widget" not in text
        assert text.count('class="maths"') == 1 and "<code>\\nosuch{x}</code>" in text
    assert 'class="highlight' in pages["00_data.html"].split("</style>")[-1]
    assert 'class="highlight' not in pages["index.html"].split("</style>")[-1]  # no code


def test_a_page_alone_has_no_links(tmp_path):
    page = write_page(
        notebook(tmp_path / "11_report.ipynb", "A"), tmp_path / "x.html", drop="verdict"
    )
    text = page.read_text(encoding="utf-8")
    assert "<nav" not in text and "secret" not in text and ".html" not in text


def test_a_damaged_notebook_is_named(tmp_path):
    (tmp_path / "00_data.ipynb").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"00_data\.ipynb is damaged"):
        write_page(tmp_path / "00_data.ipynb", tmp_path / "x.html")


def test_code_and_prices_are_no_maths():
    for text in ("`$x$`", "```\n$x$\n```", "from $5 to $6", r"\$x$"):
        assert draw_maths(text) == text
    assert draw_maths("$$x$$").startswith('<img class="maths" alt="x" src="data:image/svg+xml')
