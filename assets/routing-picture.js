// Goes in: the points of the newest sweep (a line `sweep`, or a sweep's own findings). Comes out: accuracy against the share of large tokens, with
// whiskers, a line a strategy, a square for each model alone, and a mark for the lane's own share that can be dragged. Beyond the last
// budget the axis is broken: the large model alone stands at its right end.

const PARETO = { height: 252, left: 44, right: 58, gap: 34, top: 16, base: 212 };
const CURVES = { neural: ["router", 0], entropy: ["entropy", 1], random: ["random", 2], oracle: ["oracle: wherever they differ", 3] };

function newPareto(strip) {
  const view = { strip, above: true, sweep: null, width: 0, scale: null, drag: false };
  view.node = make("figure", "lp-picture lp-pareto");
  view.node.hidden = true;
  const caption = make("figcaption", "lp-caption"), frame = make("div", "lp-frame");
  view.readout = make("span", "lp-readout");
  caption.append(explained(make("span", "", "right answers against large tokens")), view.readout);
  view.svg = draw("svg", { height: PARETO.height, width: "100%", role: "img" });
  view.key = make("ul", "lp-legend lp-stairs-key");
  frame.append(view.svg);
  view.node.append(caption, frame, view.key);
  new ResizeObserver((entries) => {
    const width = Math.floor(entries[0].contentRect.width);
    if (width && width !== view.width) { view.width = width; drawPareto(view); }
  }).observe(frame);
  listenPareto(view);
  view.update = (lanes) => updatePareto(view, lanes);
  view.mark = () => markPareto(view);
  strip.pareto = view;
  return view;
}

MORE_READERS.sweep = (strip, event) => { if (strip.pareto && Array.isArray(event.points)) strip.pareto.sweep = event; };

// A sweep that stands in the strip itself (in History) is drawn as it is; else the newest, which stays when runs come and go.
function updatePareto(view, lanes) {
  const own = lanes.filter((lane) => lane.method === "routing.sweep").flatMap((lane) => lane.findings).filter(({ kind }) => kind === "point").map(({ data }) => data);
  const sweep = own.length ? { points: own, words: `${own[0].n} problems` } : view.sweep;
  view.node.hidden = !sweep;
  if (sweep === view.drawn && !own.length) return;
  view.drawn = sweep;
  drawPareto(view);
}

function paretoScale(view, points) {
  const swept = points.filter(({ strategy }) => Object.hasOwn(CURVES, strategy)), { left, right, gap, top, base } = PARETO;
  const most = Math.min(1, Math.max(0.1, ...swept.map(({ share }) => share)) * 1.04), end = view.width - right - gap;
  const low = Math.floor(10 * Math.max(0, Math.min(...points.map((point) => point.low)))) / 10;
  return {
    most, low,
    x: (share) => (share <= most ? left + (share / most) * (end - left) : view.width - right),
    back: (x) => Math.min(most, Math.max(0, ((x - left) / (end - left)) * most)),
    y: (accuracy) => base - ((accuracy - low) / (1 - low)) * (base - top),
    end,
  };
}

function drawPareto(view) {
  if (!view.width || !view.drawn) return;
  const { points, words } = view.drawn, scale = paretoScale(view, points), nodes = paretoAxes(view, scale);
  view.scale = scale;
  for (const [name, [, colour]] of Object.entries(CURVES)) nodes.push(...paretoCurve(points, name, colour, scale));
  nodes.push(...points.filter(({ strategy }) => ["small", "large"].includes(strategy)).flatMap((point) => paretoAlone(point, scale)));
  view.markNode = draw("g", { class: "lp-pareto-mark" });
  view.svg.replaceChildren(...nodes, view.markNode);
  view.key.replaceChildren(...Object.keys(CURVES).filter((name) => points.some(({ strategy }) => strategy === name)).map(paretoItem), make("li", "", "bars: 95 % intervals"), make("li", "", prose(words || "")));
  view.svg.setAttribute("aria-label", `Right answers against the share of large tokens. ${points.map(paretoWords).join("; ")}.`);
  markPareto(view);
}

function paretoAxes(view, scale) {
  const nodes = [], { left, right, base, height } = { ...PARETO };
  for (const share of [0, 0.5, 1]) {
    const accuracy = scale.low + share * (1 - scale.low), y = scale.y(accuracy);
    nodes.push(draw("line", { x1: left, x2: view.width - right + 8, y1: y, y2: y, class: share ? "lp-grid" : "lp-base" }));
    nodes.push(draw("text", { x: left - 6, y: y + 4, "text-anchor": "end", class: "lp-tick" }, `${Math.round(100 * accuracy)} %`));
  }
  const step = scale.most > 0.5 ? 0.2 : scale.most > 0.2 ? 0.1 : 0.05;
  for (let share = 0; share <= scale.most + 1e-9; share += step) nodes.push(draw("text", { x: scale.x(share), y: base + 17, "text-anchor": "middle", class: "lp-tick" }, `${Math.round(100 * share)} %`));
  nodes.push(draw("path", { d: `M${scale.end + 10} ${base + 5}l5 -10m3 10l5 -10`, class: "lp-base" }));
  nodes.push(draw("text", { x: view.width - right, y: base + 17, "text-anchor": "middle", class: "lp-tick" }, "100 %"));
  nodes.push(draw("text", { x: left, y: height - 6, class: "lp-tick" }, "share of large tokens"));
  return nodes;
}

function whisker(point, x, scale, colour) {
  return draw("line", { x1: x, x2: x, y1: scale.y(point.low), y2: scale.y(point.high), class: `lp-whisker lp-lane-${colour}` });
}

function paretoCurve(points, name, colour, scale) {
  const own = points.filter(({ strategy }) => strategy === name).sort((a, b) => a.share - b.share);
  if (!own.length) return [];
  const path = own.map((point, i) => `${i ? "L" : "M"}${scale.x(point.share).toFixed(1)} ${scale.y(point.accuracy).toFixed(1)}`).join("");
  const nodes = own.map((point) => whisker(point, scale.x(point.share), scale, colour));
  return [...nodes, draw("path", { d: path, class: `lp-stair lp-lane-${colour}` }),
    ...own.map((point) => draw("circle", { cx: scale.x(point.share), cy: scale.y(point.accuracy), r: 2.8, class: `lp-pareto-dot lp-lane-${colour}` }))];
}

function paretoAlone(point, scale) {
  const x = scale.x(point.strategy === "large" ? 1.01 : 0), y = scale.y(point.accuracy), right = point.strategy === "small";
  return [whisker(point, x, scale, 5), draw("rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9, class: "lp-pareto-square" }),
    draw("text", { x: right ? x + 9 : x + 9, y: y + (right ? 14 : 4), class: "lp-tick" }, point.strategy)];
}

function paretoItem(name) {
  const [words, colour] = CURVES[name], item = make("li"), line = draw("svg", { width: 26, height: 10, "aria-hidden": "true" });
  line.append(draw("path", { d: "M0 5H26", class: `lp-stair lp-lane-${colour}` }));
  item.append(line, make("span", "", words));
  return item;
}

function paretoWords({ strategy, share, accuracy, low, high, n }) {
  const name = Object.hasOwn(CURVES, strategy) ? `${CURVES[strategy][0]} at ${percent(share)} large tokens` : `${strategy} alone`;
  return `${name}: ${percent(accuracy)} right (${percent(low)} to ${percent(high)}, ${n} problems)`;
}

// The share of the lane that the slider moves; where it lies beyond the swept budgets, at the right end.
function markPareto(view) {
  const share = view.strip.threshold ? markedShare(view.strip.threshold) : null;
  if (!view.markNode || !view.scale) return;
  view.markNode.replaceChildren();
  if (share === null) return;
  const x = Math.min(view.scale.x(share), view.width - PARETO.right), left = x > view.width / 2, lane = view.strip.threshold.lane;
  const name = view.strip.threshold.value === null ? "this run" : "threshold";
  view.markNode.append(
    draw("line", { x1: x, x2: x, y1: PARETO.top, y2: PARETO.base, class: "lp-pareto-line" }),
    draw("circle", { cx: x, cy: PARETO.base, r: 6, class: "lp-pareto-handle" }),
    draw("text", { x: x + (left ? -8 : 8), y: PARETO.base - 8, "text-anchor": left ? "end" : "start", class: "lp-tick lp-pareto-share" }, `${name} ${percent(share)}`),
  );
  view.svg.classList.toggle("lp-drags", Boolean(lane));
}

function listenPareto(view) {
  const move = (event) => {
    const threshold = view.strip.threshold;
    if (view.drag && threshold?.lane && view.scale) moveTo(threshold, atShare(threshold.lane, view.scale.back(event.offsetX)));
    else readPareto(view, event.offsetX, event.offsetY);
  };
  view.svg.addEventListener("pointerdown", (event) => { view.drag = true; view.svg.setPointerCapture(event.pointerId); move(event); });
  view.svg.addEventListener("pointerup", () => { view.drag = false; });
  view.svg.addEventListener("pointercancel", () => { view.drag = false; });
  view.svg.addEventListener("pointermove", move);
  view.svg.addEventListener("pointerleave", () => { if (!view.drag) view.readout.textContent = ""; });
}

function readPareto(view, x, y) {
  if (!view.scale || !view.drawn) return;
  const far = (point) => Math.hypot(view.scale.x(point.strategy === "large" ? 1.01 : point.share) - x, view.scale.y(point.accuracy) - y);
  const nearest = view.drawn.points.reduce((best, point) => (far(point) < far(best) ? point : best));
  view.readout.textContent = far(nearest) < 40 ? paretoWords(nearest) : "";
}

VIEWS.push(newPareto);
