"""The report's pages and `make lab` in a real headless Chromium."""

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
import pytest
from conftest import ROOT, TINY
from nbformat.v4 import new_code_cell, new_notebook, new_output
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from mtkd.report import html as pages

pytestmark = pytest.mark.timeout(900)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-dev-shm-usage"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium with an empty profile; without it the tests are skipped, where MTKD_CI is set they fail."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        (pytest.fail if os.environ.get("MTKD_CI") else pytest.skip)(
            "there is no chromium with a chromedriver on the PATH"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield driver
    driver.quit()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        self.server.asked.append(self.path)


@pytest.fixture
def serve():
    """Serves a folder on localhost: (address, list of the paths that were asked for)."""
    servers = []

    def start(folder: Path) -> tuple[str, list[str]]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
        server.asked = []
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/", server.asked

    yield start
    for server in servers:
        server.shutdown()


def look(browser, width: int = 1200, scheme: str = "light") -> None:
    """A window of this width, in a light or dark scheme."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )


def requested(browser) -> list[str]:
    """Addresses on the network that were asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    return [url for url in urls if url.startswith(("http:", "https:", "ws:", "wss:"))]


FACTS = """
return {links: [...document.querySelectorAll("a[href]")].map(a => a.href), pictures: [...document.images].map(i => [i.alt, i.naturalWidth]),
        lang: document.documentElement.lang, title: document.title, heads: document.querySelectorAll("h1").length}
"""


def test_every_page_is_reached_asks_no_other_host_and_fits_a_phone(browser, tiny_run, serve):
    folder = tiny_run[0]
    base, _ = serve(folder)
    requested(browser)
    left, seen = ["index.html"], set()
    while left:
        seen.add(page := left.pop())
        look(browser)
        browser.get(base + page)
        facts = browser.execute_script(FACTS)
        assert facts["lang"] == "en" and facts["title"] and facts["heads"] == 1, page
        assert all(alt and width for alt, width in facts["pictures"]), page
        for width in (1200, 420):
            look(browser, width)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width, (
                page,
                width,
            )
        names = [
            link.removeprefix(base).partition("#")[0]
            for link in facts["links"]
            if link.startswith(base)
        ]
        left += [
            name
            for name in dict.fromkeys(names)
            if name.endswith(".html") and name not in seen and name not in left
        ]
    assert seen == {path.name for path in folder.glob("*.html")}
    assert [url for url in requested(browser) if not url.startswith(base)] == []
    assert not browser.get_log("browser")


def test_tables_of_the_reference_reports_are_whole_on_a_desk(browser, serve):
    base, _ = serve(ROOT / "reports")
    look(browser)
    for page in sorted((ROOT / "reports").glob("*/index.html")):
        browser.get(f"{base}{page.parent.name}/index.html")
        cut = browser.execute_script("""
            const tables = [...document.querySelectorAll(".mtkd-table")];
            return tables.length ? tables.filter(one => one.scrollWidth > one.clientWidth).map(one => one.ariaLabel) : ["no table"]""")
        assert not cut, page


def _column(browser, column: str) -> list[list[str]]:
    """Cells of a column of Table 3, a list a part of the table."""
    return browser.execute_script(
        """
        const table = document.querySelector("[aria-label^='Table 3'] table");
        const place = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent.startsWith(arguments[0]));
        return [...table.tBodies].map(body => [...body.rows].map(row => row.cells[place].textContent))""",
        column,
    )


def test_tables_sort_by_mouse_and_keyboard(browser, tiny_run, serve):
    look(browser)
    browser.get(serve(tiny_run[0])[0] + "index.html")
    head = browser.find_element(
        By.XPATH,
        "//div[starts-with(@aria-label, 'Table 3')]//th[starts-with(normalize-space(.), 'WNLI')]",
    )
    first, first_names = _column(browser, "WNLI"), _column(browser, "Model")
    head.find_element(By.TAG_NAME, "button").click()
    own, published = _column(browser, "WNLI")
    values = [float(text.split()[0].replace("−", "-")) for text in own if text != "–"]
    assert head.get_attribute("aria-sort") == "descending" and sorted(own) == sorted(first[0])
    assert (
        values == sorted(values, reverse=True)
        and own[len(values) :] == ["–"] * (len(own) - len(values))
        and len(values) == 3
    )
    assert published == first[1]  # the published figures stay below
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    values = [float(text.split()[0].replace("−", "-")) for text in _column(browser, "WNLI")[0][:3]]
    assert head.get_attribute("aria-sort") == "ascending" and values == sorted(values)
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") is None and _column(browser, "WNLI") == first
    browser.find_element(
        By.XPATH, "//div[starts-with(@aria-label, 'Table 3')]//th[1]/button"
    ).click()
    for names, before in zip(_column(browser, "Model"), first_names, strict=True):
        assert names == browser.execute_script(
            "return arguments[0].sort((one, other) => one.localeCompare(other, 'en'))", before
        )
    assert _column(browser, "Model") != first_names
    average = browser.find_element(
        By.XPATH,
        "//div[starts-with(@aria-label, 'Table 3')]//th[starts-with(normalize-space(.), 'Average')]",
    )
    average.find_element(By.TAG_NAME, "button").click()
    values = [
        float(text.split()[0].replace("\u2212", "-")) for text in _column(browser, "Average")[0]
    ]
    assert len(set(values)) > 1 and values == sorted(values, reverse=True)


def _contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours as `rgb(r, g, b)`."""
    lights = []
    for colour in (one, other):
        parts = [int(part) / 255 for part in colour.partition("(")[2].rstrip(")").split(",")[:3]]
        parts = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        lights.append(0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_light_and_dark_are_both_legible(browser, tiny_run, serve):
    grounds = {}
    browser.get(serve(tiny_run[0])[0] + "index.html")
    for scheme in ("light", "dark"):
        look(browser, scheme=scheme)
        ground, ink, link, muted, figure = browser.execute_script("""
            const of = (query, name) => getComputedStyle(document.querySelector(query))[name];
            return [of("body", "backgroundColor"), of("body", "color"), of("a:not([aria-current])", "color"), of("ul.notes", "color"),
                    of("figure img", "filter")]""")
        grounds[scheme] = ground
        assert (
            _contrast(ground, ink) > 10
            and _contrast(ground, link) > 7
            and _contrast(ground, muted) > 7
        ), scheme
        assert ("invert" in figure) == (scheme == "dark")
    assert _contrast(grounds["light"], grounds["dark"]) > 10


def test_what_an_output_holds_neither_runs_nor_loads(browser, tmp_path, serve):
    base, asked = serve(tmp_path)
    bad = (
        f'<img alt="x" src="{base}a.png" onerror="document.title=1"><script>document.title=2</script><script src="{base}b.js"></script>'
        f'<iframe src="{base}c.html"></iframe><p onclick="document.title=3">press</p>'
    )
    cell = new_code_cell(
        "1", outputs=[new_output("display_data", data={"text/html": bad, "text/plain": "x"})]
    )
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "page.ipynb")
    pages.to_html(tmp_path / "page.ipynb", tmp_path / "page.html", title="as written")
    browser.get(base + "page.html")
    browser.find_element(By.XPATH, "//p[.='press']").click()
    assert browser.title == "as written" and asked == ["/page.html"]
    assert browser.get_log("browser")  # the refusals


@pytest.fixture
def lab(tiny_run, tmp_path):
    """`make lab` on copies of the student's notebook and the tiny study's artifacts, set to a seed that is not trained yet: its address."""
    notebook = json.loads((ROOT / "notebooks" / "04_student.ipynb").read_text())
    cell = next(
        cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])
    )
    cell["source"] = (
        "".join(cell["source"])
        .replace('"quick"', json.dumps(str(TINY)))
        .replace("seed = 0", "seed = 7")
    )
    (tmp_path / "04_student.ipynb").write_text(json.dumps(notebook))
    folders = tiny_run[1] | {
        "MTKD_WORK": shutil.copytree(tiny_run[1]["MTKD_WORK"], tmp_path / "artifacts")
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = (
        f"--no-browser --allow-root --ip=127.0.0.1 --port={port} --IdentityProvider.token=look"
    )
    # The environment of these tests stands in for .venv, which `make test` has set up.
    command = [
        "make",
        "lab",
        "--old-file=.venv/.ready",
        f"BIN={Path(sys.executable).parent}",
        f"NOTEBOOKS={tmp_path}",
        f"LAB={options}",
    ]
    with (tmp_path / "lab.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | folders,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        yield f"http://127.0.0.1:{port}/lab/tree/04_student.ipynb?token=look"
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(120)


WATCH = """
window.bars = 0;
new MutationObserver(() => bars += document.querySelectorAll(".jp-OutputArea .widget-hprogress").length)
  .observe(document.body, {childList: true, subtree: true});
"""
RUNNING = r"return [...document.querySelectorAll('.jp-InputArea-prompt')].some(prompt => /\[[*\d]/.test(prompt.textContent))"
# What is out of view may not be in the page, and what comes above moves it: the last cell is looked at every time.
LAST = """
for (const pane of document.querySelectorAll(".jp-WindowedPanel-outer")) pane.scrollTop = pane.scrollHeight;
"""
PICTURES = (
    LAST
    + """
return [...document.querySelectorAll(".jp-OutputArea img")].filter(i => i.naturalWidth).map(i => i.alt);
"""
)


def test_make_lab_runs_a_notebook_and_the_student_answers(browser, lab):
    look(browser, 1400)
    wait = WebDriverWait(browser, 300, ignored_exceptions=(Exception,))

    def click(path: str) -> None:
        wait.until(lambda _: browser.find_element(By.XPATH, path).click() is None)

    def answers(to: str = "") -> list[str]:
        return [
            alt for alt in browser.execute_script(PICTURES) if alt.startswith(f"Answers to “{to}")
        ]

    wait.until(lambda _: browser.get(lab) is None)  # until the server is up
    wait.until(lambda _: browser.find_element(By.CSS_SELECTOR, ".jp-Notebook .jp-MarkdownCell h1"))
    browser.execute_script(WATCH)

    def run_all() -> bool:  # a page that is still being built takes a click for nothing
        browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
        for label, words in (("MenuBar-item", "Run"), ("Menu-item", "Run All Cells")):
            path = f"//*[contains(@class, 'lm-{label}Label')][normalize-space(.)='{words}']"
            WebDriverWait(browser, 5).until(
                lambda _, path=path: browser.find_element(By.XPATH, path)
            ).click()
        return WebDriverWait(browser, 20).until(lambda _: browser.execute_script(RUNNING))

    wait.until(lambda _: run_all())
    found = wait.until(lambda _: answers())
    assert (
        "MNLI: student entailment" in found[0]
        and "teacher entailment" in found[0]
        and "QNLI" in found[0]
    )
    assert browser.execute_script("return bars"), "no progress bar was shown"

    def text_boxes() -> list:
        browser.execute_script(LAST)
        found = browser.find_elements(By.CSS_SELECTOR, ".jp-OutputArea textarea")
        return found if len(found) == 2 else []

    boxes: list = []
    for _ in range(
        3
    ):  # on a busy machine JupyterLab may give up on a widget whose kernel answers late: the notebook is run again
        with contextlib.suppress(TimeoutException):
            boxes = WebDriverWait(browser, 90, ignored_exceptions=(Exception,)).until(
                lambda _: text_boxes()
            )
            break
        wait.until(lambda _: run_all())
    assert boxes, "the student's boxes were not shown"
    for box, text in zip(boxes, ("A bird sings .", "Nothing sings ."), strict=True):
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)
    click("//button[normalize-space(.)='Ask']")
    wait.until(lambda _: answers("A bird sings .” and “Nothing sings .”"))
    assert not browser.find_elements(
        By.CSS_SELECTOR, ".jp-OutputArea [data-mime-type='application/vnd.jupyter.error']"
    )
