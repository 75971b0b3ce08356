"use strict";
(() => {
  // Sorting: numbers as numbers, what is missing last in either direction, equal rows in their order.
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    if (text === "") return null;
    const number = Number(text);
    return Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const sort = (table, column) => {
    const heads = [...table.tHead.rows[0].cells];
    const down = heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head, i) => head.setAttribute("aria-sort", i !== column ? "none" : down ? "descending" : "ascending"));
    const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return down ? compare(b, a) : compare(a, b);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    table.tHead.querySelectorAll("button").forEach((button, column) => {
      button.addEventListener("click", () => sort(table, column));
    });
  }

  // Filtering: every word must stand somewhere in the row.
  for (const input of document.querySelectorAll(".filter input")) {
    const block = input.closest(".table-block");
    const rows = [...block.querySelector("tbody").rows];
    const output = block.querySelector(".filter output");
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      output.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
    });
  }

  // Viewers: one slider moves all panes; arrow keys work from anywhere in the viewer.
  const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -5, PageUp: 5 };
  for (const viewer of document.querySelectorAll(".viewer")) {
    const slider = viewer.querySelector("input[type=range]");
    if (!slider) continue;
    const panes = viewer.querySelector(".panes");
    const numbers = JSON.parse(panes.dataset.slices);
    const output = viewer.querySelector(".slices output");
    const show = () => {
      panes.style.setProperty("--i", slider.value);
      output.textContent = numbers[slider.value];
      slider.setAttribute("aria-valuetext", `slice ${numbers[slider.value]}`);
    };
    slider.addEventListener("input", show);
    viewer.addEventListener("keydown", (event) => {
      if (event.target === slider || !(event.key in STEPS) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      slider.value = Number(slider.value) + STEPS[event.key];
      show();
    });
    panes.addEventListener("click", () => slider.focus());
    const toggle = viewer.querySelector(".toggle");
    toggle.addEventListener("change", () => panes.classList.toggle("hidden", !toggle.checked));
    show();
  }

  // What is closed on the screen is printed, too.
  const closed = new Set();
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details:not([open])")) { closed.add(part); part.open = true; }
  });
  addEventListener("afterprint", () => {
    for (const part of closed) part.open = false;
    closed.clear();
  });
})();
