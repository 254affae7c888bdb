"""How a page looks and behaves: its style (light, dark, phone, print), the script that sorts tables, and what it may load."""

import base64
import hashlib
from functools import cache

from pygments.formatters import HtmlFormatter

_ALWAYS = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fff; --raised: #f6f6f6; --line: #e2e2e2; --rule: #888; --link: #00568a;
  --muted: #444; --accent: #d55e00; }
body { font: 16px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--ink); background: var(--paper); margin: 0; }
main, nav { max-width: 1160px; margin: 0 auto; padding: 0 16px; }
nav { padding-top: 12px; padding-bottom: 8px; border-bottom: 1px solid var(--line); font-size: 14px; }
nav a { display: inline-block; margin-right: 12px; padding: 2px 0; }
nav p { margin: 0; }
nav [aria-current] { font-weight: bold; color: inherit; }
a { color: var(--link); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
h1 { font-size: 1.7em; line-height: 1.25; }
h2 { margin-top: 1.8em; }
.anchor-link, .prompt { display: none; }
.output_markdown { border-left: 4px solid var(--accent); background: var(--raised); padding: 2px 16px; margin: 12px 0; }
.output_markdown strong { display: block; font-size: 1.15em; line-height: 1.4; margin-bottom: 4px; }
figure { margin: 12px 0; overflow-x: auto; }
figure img { height: auto; min-width: 640px; }
.mtkd-table, .output_html { overflow-x: auto; }
.output_html > div { max-width: 100%; }
table, tr { border: 0; }
table { border-collapse: collapse; font-size: 13px; margin: 10px 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: bold; padding: 4px 0; }
th, td { padding: 4px 5px; border: 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; vertical-align: top; }
thead th { border-bottom: 2px solid var(--rule); white-space: normal; min-width: 3.2em; vertical-align: bottom; }
th:first-child { text-align: left; white-space: normal; min-width: 6em; position: sticky; left: 0; background: var(--paper); }
tbody th { font-weight: normal; }
tbody + tbody > tr:first-child > * { border-top: 2px solid var(--rule); }
thead button { all: unset; cursor: pointer; }
thead button:focus-visible { outline: 2px solid var(--link); }
thead button::after { content: "\\2195"; opacity: .45; font-size: .85em; padding-left: 2px; }
[aria-sort=ascending] button::after { content: "\\25b2"; opacity: 1; }
[aria-sort=descending] button::after { content: "\\25bc"; opacity: 1; }
.mtkd-table.words td, .mtkd-table.words thead th { text-align: left; white-space: normal; }
.mtkd-table.words td.short { white-space: nowrap; }
.mtkd-table td.prose { text-align: left; white-space: normal; min-width: 11em; }
.mtkd-table:has(td.prose) th:first-child { min-width: 6em; }
ul.notes { font-size: 13.5px; color: var(--muted); padding-left: 20px; }
.maths { height: auto; min-width: 0; max-width: 100%; vertical-align: middle; }
.highlight, pre { font: 13px/1.45 "DejaVu Sans Mono", Consolas, monospace; }
.highlight { color: #1c1c1c; background: #f6f6f6; border-left: 3px solid #bbb; padding: 4px 12px; margin: 10px 0; overflow-x: auto; }
.output_text pre { overflow-x: auto; margin: 6px 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.highlight pre { margin: 0; }
.output_stderr pre { color: var(--muted); }
code { background: var(--raised); overflow-wrap: anywhere; }
@media (min-width: 1000px) { th:first-child { min-width: 9em; } }
@media screen { .mtkd-table:has(thead th:nth-child(11)) :is(th, td) { font-size: 12px; padding: 4px 3px; } }
@media (max-width: 600px) { body { font-size: 15px; } th, td { padding: 3px 6px; } h1 { font-size: 1.45em; } }
"""

# Figures and code come in colours for white: turned over with their hues kept, the ground is the page's and the colours stay apart.
_DARK = """
:root { --ink: #e4e4e4; --paper: #121212; --raised: #1e1e1e; --line: #333; --rule: #777; --link: #7cc4ff;
  --muted: #b5b5b5; --accent: #ff9a4d; }
figure img, .maths, .highlight { filter: invert(.93) hue-rotate(180deg); }
"""

_PRINT = """
@page { margin: 12mm; }
nav, thead button::after { display: none; }
body { font-size: 10pt; }
main { max-width: none; padding: 0; }
.mtkd-table, .output_html, .highlight, figure { overflow: visible; }
.highlight pre { white-space: pre-wrap; }
figure img { min-width: 0; }
table { font-size: 6.5pt; width: 100%; }
ul.notes { font-size: 8pt; }
th, td { padding: 2px; white-space: normal; }
thead th, th:first-child { min-width: 0; position: static; }
tr, figure { break-inside: avoid; }
h1, h2, caption { break-after: avoid; }
a { color: inherit; text-decoration: none; }
"""

# Figures sort from the greatest, words from A, a dash last either way; the third click gives back the first order.
SCRIPT = """
const number = cell => {
  const text = cell.textContent.trim().replace(/,(?=\\d{3})/g, "").replace("\\u2212", "-");
  const found = text.match(/^[<>]?\\s*([+-]?\\d+(?:\\.\\d+)?)\\s*([kM]\\b)?/);
  return found ? found[1] * ({k: 1e3, M: 1e6}[found[2]] || 1) : NaN;
};
const empty = cell => /^[\\u2013-]?$/.test(cell.textContent.trim());
for (const table of document.querySelectorAll(".mtkd-table table")) {
  const heads = [...table.tHead.rows[0].cells], parts = [...table.tBodies].map(body => [body, [...body.rows]]);
  if (parts.every(([, rows]) => rows.length < 2)) continue;
  heads.forEach((head, column) => {
    const button = document.createElement("button"), filled = parts.flatMap(([, rows]) => rows.map(row => row.cells[column]));
    const figures = filled.every(cell => empty(cell) || !isNaN(number(cell))), turns = ["ascending", "descending"];
    if (figures) turns.reverse();
    button.title = "Sort by " + head.textContent;
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const turn = turns[turns.indexOf(head.getAttribute("aria-sort")) + 1], way = turn == "descending" ? -1 : 1;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      if (turn) head.setAttribute("aria-sort", turn);
      const order = (one, other) => {
        const [a, b] = [one.cells[column], other.cells[column]];
        if (empty(a) || empty(b)) return empty(a) - empty(b);
        return way * (figures ? number(a) - number(b) : a.textContent.localeCompare(b.textContent, "en"));
      };
      for (const [body, rows] of parts) body.append(...(turn ? [...rows].sort(order) : rows));
    });
  });
}
"""


@cache
def stylesheet() -> str:
    """The style of every page, with the colours of code."""
    code = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark, paper = (
        f"@media screen and (prefers-color-scheme: dark) {{{_DARK}}}",
        f"@media print {{{_PRINT}}}",
    )
    return f"{code}\n{_ALWAYS}{dark}\n{paper}\n"


def policy() -> str:
    """Content-Security-Policy: no address is asked for anything, and no script runs but `SCRIPT`."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    own = f"img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"
