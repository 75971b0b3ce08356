"use strict";
(() => {
  // Figures as SVG and PNG, tables as CSV and LaTeX: made of what is shown, so a sorted and filtered table is saved so.
  const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "font-size", "font-weight", "font-family", "color"];
  const SCALE = 3; // pixels of a PNG per unit of the drawing
  const LEGEND_ROW = 18;
  const NAMESPACE = "http://www.w3.org/2000/svg";

  const save = (name, blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
  const fileName = (text) => text.replace(/[^A-Za-z0-9]+/g, "_").replace(/^_+|_+$/g, "").slice(0, 80) || "report";

  // Copies a drawing with the styles that the page gives it, since the file has no style sheet.
  const styled = (svg) => {
    const copy = svg.cloneNode(true);
    const [sources, targets] = [svg, copy].map((root) => [root, ...root.querySelectorAll("*")]);
    sources.forEach((source, i) => {
      const computed = getComputedStyle(source);
      for (const name of STYLES) targets[i].style.setProperty(name, computed.getPropertyValue(name));
    });
    return copy;
  };
  const withLegend = (figure) => {
    const svg = figure.querySelector("svg[role=img]");
    const copy = styled(svg);
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    const entries = [...figure.querySelectorAll(".legend li")];
    entries.forEach((entry, i) => {
      const key = styled(entry.querySelector("svg"));
      for (const [name, value] of Object.entries({ x: 8, y: height + 4 + LEGEND_ROW * i, width: 30, height: 12 })) key.setAttribute(name, value);
      const text = document.createElementNS(NAMESPACE, "text");
      text.setAttribute("x", 46);
      text.setAttribute("y", height + 14 + LEGEND_ROW * i);
      text.setAttribute("style", `font-size:12px;font-family:sans-serif;fill:${getComputedStyle(entry).color}`);
      text.textContent = entry.textContent;
      copy.append(key, text);
    });
    const total = height + LEGEND_ROW * entries.length;
    const paper = document.createElementNS(NAMESPACE, "rect");
    const panel = getComputedStyle(svg).backgroundColor;
    for (const [name, value] of Object.entries({ width, height: total, fill: panel })) paper.setAttribute(name, value);
    copy.prepend(paper);
    for (const [name, value] of Object.entries({ xmlns: NAMESPACE, width, height: total, viewBox: `0 0 ${width} ${total}` })) copy.setAttribute(name, value);
    copy.removeAttribute("class");
    return { text: new XMLSerializer().serializeToString(copy), width, height: total };
  };
  const savePng = async (name, { text, width, height }) => {
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = SCALE * width;
    canvas.height = SCALE * height;
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(`${name}.png`, blob), "image/png");
  };

  const rowsOf = (table) => {
    const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
    return [table.tHead.rows[0], ...rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
  };
  // A text that a spreadsheet would run as a formula begins with an apostrophe; numbers stay numbers.
  const csvCell = (text) => {
    const guarded = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
    return /[",\r\n]/.test(guarded) ? `"${guarded.replaceAll('"', '""')}"` : guarded;
  };
  const csv = (rows) => rows.map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
  const ESCAPES = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "\u2013": "--", "\u00b2": "\\textsuperscript{2}" };
  const latexCell = (text) => `{${text.replace(/[\\~^<>\u2013\u00b2]|[&%$#_{}]/g, (found) => ESCAPES[found] ?? `\\${found}`)}}`;
  const latex = ([head, ...rows]) => {
    const line = (row) => `${row.map(latexCell).join(" & ")} \\\\`;
    const columns = head.map((_, i) => (rows.every((row) => /^[^A-Za-z]*$/.test(row[i])) ? "r" : "l")).join("");
    return [`% \\usepackage{booktabs}`, `\\begin{tabular}{${columns}}`, "\\toprule", line(head), "\\midrule", ...rows.map(line), "\\bottomrule", "\\end{tabular}", ""].join("\n");
  };

  const bar = (place, name, buttons) => {
    const box = document.createElement("div");
    box.className = "downloads";
    for (const [kind, action] of buttons) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = kind;
      button.setAttribute("aria-label", `Save ${name} as ${kind}`);
      button.addEventListener("click", action);
      box.append(button);
    }
    place.append(box);
  };
  for (const figure of document.querySelectorAll("figure.chart")) {
    const name = figure.querySelector("svg[role=img]").getAttribute("aria-label");
    bar(figure, name, [
      ["SVG", () => save(`${fileName(name)}.svg`, new Blob([withLegend(figure).text], { type: "image/svg+xml" }))],
      ["PNG", () => savePng(fileName(name), withLegend(figure))],
    ]);
  }
  for (const block of document.querySelectorAll(".table-block")) {
    const table = block.querySelector("table");
    const name = table.caption.textContent;
    bar(block, name, [
      ["CSV", () => save(`${fileName(name)}.csv`, new Blob(["\ufeff", csv(rowsOf(table))], { type: "text/csv" }))],
      ["LaTeX", () => save(`${fileName(name)}.tex`, new Blob([latex(rowsOf(table))], { type: "text/plain" }))],
    ]);
  }
})();
