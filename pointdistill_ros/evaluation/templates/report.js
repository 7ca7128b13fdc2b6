"use strict";
const order = new Intl.Collator("en", { numeric: true });

function sortBy(table, column, descending) {
  const value = (row) => {
    const cell = row.cells[column];
    return cell.classList.contains("number") ? Number(cell.dataset.value) : cell.dataset.value;
  };
  const sign = descending ? -1 : 1;
  const compare = (a, b) =>
    typeof a === "number" ? a - b : order.compare(a, b);
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => sign * compare(value(a), value(b)));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      // numbers: largest first; text: from A
      const descending = before ? before === "ascending" : head.classList.contains("number");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(table, column, descending);
    });
  });
}

for (const panel of document.querySelectorAll(".panel")) {
  const say = panel.querySelector(".say");
  const hint = say.textContent;
  const matrix = panel.querySelector(".matrix");
  matrix.addEventListener("mouseover", (event) => {
    say.textContent = event.target.closest("td[data-say]")?.dataset.say ?? hint;
  });
  matrix.addEventListener("mouseleave", () => { say.textContent = hint; });
}

const tabs = [...document.querySelectorAll("[role=tab]")];
for (const tab of tabs) {
  tab.addEventListener("click", () => {
    for (const one of tabs) {
      one.setAttribute("aria-selected", String(one === tab));
      document.getElementById(one.getAttribute("aria-controls")).hidden = one !== tab;
    }
  });
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
