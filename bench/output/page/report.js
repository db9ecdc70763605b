"use strict";
// Tables sort by a button in each heading: ascending, descending, original order.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], given = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const said = document.getElementById("sorted");
  if (given.length < 2) continue;
  const key = (row, at) => {
    const cell = row.cells[at];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number"
    ? a - b : String(a).localeCompare(String(b), "en", {numeric: true});
  heads.forEach((head, at) => {
    const button = document.createElement("button"), name = head.textContent.trim();
    const numeric = head.classList.contains("number");
    const empty = (row) => numeric ? row.cells[at].dataset.value === undefined : key(row, at) === "–";
    button.type = "button";
    button.textContent = name;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const next = now === "ascending" ? "descending" : now === "descending" ? null : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const rows = next === null ? given : [...given].sort((a, b) =>
        empty(a) - empty(b) || (empty(a) ? 0 : sign * compare(key(a, at), key(b, at))));
      body.append(...rows);
      said.textContent = next ? `sorted by ${name}, ${next}` : "in the original order";
    });
  });
}
