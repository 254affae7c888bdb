// Sorts tables by a click on a column's head: numbers from the greatest, text from A, dashes last.
// The third click restores the first order; each part of a table is sorted by itself.
const number = cell => {
  const text = cell.textContent.trim().replace(/,(?=\d{3})/g, "").replace("\u2212", "-");
  const match = text.match(/^[<>]?\s*([+-]?\d+(?:\.\d+)?)\s*([kM]\b)?/);
  return match ? match[1] * ({k: 1e3, M: 1e6}[match[2]] || 1) : NaN;
};
const empty = cell => /^[\u2013-]?$/.test(cell.textContent.trim());

const sortable = (head, column, heads, parts) => {
  const cells = parts.flatMap(([, rows]) => rows.map(row => row.cells[column]));
  const numeric = cells.every(cell => empty(cell) || !isNaN(number(cell)));
  const turns = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
  const button = document.createElement("button");
  button.title = "Sort by " + head.textContent;
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const turn = turns[turns.indexOf(head.getAttribute("aria-sort")) + 1];
    const sign = turn == "descending" ? -1 : 1;
    heads.forEach(other => other.removeAttribute("aria-sort"));
    if (turn) head.setAttribute("aria-sort", turn);
    const order = (one, other) => {
      const [a, b] = [one.cells[column], other.cells[column]];
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      if (numeric) return sign * (number(a) - number(b));
      return sign * a.textContent.localeCompare(b.textContent, "en");
    };
    for (const [body, rows] of parts) body.append(...(turn ? [...rows].sort(order) : rows));
  });
};

for (const table of document.querySelectorAll(".mtkd-table table")) {
  const heads = [...table.tHead.rows[0].cells];
  const parts = [...table.tBodies].map(body => [body, [...body.rows]]);
  if (parts.every(([, rows]) => rows.length < 2)) continue;
  heads.forEach((head, column) => sortable(head, column, heads, parts));
}
