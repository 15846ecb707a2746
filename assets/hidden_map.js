// Goes in: the lane of a scan. Comes out: the vocabulary as it fills: one strip of cells a context, a cell the darker the better its best token.
// Doesn't know what was forced. Shade has a second cue: the readout says every number.

const MAP = { columns: 128, narrow: 64, steps: 5, gap: 0.12 };
// Nats that fill the next shade: mean lift where there is a reference, else mean log-probability, which is never above zero.
const LIFT_STEPS = [0, 0.5, 1, 2, 4], LOGP_STEPS = [-8, -4, -2, -1, -0.3];

function newMap(strip) {
  const view = { above: true, lane: null, width: 0, drawn: -1 };
  view.node = make("figure", "lp-picture lp-map");
  view.node.hidden = true;
  const caption = make("figcaption", "lp-caption");
  view.title = make("span");
  view.readout = make("span", "lp-readout");
  caption.append(view.title, view.readout);
  view.frame = make("div", "lp-frame");
  view.key = make("ul", "lp-legend");
  view.node.append(caption, view.frame, view.key);
  new ResizeObserver((entries) => {
    const width = Math.floor(entries[0].contentRect.width);
    if (width && width !== view.width) { view.width = width; view.drawn = -1; drawMaps(view); }
  }).observe(view.frame);
  view.update = (lanes) => { view.lane = scanLane(lanes); drawMaps(view); };
  view.reset = () => { view.drawn = -1; view.frame.replaceChildren(); };
  return view;
}

function drawMaps(view) {
  const n = view.lane ? view.lane.findings.filter((event) => event.kind === "map").length : 0;
  view.node.hidden = !n;
  if (!n) return;
  if (!view.lane.progress || view.lane.ended || !view.hot) view.readout.textContent = paceWords(view.lane);
  if (n === view.drawn || !view.width) return;
  view.drawn = n;
  const lifts = Object.hasOwn(view.lane.models || {}, "reference"), maps = mapsOf(view.lane);
  view.title.replaceChildren(explained(make("span", "", "map of the vocabulary")), lifts ? ", best mean lift" : ", best mean log p");
  view.frame.replaceChildren(...maps.flatMap((map) => [make("p", "lp-map-name", mapWords(map)), mapDrawing(view, map, lifts)]));
  view.key.replaceChildren(...mapKey(lifts));
}

function mapWords(map) {
  return `${prose(map.sweep)}, ${prose(map.context)}: ${Math.round((100 * map.best.size) / map.cells)} % of the vocabulary`;
}

function shadeOf(value, lifts) {
  return (lifts ? LIFT_STEPS : LOGP_STEPS).filter((step) => value >= step).length;
}

function mapDrawing(view, map, lifts) {
  const columns = view.width < 600 ? MAP.narrow : MAP.columns, side = view.width / columns, rows = Math.ceil(map.cells / columns);
  const shades = Array.from({ length: MAP.steps + 1 }, () => []);
  for (const [cell, value] of map.best) {
    const x = (cell % columns) * side, y = Math.floor(cell / columns) * side, edge = side * (1 - MAP.gap);
    shades[shadeOf(value, lifts)].push(`M${x.toFixed(1)} ${y.toFixed(1)}h${edge.toFixed(1)}v${edge.toFixed(1)}h-${edge.toFixed(1)}z`);
  }
  const svg = draw("svg", { width: "100%", height: Math.ceil(rows * side), role: "img" });
  svg.setAttribute("aria-label", mapWords(map));
  svg.append(...shades.map((squares, i) => draw("path", { d: squares.join(""), class: `lp-shade-${i}` })));
  svg.addEventListener("pointermove", (event) => readMap(view, map, Math.floor(event.offsetY / side) * columns + Math.floor(event.offsetX / side), lifts));
  svg.addEventListener("pointerleave", () => { view.hot = false; view.readout.textContent = paceWords(view.lane); });
  return svg;
}

function readMap(view, map, cell, lifts) {
  const vocabulary = scanFound(view.lane, "vocabulary")[0] || {};
  const width = ["forced", "special", "padding", "repeated"].reduce((sum, name) => sum + (vocabulary[name] || 0), 0);
  const first = Math.ceil((cell * width) / map.cells), last = Math.ceil(((cell + 1) * width) / map.cells) - 1, value = map.best.get(cell);
  view.hot = true;
  const said = value === undefined ? "not forced yet" : `best mean ${lifts ? "lift" : "log p"} ${fieldWords(value)}`;
  view.readout.textContent = cell < map.cells ? `ids ${first.toLocaleString("en")} to ${last.toLocaleString("en")}: ${said}` : "";
}

function mapKey(lifts) {
  const steps = lifts ? LIFT_STEPS : LOGP_STEPS;
  return ["less", ...steps].map((step, i) => {
    const item = make("li"), swatch = draw("svg", { width: 12, height: 12, "aria-hidden": "true" });
    swatch.append(draw("rect", { width: 12, height: 12, class: `lp-shade-${i}` }));
    item.append(swatch, make("span", "", i ? `from ${fieldWords(step)}` : `below ${fieldWords(steps[0])} nats`));
    return item;
  });
}

VIEWS.push(newMap);
