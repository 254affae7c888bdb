"""The report's pages and `make lab` in a headless Chromium."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from helpers import ROOT, TINY
from nbformat.v4 import new_code_cell, new_notebook, new_output
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from mtkd.report.html import write_page
from mtkd.report.style import Shown, empty_figure
from mtkd.report.table import Table

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(900)]
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Yield a Chromium with an empty profile; without one, the tests are skipped, or fail in CI."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        text = "there is no chromium with a chromedriver on the PATH"
        (pytest.fail if os.environ.get("MTKD_CI") else pytest.skip)(text)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield driver
    driver.quit()


class Recorder(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        self.server.requests.append(self.path)


@pytest.fixture
def serve():
    """Return a function that serves a folder on localhost: (address, list of requested paths)."""
    servers = []

    def start(folder: Path) -> tuple[str, list[str]]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Recorder, directory=folder))
        server.requests = []
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/", server.requests

    yield start
    for server in servers:
        server.shutdown()


def resize(browser, width: int = 1200, scheme: str = "light") -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def requested(browser) -> list[str]:
    """Return the addresses on the network that were requested since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    urls = [params["request"]["url"] for params in sent]
    return [url for url in urls if url.startswith(("http:", "https:", "ws:", "wss:"))]


FACTS = """
return {
  links: [...document.querySelectorAll("a[href]")].map(link => link.href),
  images: [...document.images].map(image => [image.alt, image.naturalWidth]),
  lang: document.documentElement.lang,
  title: document.title,
  heads: document.querySelectorAll("h1").length,
}"""
CUT_TABLES = """
const tables = [...document.querySelectorAll(".mtkd-table")];
const cut = tables.filter(one => one.scrollWidth > one.clientWidth).map(one => one.ariaLabel);
return tables.length ? cut : ["no table"]"""


def test_every_page_is_reached_requests_no_other_host_and_fits_a_phone(browser, tiny_run, serve):
    base, _ = serve(tiny_run.reports)
    requested(browser)
    left, seen = ["index.html"], set()
    while left:
        page = left.pop()
        seen.add(page)
        resize(browser)
        browser.get(base + page)
        facts = browser.execute_script(FACTS)
        assert facts["lang"] == "en" and facts["title"] and facts["heads"] == 1, page
        assert all(alt and width for alt, width in facts["images"]), page
        for width in (1200, 420):
            resize(browser, width)
            needed = browser.execute_script("return document.documentElement.scrollWidth")
            assert needed <= width, (page, width)
        links = [link.removeprefix(base).partition("#")[0] for link in facts["links"]]
        pages = {link for link in links if link.endswith(".html") and "/" not in link}
        left += pages - seen - set(left)
    assert seen == {path.name for path in tiny_run.reports.glob("*.html")}
    assert [url for url in requested(browser) if not url.startswith(base)] == []
    assert not browser.get_log("browser")
    resize(browser)
    browser.get(f"{base}index.html")
    assert not browser.execute_script(CUT_TABLES)


COLUMN = """
const table = document.querySelector("[aria-label^='Table 3'] table");
const heads = [...table.tHead.rows[0].cells].map(cell => cell.textContent);
const index = heads.findIndex(head => head.startsWith(arguments[0]));
return [...table.tBodies].map(body => [...body.rows].map(row => row.cells[index].textContent))"""
SORTED = "return arguments[0].sort((one, other) => one.localeCompare(other, 'en'))"


def column(browser, head: str) -> list[list[str]]:
    """Return the cells of a column of Table 3, a list per part of the table."""
    return browser.execute_script(COLUMN, head)


def numbers(cells: list[str]) -> list[float]:
    return [float(text.split()[0].replace("\u2212", "-")) for text in cells if text != "–"]


def test_tables_sort_by_mouse_and_keyboard(browser, tiny_run, serve):
    resize(browser)
    browser.get(serve(tiny_run.reports)[0] + "index.html")

    def head(text: str):
        path = (
            "//div[starts-with(@aria-label, 'Table 3')]//th[starts-with(normalize-space(.), '{}')]"
        )
        return browser.find_element(By.XPATH, path.format(text))

    wnli = head("WNLI")
    before, names = column(browser, "WNLI"), column(browser, "Model")
    wnli.find_element(By.TAG_NAME, "button").click()
    ours, published = column(browser, "WNLI")
    values = numbers(ours)
    assert wnli.get_attribute("aria-sort") == "descending" and sorted(ours) == sorted(before[0])
    assert values == sorted(values, reverse=True) and len(set(ours[len(values) :])) <= 1
    assert published == before[1]  # the published figures stay below
    wnli.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    values = numbers(column(browser, "WNLI")[0])
    assert wnli.get_attribute("aria-sort") == "ascending" and values == sorted(values)
    wnli.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert wnli.get_attribute("aria-sort") is None and column(browser, "WNLI") == before
    head("Model").find_element(By.TAG_NAME, "button").click()
    by_name = column(browser, "Model")
    assert by_name == [browser.execute_script(SORTED, part) for part in names] != names
    head("Average").find_element(By.TAG_NAME, "button").click()
    values = numbers(column(browser, "Average")[0])
    assert len(set(values)) > 1 and values == sorted(values, reverse=True)


def contrast(one: str, other: str) -> float:
    """Return WCAG's contrast ratio of two colours, as `rgb(r, g, b)`."""
    lights = []
    for colour in (one, other):
        parts = [int(part) / 255 for part in colour.partition("(")[2].rstrip(")").split(",")[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


COLOURS = """
const style = (query, name) => getComputedStyle(document.querySelector(query))[name];
return [style("body", "backgroundColor"), style("body", "color"),
        style("a:not([aria-current])", "color"), style("figure img, img", "filter")]"""


def test_light_and_dark_are_both_legible(browser, tiny_run, serve):
    browser.get(serve(tiny_run.reports)[0] + "index.html")
    backgrounds = []
    for scheme in ("light", "dark"):
        resize(browser, scheme=scheme)
        background, text, link, image = browser.execute_script(COLOURS)
        backgrounds.append(background)
        assert contrast(background, text) > 10 and contrast(background, link) > 7, scheme
        assert ("invert" in image) == (scheme == "dark")
    assert contrast(*backgrounds) > 10


def test_what_an_output_holds_neither_runs_nor_loads(browser, tmp_path, serve):
    base, requests = serve(tmp_path)
    bad = (
        f'<img alt="x" src="{base}a.png" onerror="document.title=1">'
        f'<script>document.title=2</script><script src="{base}b.js"></script>'
        f'<iframe src="{base}c.html"></iframe><p onclick="document.title=3">press</p>'
    )
    data = {"text/html": bad, "text/plain": "x"}
    heading = nbformat.v4.new_markdown_cell("# As written")
    cell = new_code_cell("1", outputs=[new_output("display_data", data=data)])
    nbformat.write(new_notebook(cells=[heading, cell]), tmp_path / "page.ipynb")
    write_page(tmp_path / "page.ipynb", tmp_path / "page.html")
    browser.get(base + "page.html")
    title = browser.title
    browser.find_element(By.XPATH, "//p[.='press']").click()
    assert browser.title == title and "As written" in title and requests == ["/page.html"]
    assert browser.get_log("browser")  # the refusals


PHONE = """
const [figure, region] = document.querySelectorAll("figure, .mtkd-table");
region.scrollLeft = 100;
const left = query => region.querySelector(query).getBoundingClientRect().left;
return [figure.scrollWidth - figure.clientWidth, figure.querySelector("img").currentSrc.length,
        region.scrollLeft, left("tbody th"), left("thead th"), left("caption"),
        region.getBoundingClientRect().left]"""


def test_on_a_phone_the_figure_is_not_cut_and_the_first_column_stays(browser, tmp_path):
    wide, narrow = empty_figure("wide " * 40), empty_figure("narrow")
    narrow.set_size_inches(3, 3)
    frame = pd.DataFrame({f"column {n}": ["a long cell"] for n in range(20)})
    cells = [nbformat.v4.new_markdown_cell("# A title")]
    for shown in (Shown(wide, narrow), Table("t", "A caption", frame)):
        data = {"text/html": shown._repr_html_()}
        cells.append(new_code_cell("1", outputs=[new_output("display_data", data=data)]))
    nbformat.write(new_notebook(cells=cells), tmp_path / "page.ipynb")
    write_page(tmp_path / "page.ipynb", tmp_path / "page.html")
    sizes = []
    for width in (390, 1200):
        resize(browser, width)
        browser.get(f"file://{tmp_path / 'page.html'}")
        cut, size, scrolled, *lefts = browser.execute_script(PHONE)
        assert cut == 0 and scrolled == 100 and len(set(lefts)) == 1, width
        sizes.append(size)
    assert sizes[0] != sizes[1]


@pytest.fixture
def lab(tiny_run, tmp_path):
    """Yield the address of `make lab` on a copy of the student's notebook.

    The notebook is of the tiny study, of a seed that is not trained yet.
    """
    content = nbformat.read(ROOT / "notebooks" / "04_student.ipynb", as_version=4)
    cell = next(one for one in content.cells if "parameters" in one.metadata.get("tags", []))
    cell.source = cell.source.replace('"quick"', json.dumps(str(TINY)))
    cell.source = cell.source.replace("seed = 0", "seed = 7")
    nbformat.write(content, tmp_path / "04_student.ipynb")
    copied = shutil.copytree(tiny_run.environment["MTKD_WORK"], tmp_path / "artifacts")
    environment = os.environ | tiny_run.environment
    environment |= {"MTKD_WORK": str(copied), "MTKD_NOTEBOOKS": str(tmp_path)}
    environment |= {"PYTHONPATH": str(ROOT)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--no-browser --allow-root --ip=127.0.0.1 --port={port}"
    options += " --IdentityProvider.token=look"
    # The environment of these tests stands in for .venv, which `make test` has set up.
    variables = [f"BIN={Path(sys.executable).parent}", f"LAB={options}"]
    command = ["make", "lab", "--old-file=.venv/.ready", *variables]
    with (tmp_path / "lab.log").open("w") as log:
        pipes = {"stdout": log, "stderr": log, "start_new_session": True}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        yield f"http://127.0.0.1:{port}/lab/tree/04_student.ipynb?token=look"
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(120)


WATCH = """
const query = ".jp-OutputArea .widget-hprogress";
window.bars = 0;
new MutationObserver(() => bars += document.querySelectorAll(query).length)
  .observe(document.body, {childList: true, subtree: true});
"""
RUNNING = r"""
const prompts = [...document.querySelectorAll('.jp-InputArea-prompt')];
return prompts.some(prompt => /\[[*\d]/.test(prompt.textContent))"""
# What is out of view may not be in the page, and what is added above moves it.
SCROLL = """
const panes = document.querySelectorAll(".jp-WindowedPanel-outer");
for (const pane of panes) pane.scrollTop = pane.scrollHeight;
"""
TEXTS = (
    SCROLL
    + """
return [...document.querySelectorAll(".jp-OutputArea-output")].map(output => output.textContent);
"""
)
ERRORS = ".jp-OutputArea [data-mime-type='application/vnd.jupyter.error']"


def test_make_lab_runs_a_notebook_and_the_student_predicts(browser, lab):
    resize(browser, 1400)
    wait = WebDriverWait(browser, 300, ignored_exceptions=(Exception,))

    def outputs_with(*parts: str) -> list[str]:
        texts = browser.execute_script(TEXTS)
        return [text for text in texts if all(part in text for part in parts)]

    wait.until(lambda _: browser.get(lab) is None)  # until the server is up
    wait.until(lambda _: browser.find_element(By.CSS_SELECTOR, ".jp-Notebook .jp-MarkdownCell h1"))
    browser.execute_script(WATCH)

    def run_all() -> bool:  # a page that is still being built ignores a click
        browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
        for label, text in (("MenuBar-item", "Run"), ("Menu-item", "Run All Cells")):
            path = f"//*[contains(@class, 'lm-{label}Label')][normalize-space(.)='{text}']"
            find = partial(browser.find_element, By.XPATH, path)
            WebDriverWait(browser, 5).until(lambda _, find=find: find()).click()
        return WebDriverWait(browser, 20).until(lambda _: browser.execute_script(RUNNING))

    def boxes() -> list:
        browser.execute_script(SCROLL)
        found = browser.find_elements(By.CSS_SELECTOR, ".jp-OutputArea textarea")
        return found if len(found) == 2 else []

    for _ in range(3):  # on a busy machine JupyterLab may give up on a widget: run all again
        wait.until(lambda _: run_all())
        with contextlib.suppress(TimeoutException):
            WebDriverWait(browser, 90, ignored_exceptions=(Exception,)).until(lambda _: boxes())
            break
    assert browser.execute_script("return bars"), "no progress bar was shown"
    for box, text in zip(boxes(), ("A bird sings .", "Nothing sings ."), strict=True):
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)
    button = "//button[normalize-space(.)='Ask']"
    wait.until(lambda _: browser.find_element(By.XPATH, button).click() is None)
    wait.until(lambda _: outputs_with("A bird sings .", "Nothing sings .", "MNLI", "entailment"))
    assert not browser.find_elements(By.CSS_SELECTOR, ERRORS)
