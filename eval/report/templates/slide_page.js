"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const data = JSON.parse($("data").textContent);
  const coords = new Int32Array(bytes(data.coords).buffer);
  const layers = data.layers.map((each) => ({ ...each, cells: bytes(each.cells), values: new Float32Array(bytes(each.values).buffer) }));
  const scores = layers[0].values;
  const colours = bytes(data.colours);
  const canvas = $("map"), overview = $("overview"), mini = $("minimap"), tip = $("tip");
  const ink = canvas.getContext("2d");
  const heat = document.createElement("canvas");
  const numbers = new Intl.NumberFormat("en");
  const full = new Map();  // tile -> image at full resolution, from the gallery
  let view = { x: 0, y: 0, scale: 1 };  // level-0 px at the top left corner, screen px per level-0 px
  let size = { width: 1, height: 1 };
  let layer = layers[0];  // what is shown: the scores, or a column of quality
  let marked = -1, ready = false, waiting = false, moved = false;

  // --- the heat layer: one pixel per cell, coloured again whenever the threshold moves

  function colourHeat() {
    const least = threshold(), shown = (code) => code > 0 && (code - 1) / 254 >= least - 1e-6;
    const { width, height } = data.map, cells = layer.cells;
    heat.width = width;
    heat.height = height;
    const pixels = new ImageData(width, height);
    for (let i = 0; i < cells.length; i++) {
      if (!shown(cells[i])) continue;
      const score = (cells[i] - 1) / 254, at = 3 * Math.round(255 * score);
      pixels.data.set([colours[at], colours[at + 1], colours[at + 2], 255 * (0.15 + 0.85 * score)], 4 * i);
    }
    heat.getContext("2d").putImageData(pixels, 0, 0);
  }

  // Of 0 to 1 from the least value of the layer to its most.
  const threshold = () => Number($("threshold").value) / 100;
  const share = (tile) => (layer.values[tile] - layer.least) / (layer.most - layer.least);
  const words = (value) => layer.most > 1 ? value.toFixed(0) : value.toFixed(3);

  // --- drawing

  function draw() {
    waiting = false;
    const ratio = window.devicePixelRatio || 1;
    ink.setTransform(ratio, 0, 0, ratio, 0, 0);
    ink.fillStyle = "#fff";
    ink.fillRect(0, 0, size.width, size.height);
    place(overview, 0, 0, data.width, data.height, true);
    for (const [tile, image] of full) place(image, coords[2 * tile], coords[2 * tile + 1], data.tile, data.tile, true);
    ink.globalAlpha = Number($("opacity").value) / 100;
    const { x, y, cell, width, height } = data.map;
    place(heat, x, y, width * cell, height * cell, false);
    ink.globalAlpha = 1;
    if ($("grid").checked) drawGrid();
    if ($("outlines")?.checked) drawOutlines();
    if (marked >= 0) frame(marked, "#0b62a4", 3);
    drawScale();
    drawMinimap();
  }

  function place(image, x, y, width, height, smooth) {
    ink.imageSmoothingEnabled = smooth && view.scale * width < 8 * (image.naturalWidth || 1);
    ink.imageSmoothingQuality = "high";
    ink.drawImage(image, (x - view.x) * view.scale, (y - view.y) * view.scale, width * view.scale, height * view.scale);
  }

  function visible(tile) {
    const x = (coords[2 * tile] - view.x) * view.scale, y = (coords[2 * tile + 1] - view.y) * view.scale;
    const side = data.tile * view.scale;
    return x + side > 0 && y + side > 0 && x < size.width && y < size.height;
  }

  function drawGrid() {
    const side = data.tile * view.scale, least = threshold();
    ink.strokeStyle = "#1b1f24";
    ink.lineWidth = 1;
    ink.globalAlpha = Math.min(0.6, side / 40);
    ink.beginPath();
    for (let tile = 0; tile < scores.length; tile++) {
      if (share(tile) < least - 1e-6 || !visible(tile)) continue;
      ink.rect((coords[2 * tile] - view.x) * view.scale, (coords[2 * tile + 1] - view.y) * view.scale, side, side);
    }
    ink.stroke();
    ink.globalAlpha = 1;
  }

  function drawOutlines() {
    ink.lineJoin = "round";
    for (const [colour, width] of [["#fff", 5], ["#00823c", 2.5]]) {
      ink.strokeStyle = colour;
      ink.lineWidth = width;
      for (const points of data.outlines) {
        ink.beginPath();
        for (let i = 0; i < points.length; i += 2) ink.lineTo((points[i] - view.x) * view.scale, (points[i + 1] - view.y) * view.scale);
        ink.closePath();
        ink.stroke();
      }
    }
  }

  function frame(tile, colour, width) {
    const side = data.tile * view.scale;
    const x = (coords[2 * tile] - view.x) * view.scale, y = (coords[2 * tile + 1] - view.y) * view.scale;
    for (const [stroke, line] of [["#fff", width + 3], [colour, width]]) {
      ink.strokeStyle = stroke;
      ink.lineWidth = line;
      ink.strokeRect(x, y, side, side);
    }
  }

  function drawScale() {
    const longest = 160 * data.mpp / view.scale, power = 10 ** Math.floor(Math.log10(longest));
    const length = [5, 2, 1].find((step) => step * power <= longest) * power;
    $("scale-bar").style.width = `${length / data.mpp * view.scale}px`;
    $("scale-text").textContent = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(1))} µm`;
  }

  function drawMinimap() {
    const whole = fitting();
    mini.hidden = view.scale < 1.05 * whole.scale;
    if (mini.hidden) return;
    const pen = mini.getContext("2d"), scale = mini.width / data.width;
    pen.drawImage(overview, 0, 0, mini.width, mini.height);
    pen.strokeStyle = "#0b62a4";
    pen.lineWidth = 2 * (window.devicePixelRatio || 1);
    pen.strokeRect(view.x * scale, view.y * scale, size.width / view.scale * scale, size.height / view.scale * scale);
  }

  function later() {
    if (ready && !waiting) requestAnimationFrame(draw);
    waiting = ready;
  }

  // --- moving

  function fitting() {
    const scale = 0.97 * Math.min(size.width / data.width, size.height / data.height);
    return { scale, x: (data.width - size.width / scale) / 2, y: (data.height - size.height / scale) / 2 };
  }

  function look(x, y, scale) {
    const whole = fitting();
    scale = Math.min(Math.max(scale, whole.scale), Math.max(4, 2 * whole.scale));
    // At least the middle of the window stays on the slide.
    const half = { x: size.width / scale / 2, y: size.height / scale / 2 };
    view = {
      scale,
      x: Math.min(Math.max(x, -half.x), data.width - half.x),
      y: Math.min(Math.max(y, -half.y), data.height - half.y),
    };
    moved = scale > 1.001 * whole.scale;
    if (!moved) view = whole;
    later();
  }

  function zoom(factor, at = { x: size.width / 2, y: size.height / 2 }) {
    const whole = fitting().scale;
    const scale = Math.min(Math.max(view.scale * factor, whole), Math.max(4, 2 * whole));
    look(view.x + at.x / view.scale - at.x / scale, view.y + at.y / view.scale - at.y / scale, scale);
  }

  function centre(x, y, scale) {
    look(x - size.width / scale / 2, y - size.height / scale / 2, scale);
  }

  function resized() {
    const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    const middle = { x: view.x + size.width / view.scale / 2, y: view.y + size.height / view.scale / 2 };
    size = { width: box.width, height: box.height };
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
    const longest = Math.min(150, size.width / 4), scale = longest / Math.max(data.width, data.height);
    mini.style.width = `${data.width * scale}px`;
    mini.style.height = `${data.height * scale}px`;
    mini.width = Math.max(1, Math.round(data.width * scale * ratio));
    mini.height = Math.max(1, Math.round(data.height * scale * ratio));
    if (moved) centre(middle.x, middle.y, view.scale);
    else view = fitting();
    draw();  // at once: a resized canvas is empty
  }

  const pointers = new Map();
  const inside = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, inside(event));
    canvas.classList.add("dragged");
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = inside(event), before = pointers.get(event.pointerId);
    if (!before) return ask(now);
    tip.hidden = true;
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    pointers.set(event.pointerId, now);
    if (other) {
      const spread = (point) => Math.hypot(point.x - other.x, point.y - other.y);
      zoom(spread(now) / Math.max(spread(before), 1), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    }
    const share = other ? 2 : 1;  // of two fingers each moves the middle by half
    look(view.x - (now.x - before.x) / view.scale / share, view.y - (now.y - before.y) / view.scale / share, view.scale);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      if (!pointers.size) canvas.classList.remove("dragged");
      if (event.pointerType !== "mouse") ask(inside(event));
    });
  }
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") tip.hidden = true;
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const step = event.deltaMode === 1 ? 30 * event.deltaY : event.deltaY;
    zoom(Math.exp(-Math.max(-200, Math.min(200, step)) / 400), inside(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoom(2.5, inside(event)));
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = 80 / view.scale;
    const keys = {
      ArrowLeft: () => look(view.x - step, view.y, view.scale), ArrowRight: () => look(view.x + step, view.y, view.scale),
      ArrowUp: () => look(view.x, view.y - step, view.scale), ArrowDown: () => look(view.x, view.y + step, view.scale),
      "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: () => look(0, 0, 0), h: hideHeat, H: hideHeat,
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  for (const name of ["pointerdown", "pointermove"]) {
    mini.addEventListener(name, (event) => {
      if (!event.buttons) return;
      const box = mini.getBoundingClientRect();
      centre((event.clientX - box.left) / box.width * data.width, (event.clientY - box.top) / box.height * data.height, view.scale);
    });
  }
  $("zoom-in").addEventListener("click", () => zoom(1.6));
  $("zoom-out").addEventListener("click", () => zoom(1 / 1.6));
  $("fit").addEventListener("click", () => look(0, 0, 0));

  // --- asking: the tile below the pointer, found by the squares of a tile's side that it begins in

  const begins = new Map();
  const square = (x, y) => `${Math.floor(x / data.tile)} ${Math.floor(y / data.tile)}`;
  for (let tile = 0; tile < scores.length; tile++) {
    const key = square(coords[2 * tile], coords[2 * tile + 1]);
    if (!begins.has(key)) begins.set(key, []);
    begins.get(key).push(tile);
  }

  function tileAt(x, y) {
    let best = -1, nearest = Infinity;
    for (const [dx, dy] of [[0, 0], [data.tile, 0], [0, data.tile], [data.tile, data.tile]]) {
      for (const tile of begins.get(square(x - dx, y - dy)) || []) {
        const right = x - coords[2 * tile], down = y - coords[2 * tile + 1];
        if (right < 0 || down < 0 || right >= data.tile || down >= data.tile) continue;
        const distance = Math.hypot(right - data.tile / 2, down - data.tile / 2);
        if (distance < nearest) [best, nearest] = [tile, distance];
      }
    }
    return best;
  }

  function ask(at) {
    const x = Math.floor(view.x + at.x / view.scale), y = Math.floor(view.y + at.y / view.scale);
    tip.hidden = x < 0 || y < 0 || x >= data.width || y >= data.height;
    if (tip.hidden) return;
    const tile = tileAt(x, y), score = document.createElement("strong");
    score.textContent = tile < 0 ? "no tile" : words(layer.values[tile]);
    const um = (px) => numbers.format(Math.round(px * data.mpp));
    tip.replaceChildren(score, `\n${numbers.format(x)}, ${numbers.format(y)} px\n${um(x)}, ${um(y)} µm`);
    const left = at.x + 16 + tip.offsetWidth > size.width ? at.x - 12 - tip.offsetWidth : at.x + 16;
    const top = at.y + 16 + tip.offsetHeight > size.height ? at.y - 12 - tip.offsetHeight : at.y + 16;
    tip.style.transform = `translate(${Math.max(0, left)}px, ${Math.max(0, top)}px)`;
  }

  // --- controls

  function hideHeat() {
    const slider = $("opacity");
    const before = slider.dataset.before || "60";
    slider.dataset.before = slider.value;
    slider.value = slider.value === "0" ? before : "0";
    controlled();
  }

  function controlled() {
    $("opacity-text").textContent = `${$("opacity").value} %`;
    $("threshold-text").textContent = words(layer.least + threshold() * (layer.most - layer.least));
    later();
  }

  function thresholded() {
    colourHeat();
    const shown = scores.reduce((count, _, tile) => count + (share(tile) >= threshold() - 1e-6), 0);
    $("status").textContent = `${numbers.format(shown)} of ${numbers.format(scores.length)} tiles shown.`;
    controlled();
  }

  for (const id of ["opacity", "grid", "outlines"]) $(id)?.addEventListener("input", controlled);
  $("threshold").addEventListener("input", thresholded);
  function chosen(number) {
    layer = layers[number];
    $("shown").textContent = layer.name;
    $("least").textContent = numbers.format(layer.least);
    $("most").textContent = numbers.format(Math.round(layer.most));
    $("threshold").value = 0;
    if ($("at-threshold")) $("at-threshold").hidden = number !== 0;
    thresholded();
  }

  $("layer")?.addEventListener("input", (event) => chosen(Number(event.target.value)));
  $("at-threshold")?.addEventListener("click", () => {
    $("threshold").value = 100 * data.threshold;
    thresholded();
  });
  for (const button of document.querySelectorAll(".go")) {
    const tile = Number(button.dataset.tile), image = button.querySelector("img");
    image.decode().then(() => { full.set(tile, image); later(); });
    button.addEventListener("click", () => {
      if (!ready) return;
      marked = tile;
      centre(coords[2 * tile] + data.tile / 2, coords[2 * tile + 1] + data.tile / 2, Math.min(size.width, size.height) / (3 * data.tile));
      $("viewer").scrollIntoView({ block: "nearest", behavior: "smooth" });
      canvas.focus({ preventScroll: true });
      $("status").textContent = `Tile at ${numbers.format(coords[2 * tile])}, ${numbers.format(coords[2 * tile + 1])}: ${scores[tile].toFixed(3)}.`;
    });
  }

  const legend = $("legend").getContext("2d"), bar = legend.createImageData(256, 1);
  for (let i = 0; i < 256; i++) bar.data.set([colours[3 * i], colours[3 * i + 1], colours[3 * i + 2], 255], 4 * i);
  legend.putImageData(bar, 0, 0);

  overview.decode().then(() => {
    ready = true;
    $("viewer").classList.add("ready");
    thresholded();
    resized();
    new ResizeObserver(resized).observe(canvas);
  });
})();
