"use strict";
// Tables: the head of a column sorts by it, long tables have a filter. Without JavaScript and on paper there is neither.
(() => {
  const { compare: compareTexts } = new Intl.Collator(undefined, { numeric: true });
  const next = { none: "ascending", ascending: "descending", descending: "none" };

  function textOf(cell) {
    const text = cell.dataset.sort ?? cell.textContent.trim();
    return text === "-" ? "" : text;
  }

  // The rows by the texts or numbers in a column; of a number with its interval the number. Empty cells come last.
  function sorted(rows, column, sign) {
    const entries = rows.map((row) => [textOf(row.cells[column]), row]);
    const numbers = entries.every(([text]) => !text || /^[+-]?\.?\d/.test(text));
    const compare = numbers ? (a, b) => parseFloat(a) - parseFloat(b) : compareTexts;
    return entries.sort(([a], [b]) => !a - !b || sign * compare(a, b)).map(([, row]) => row);
  }

  function makeSortable(table, body, rows) {
    const columns = new Map(), below = [], [top, ...others] = table.tHead.rows;
    let column = 0;
    for (const head of top.cells) {
      if (head.rowSpan > others.length) columns.set(head, column);
      else below.push(...Array.from({ length: head.colSpan }, (_, i) => column + i));
      column += head.colSpan;
    }
    for (const row of others) [...row.cells].forEach((head, i) => columns.set(head, below[i]));
    for (const [head, column] of columns) {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const direction = next[head.getAttribute("aria-sort") || "none"];
        for (const other of columns.keys()) other.setAttribute("aria-sort", other === head ? direction : "none");
        body.append(...(direction === "none" ? rows : sorted(rows, column, direction === "ascending" ? 1 : -1)));
      });
    }
  }

  function addFilter(region, rows) {
    const [box, label, field, status] = ["div", "label", "input", "output"].map((tag) => document.createElement(tag));
    box.className = "filter";
    field.type = "search";
    label.append(region.getAttribute("aria-label").replace("Table:", "Filter"), field);
    box.append(label, status);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().trim().split(/\s+/);
      for (const row of rows) row.classList.toggle("out", !words.every((word) => row.textContent.toLowerCase().includes(word)));
      status.textContent = words[0] && `${rows.filter((row) => !row.classList.contains("out")).length} of ${rows.length} rows`;
    });
    region.before(box);
  }

  // Not in the gallery: its search pairs the rows of a table with the images.
  for (const table of document.querySelectorAll("section > .scroll table, section > details table")) {
    const body = table.tBodies[0], rows = [...body.rows];
    if (table.tHead && rows.length > 2) makeSortable(table, body, rows);
    if (rows.length > 15) addFilter(table.parentElement, rows);
  }

  // A reader cannot unfold anything on paper, so the tables of the sections are printed. The long ones of the gallery are not.
  let unfolded = [];
  window.addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("section > details:not([open])")];
    for (const details of unfolded) details.open = true;
  });
  window.addEventListener("afterprint", () => { for (const details of unfolded) details.open = false; });
})();
