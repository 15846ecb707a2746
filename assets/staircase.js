// Goes in: the lanes of a comparison and what was concluded. Comes out: seconds against tokens emitted, one staircase a lane, its end marked.
// Doesn't know how a lane was made: only when its tokens came. Colour is never alone: each lane has its own dashes and its name.

const STAIRS = { height: 240, left: 34, right: 18, top: 14, base: 206 };
const OUTCOMES = {
  identical: ["✓", "identical to plain"],
  diverged: ["✗", "another text than plain"],
  same_law: ["~", "same distribution as plain"],
};

function isSpeculative(lane) {
  return lane.method === "speculative";
}

function laneFigures(verdict, lane) {
  return (((verdict || {}).figures || {}).lanes || []).find?.((facts) => facts.run === lane.run) || null;
}

// What the verdict says of a lane's text against plain: identical, diverged, same_law, or nothing.
function outcomeOf(verdict, lane) {
  const { state } = laneFigures(verdict, lane) || {};
  return Object.hasOwn(OUTCOMES, state) ? state : null;
}

function divergenceWords({ position, here, plain, cause }) {
  const margin = (side) => (typeof (side || {}).margin === "number" ? side.margin.toPrecision(2) : "unknown");
  return `leaves plain's text at token ${position}: ${shown((here || {}).text || "its end")} for ${shown((plain || {}).text || "its end")}, `
    + `first choice ahead by ${margin(here)} here and ${margin(plain)} there (${prose(cause || "")})`;
}

// Said once a lane, under its name; the token where the texts part is marked.
function tellOutcome(view, lane) {
  const outcome = outcomeOf(view.verdict, lane);
  if (!outcome || lane.outcome) return;
  lane.outcome = outcome;
  lane.head.append(make("span", `lp-outcome lp-outcome-${outcome}`, `${OUTCOMES[outcome][0]} ${OUTCOMES[outcome][1]}`));
  const parted = laneFigures(view.verdict, lane).first_divergence;
  if (!parted) return;
  addNote(lane, divergenceWords(parted));
  lane.nodes[lane.tokens.findIndex((token) => token.position === parted.position)]?.classList.add("lp-parted");
}

function newStaircase() {
  const view = { above: true, lanes: [], width: 0, verdict: null };
  view.node = make("figure", "lp-picture lp-stairs");
  view.node.hidden = true;
  const caption = make("figcaption", "lp-caption");
  view.readout = make("span", "lp-readout");
  caption.append(explained(make("span", "", "tokens against seconds")), view.readout);
  const frame = make("div", "lp-frame");
  view.svg = draw("svg", { height: STAIRS.height, width: "100%", role: "img" });
  view.key = make("ul", "lp-legend lp-stairs-key");
  frame.append(view.svg);
  view.node.append(caption, frame, view.key);
  new ResizeObserver((entries) => {
    const width = Math.floor(entries[0].contentRect.width);
    if (width && width !== view.width) { view.width = width; drawStairs(view); }
  }).observe(frame);
  view.svg.addEventListener("pointermove", (event) => readStairs(view, event.offsetX));
  view.svg.addEventListener("pointerleave", () => readStairs(view, null));
  view.update = (lanes, _, verdict) => {
    view.lanes = lanes.filter((lane) => isSpeculative(lane) && lane.tokens.length);
    view.verdict = verdict;
    view.node.hidden = !view.lanes.length;
    view.lanes.forEach((lane) => tellOutcome(view, lane));
    drawStairs(view);
  };
  return view;
}

function secondsOf(lane) {
  const last = lane.tokens[lane.tokens.length - 1];
  return last && typeof last.ms === "number" ? last.ms / 1000 : 0;
}

// The smallest round number of 1, 2, 2.5, 5 times a power of ten that is not below.
function roundUp(value) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(value, 1e-6)));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10].map((step) => step * unit).find((limit) => limit >= value * 0.9999);
}

function stairScale(view) {
  const whole = view.lanes.map((lane) => lane.whole || lane);
  const seconds = roundUp(Math.max(0.05, ...whole.map(secondsOf))), tokens = Math.max(8, ...whole.map((lane) => lane.tokens.length));
  const { left, right, top, base } = STAIRS;
  return {
    seconds, tokens,
    x: (s) => left + (s / seconds) * (view.width - left - right),
    y: (n) => base - (n / tokens) * (base - top),
    back: (x) => ((x - left) / (view.width - left - right)) * seconds,
  };
}

function stairPath(lane, scale) {
  let path = `M${scale.x(0).toFixed(1)} ${scale.y(0).toFixed(1)}`;
  lane.tokens.forEach((token, i) => { path += `H${scale.x((token.ms || 0) / 1000).toFixed(1)}V${scale.y(i + 1).toFixed(1)}`; });
  return path;
}

function drawStairs(view) {
  if (!view.width || !view.lanes.length) return;
  const scale = stairScale(view), nodes = stairAxes(view, scale);
  view.lanes.forEach((lane, i) => nodes.push(draw("path", { d: stairPath(lane, scale), class: `lp-stair lp-lane-${i % 6}` })));
  nodes.push(...stairEnds(view, scale));
  view.cursor = draw("line", { y1: STAIRS.top, y2: STAIRS.base, class: "lp-cursor", visibility: "hidden" });
  view.svg.replaceChildren(...nodes, view.cursor);
  view.scale = scale;
  view.key.replaceChildren(...view.lanes.map((lane, i) => stairItem(view, lane, i)));
  view.svg.setAttribute("aria-label", `Tokens against seconds. ${view.lanes.map((lane) => stairWords(view, lane)).join("; ")}.`);
}

function stairAxes(view, scale) {
  const nodes = [];
  for (const share of [0, 0.5, 1]) {
    const y = scale.y(scale.tokens * share), x = scale.x(scale.seconds * share), seconds = scale.seconds * share;
    nodes.push(draw("line", { x1: STAIRS.left, x2: view.width - STAIRS.right, y1: y, y2: y, class: share ? "lp-grid" : "lp-base" }));
    nodes.push(draw("text", { x: STAIRS.left - 6, y: y + 4, "text-anchor": "end", class: "lp-tick" }, String(Math.round(scale.tokens * share))));
    const anchor = share === 1 ? "end" : share ? "middle" : "start";
    nodes.push(draw("text", { x, y: STAIRS.base + 18, "text-anchor": anchor, class: "lp-tick" }, `${Number(seconds.toPrecision(3))}${share ? "" : " s"}`));
  }
  return nodes;
}

// Marks that would lie on each other move up, so that each can be read.
function stairEnds(view, scale) {
  const ends = view.lanes.filter((lane) => lane.ended).map((lane) => ({ lane, i: view.lanes.indexOf(lane), x: scale.x(secondsOf(lane)), y: scale.y(lane.tokens.length) - 5 }));
  ends.sort((a, b) => a.x - b.x);
  ends.forEach((end, n) => {
    for (let before = 0; before < n; before += 1) if (Math.abs(ends[before].x - end.x) < 12 && Math.abs(ends[before].y - end.y) < 12) end.y = ends[before].y + 13;
  });
  return ends.map(({ lane, i, x, y }) => draw("text", { x: Math.min(x, view.width - 8), y, "text-anchor": "middle", class: `lp-stair-end lp-lane-${i % 6}` }, endMark(view, lane)));
}

function endMark(view, lane) {
  const outcome = outcomeOf(view.verdict, lane);
  return lane.ended.event === "failed" ? "!" : outcome ? OUTCOMES[outcome][0] : "●";
}

function stairWords(view, lane) {
  const outcome = outcomeOf(view.verdict, lane), failed = lane.ended && lane.ended.event === "failed";
  const how = failed ? "failed" : outcome ? `${OUTCOMES[outcome][0]} ${OUTCOMES[outcome][1]}` : "";
  return [`${lane.name} ${counted(lane.tokens.length, "token")} in ${secondsOf(lane).toFixed(2)} s`, how].filter(Boolean).join(", ");
}

function stairItem(view, lane, i) {
  const item = make("li"), line = draw("svg", { width: 26, height: 10, "aria-hidden": "true" });
  line.append(draw("path", { d: "M0 5H26", class: `lp-stair lp-lane-${i % 6}` }));
  item.append(line, make("span", "", stairWords(view, lane)));
  return item;
}

// How many tokens each lane had at the moment under the pointer.
function readStairs(view, x) {
  if (!view.scale || !view.cursor) return;
  const seconds = x === null ? -1 : view.scale.back(x), there = seconds >= 0 && seconds <= view.scale.seconds;
  view.cursor.setAttribute("visibility", there ? "visible" : "hidden");
  if (there) { view.cursor.setAttribute("x1", x); view.cursor.setAttribute("x2", x); }
  const had = view.lanes.map((lane) => `${lane.name} ${lane.tokens.filter((token) => (token.ms || 0) / 1000 <= seconds).length}`);
  view.readout.textContent = there ? `at ${seconds.toFixed(2)} s: ${had.join(", ")}` : "";
}

VIEWS.push(newStaircase);
