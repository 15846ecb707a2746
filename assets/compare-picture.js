// Goes in: aligned columns, a token a run or null in each. Comes out: two charts over them, probability and seconds, one line a run; where a run
// parts from the first one the ground is shaded. Doesn't know where the runs come from. Drawn in real pixels, so text never shrinks.

const CHART = { height: 216, left: 44, right: 6, tops: [8, 112], tall: 80, low: 210 };

const POINT = "Point at a place, or walk along the tokens, to read what each run has there.";

function svgNode(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function newComparePicture(pick, hover) {
  const view = { columns: [], width: 0 };
  view.node = make("figure", "lp-picture lp-cmp-picture");
  const caption = make("figcaption", "lp-caption");
  caption.append(make("span", "", "probability of the token, and seconds, over the aligned tokens"));
  view.frame = make("div", "lp-frame");
  view.svg = svgNode("svg", { height: CHART.height, width: "100%", role: "img" });
  view.frame.append(view.svg);
  view.readout = make("p", "lp-cmp-readout", POINT);
  view.node.append(caption, view.frame, view.readout);
  new ResizeObserver((entries) => {
    const width = Math.floor(entries[0].contentRect.width);
    if (width && width !== view.width) { view.width = width; drawCharts(view); }
  }).observe(view.frame);
  const at = (event) => {
    const i = Math.floor((event.offsetX - CHART.left) / columnWidth(view));
    return i >= 0 && i < view.columns.length ? i : null;
  };
  view.svg.addEventListener("pointermove", (event) => hover(at(event)));
  view.svg.addEventListener("pointerleave", () => hover(null));
  view.svg.addEventListener("click", (event) => { const i = at(event); if (i !== null) pick(i); });
  return view;
}

function columnWidth(view) {
  return (view.width - CHART.left - CHART.right) / Math.max(view.columns.length, 1);
}

function showCharts(view, columns, runs) {
  Object.assign(view, { columns, runs });
  view.node.hidden = !columns.length;
  view.svg.setAttribute("aria-label", `Probability and seconds over ${counted(columns.length, "aligned token")} of ${counted(runs, "run")}. The strips below say each token.`);
  drawCharts(view);
}

function drawCharts(view) {
  if (!view.width || !view.columns.length) return;
  const cells = view.columns.flatMap((column) => column.tokens).filter(Boolean);
  const seconds = Math.max(0, ...cells.map((cell) => (cell.ms || 0) / 1000));
  view.cursor = svgNode("line", { y1: CHART.tops[0], y2: CHART.tops[1] + CHART.tall, class: "lp-cursor" });
  view.cursor.style.visibility = "hidden";
  const charts = [["p", 1, (cell) => (typeof cell.logprob === "number" ? Math.exp(cell.logprob) : null)], ["s", seconds || 1, (cell) => (typeof cell.ms === "number" ? cell.ms / 1000 : null)]];
  const lines = charts.flatMap(([name, most, value], chart) => [...chartAxis(view, chart, name, most), ...runLines(view, chart, most, value)]);
  view.svg.replaceChildren(...bands(view), ...lines, ...ends(view), view.cursor);
}

// Neighbouring columns that differ make one band; one that differs alone is still seen.
function bands(view) {
  const wide = columnWidth(view), made = [];
  for (const [from, to] of stretches(view.columns)) {
    const box = { x: (CHART.left + from * wide).toFixed(1), y: CHART.tops[0], width: Math.max((to - from) * wide, 1.5).toFixed(1), height: CHART.tops[1] + CHART.tall - CHART.tops[0] };
    made.push(svgNode("rect", { ...box, class: "lp-cmp-band" }));
  }
  return made;
}

// Beginning and end of each run of columns that differ.
function stretches(columns) {
  const found = [];
  columns.forEach((column, i) => {
    if (!column.parts.includes(true)) return;
    const last = found[found.length - 1];
    if (last && last[1] === i) last[1] = i + 1; else found.push([i, i + 1]);
  });
  return found;
}

function chartAxis(view, chart, name, most) {
  const top = CHART.tops[chart], base = top + CHART.tall;
  return [[0, base], [most, top]].flatMap(([value, y]) => [
    svgNode("line", { x1: CHART.left, x2: view.width, y1: y, y2: y, class: value ? "lp-grid" : "lp-base" }),
    svgNode("text", { x: CHART.left - 6, y: y + 4, "text-anchor": "end", class: "lp-tick" }, tick(name, value)),
  ]);
}

function tick(name, value) {
  const number = value >= 10 ? value.toFixed(0) : Number(value.toPrecision(2));
  return name === "p" ? `p ${number}` : `${number} s`;
}

function ends(view) {
  const place = { y: CHART.low, class: "lp-tick" };
  return [svgNode("text", { ...place, x: CHART.left }, "token 0"), svgNode("text", { ...place, x: view.width - CHART.right, "text-anchor": "end" }, String(view.columns.length - 1))];
}

// A line breaks where its run has no token.
function runLines(view, chart, most, value) {
  const wide = columnWidth(view), base = CHART.tops[chart] + CHART.tall, made = [];
  for (let run = view.runs - 1; run >= 0; run -= 1) {
    let path = "", down = false;
    view.columns.forEach((column, i) => {
      const cell = column.tokens[run], y = cell ? value(cell) : null;
      const place = `${(CHART.left + (i + 0.5) * wide).toFixed(1)} ${(base - ((y ?? 0) / most) * CHART.tall).toFixed(1)}`;
      if (y !== null) path += down ? `L${place}` : `M${place}h.1`;  // a token between two gaps is a dot
      down = y !== null;
    });
    made.push(svgNode("path", { d: path || "M0 0", class: `lp-stair lp-cmp-line lp-lane-${run}` }));
  }
  return made;
}

function pointAt(view, i) {
  if (!view.cursor) return;
  view.cursor.style.visibility = i === null ? "hidden" : "visible";
  view.readout.textContent = i === null ? POINT : view.columns[i].tokens.map((cell, run) => `${run + 1}: ${inWords(cell)}`).join(" · ");
  if (i === null) return;
  const x = (CHART.left + (i + 0.5) * columnWidth(view)).toFixed(1);
  view.cursor.setAttribute("x1", x);
  view.cursor.setAttribute("x2", x);
}

// One run's token at a column in a few words.
function inWords(cell) {
  if (!cell) return "nothing";
  const facts = [`token ${cell.position} ${cell.text ? shown(cell.text, 24) : cell.ends ? "end" : "part of a character"}`];
  if (typeof cell.logprob === "number") facts.push(`p ${probability(Math.exp(cell.logprob))}`);
  if (typeof cell.ms === "number") facts.push(`${(cell.ms / 1000).toFixed(2)} s`);
  return facts.join(", ");
}
