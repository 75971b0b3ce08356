"use strict";
(() => {
  // Viewers: one slider moves all panes; arrow keys work from anywhere in the viewer. Masks are pictures of the page
  // until somebody changes how they are drawn: then they are decoded once and drawn on canvases.
  const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -5, PageUp: 5 };
  const ZOOMS = { "+": 1.25, "=": 1.25, "-": 0.8 };
  const OPAQUE = 160; // of 255: above, a voxel is part of an outline
  const MOST_ZOOM = 8;

  const nearest = (colors, r, g, b) => {
    let best = 0, least = Infinity;
    colors.forEach(([cr, cg, cb], i) => {
      const distance = (r - cr) ** 2 + (g - cg) ** 2 + (b - cb) ** 2;
      if (distance < least) { least = distance; best = i; }
    });
    return best;
  };

  // Returns per pixel of all slices: 0 for nothing, else colour + 1, plus 100 on outlines.
  const decode = async (layer, colors) => {
    const image = new Image();
    image.src = getComputedStyle(layer).backgroundImage.slice(5, -2);
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const found = new Uint8Array(data.length / 4);
    for (let i = 0; i < found.length; i++) {
      if (data[4 * i + 3] === 0) continue;
      found[i] = 1 + nearest(colors, data[4 * i], data[4 * i + 1], data[4 * i + 2]);
      if (data[4 * i + 3] > OPAQUE) found[i] += 100;
    }
    return { found, width: canvas.width, height: canvas.height };
  };

  const setUp = (viewer) => {
    const slider = viewer.querySelector(".slices input");
    if (!slider) return;
    const panes = viewer.querySelector(".panes");
    const numbers = JSON.parse(panes.dataset.slices);
    const output = viewer.querySelector(".slices output");
    const tools = viewer.querySelector(".tools");
    const colors = JSON.parse(panes.dataset.colors);
    let masks = null; // decoded, in the order of the panes; the first one is the ground truth
    let view = { z: 1, x: 0, y: 0 };

    const paint = () => {
      if (!masks) return;
      const opacity = Number(tools.querySelector(".opacity").value) * 2.55;
      const contours = tools.querySelector(".contours").checked;
      const withTruth = tools.querySelector(".truth").checked;
      const shown = new Set();
      for (const box of tools.querySelectorAll(".label:checked")) {
        for (const color of box.dataset.colors.split(" ")) shown.add(Number(color));
      }
      const truth = masks.find((mask) => mask.isTruth);
      for (const mask of masks) {
        const height = mask.height / numbers.length;
        const context = mask.canvas.getContext("2d");
        const picture = context.createImageData(mask.width, height);
        const start = Number(slider.value) * mask.width * height;
        for (let i = 0; i < mask.width * height; i++) {
          const code = mask.found[start + i];
          const color = (code % 100) - 1;
          if (code && shown.has(color)) {
            const alpha = code > 100 ? 255 : contours ? 0 : opacity;
            picture.data.set([...colors[color], alpha], 4 * i);
          }
          const real = withTruth && truth && !mask.isTruth ? truth.found[start + i] : 0;
          if (real > 100 && shown.has((real % 100) - 1)) picture.data.set([255, 255, 255, 255], 4 * i);
        }
        context.putImageData(picture, 0, 0);
      }
    };
    const load = async () => {
      const layers = [...viewer.querySelectorAll(".mask")];
      const decoded = await Promise.all(layers.map((layer) => decode(layer, colors)));
      masks = decoded.map((mask, i) => {
        const canvas = document.createElement("canvas");
        canvas.width = mask.width;
        canvas.height = mask.height / numbers.length;
        layers[i].replaceChildren(canvas);
        layers[i].classList.add("drawn");
        return { ...mask, canvas, isTruth: layers[i].classList.contains("m0") };
      });
    };
    const redraw = async () => {
      if (!masks) await load();
      paint();
    };

    const show = () => {
      panes.style.setProperty("--i", slider.value);
      output.textContent = numbers[slider.value];
      slider.setAttribute("aria-valuetext", `slice ${numbers[slider.value]}`);
      paint();
    };
    const step = (by) => { slider.value = Number(slider.value) + by; show(); };
    const place = () => {
      const least = 100 * (1 - view.z); // nothing of the pane is left empty
      view.x = Math.min(0, Math.max(least, view.x));
      view.y = Math.min(0, Math.max(least, view.y));
      for (const [name, value] of Object.entries(view)) panes.style.setProperty(`--${name}`, value);
      panes.classList.toggle("zoomed", view.z > 1);
    };
    // Zooms around a point, given in percent of a pane.
    const zoom = (factor, x = 50, y = 50) => {
      const z = Math.min(MOST_ZOOM, Math.max(1, view.z * factor));
      view.x = x - ((x - view.x) * z) / view.z;
      view.y = y - ((y - view.y) * z) / view.z;
      view.z = z;
      place();
    };
    const reset = () => { view = { z: 1, x: 0, y: 0 }; place(); };
    const inPercent = (event) => {
      const box = (event.target.closest(".stack") ?? panes).getBoundingClientRect();
      return [(100 * (event.clientX - box.left)) / box.width, (100 * (event.clientY - box.top)) / box.height, box];
    };

    slider.addEventListener("input", show);
    viewer.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in ZOOMS) { event.preventDefault(); zoom(ZOOMS[event.key]); return; }
      if (event.key === "0") { reset(); return; }
      if (event.target.type === "range" || !(event.key in STEPS)) return;
      event.preventDefault();
      step(STEPS[event.key]);
    });
    panes.addEventListener("click", () => slider.focus({ preventScroll: true }));
    panes.addEventListener("wheel", (event) => { // only where somebody works: else the page scrolls
      if (!viewer.contains(document.activeElement)) return;
      event.preventDefault();
      if (event.ctrlKey || event.metaKey) zoom(event.deltaY < 0 ? 1.25 : 0.8, ...inPercent(event).slice(0, 2));
      else step(event.deltaY < 0 ? 1 : -1);
    }, { passive: false });
    panes.addEventListener("pointermove", (event) => {
      if (event.buttons !== 1 || view.z === 1) return;
      const box = inPercent(event)[2];
      view.x += (100 * event.movementX) / box.width;
      view.y += (100 * event.movementY) / box.height;
      place();
    });
    const toggle = viewer.querySelector(".toggle");
    toggle.addEventListener("change", () => panes.classList.toggle("hidden", !toggle.checked));
    for (const input of tools.querySelectorAll("input")) input.addEventListener("input", redraw);
    tools.querySelector(".zoom-in").addEventListener("click", () => zoom(1.25));
    tools.querySelector(".zoom-out").addEventListener("click", () => zoom(0.8));
    tools.querySelector(".zoom-reset").addEventListener("click", reset);
    show();
  };
  for (const viewer of document.querySelectorAll(".viewer")) setUp(viewer);

  // From a viewer to the rows of its case.
  for (const button of document.querySelectorAll(".viewer button.rows")) {
    button.addEventListener("click", () => {
      const search = document.querySelector("#tables input[type=search]");
      search.value = button.dataset.case;
      search.dispatchEvent(new Event("input"));
      search.scrollIntoView({ block: "center" });
      search.focus({ preventScroll: true });
    });
  }
})();
