// Goes in: one lane. Comes out: bars, token position against nats taken by the grammar, the three largest refusals named.
// Doesn't know where the lines come from. Drawn in real pixels (the width comes from a ResizeObserver), so text never shrinks.

const SVG = "http://www.w3.org/2000/svg";
const GEOMETRY = { height: 176, left: 30, right: 2, top: 50, base: 146 };
const LABEL = { size: 7.3, row: 15, side: 14 };

function draw(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function newPicture(pick, hover) {
  const view = { lane: null, width: 0, capacity: 0, ceiling: 0, drawn: 0 };
  view.node = make("figure", "lp-picture");
  view.node.hidden = true;
  const caption = make("figcaption", "lp-caption");
  view.readout = make("span", "lp-readout");
  view.title = make("span");
  caption.append(view.title, view.readout);
  view.frame = make("div", "lp-frame");
  view.svg = draw("svg", { height: GEOMETRY.height, width: "100%", role: "img" });
  view.frame.append(view.svg);
  view.node.append(caption, view.frame);
  new ResizeObserver((entries) => {
    const width = Math.floor(entries[0].contentRect.width);
    if (width && width !== view.width) { view.width = width; redraw(view); }
  }).observe(view.frame);
  listen(view, pick, hover);
  return view;
}

function listen(view, pick, hover) {
  const at = (event) => {
    const i = Math.floor((event.offsetX - GEOMETRY.left) / step(view));
    return view.lane && i >= 0 && i < view.lane.tokens.length ? i : null;
  };
  view.svg.addEventListener("pointermove", (event) => hover(view.lane, at(event)));
  view.svg.addEventListener("pointerleave", () => hover(view.lane, null));
  view.svg.addEventListener("click", (event) => { const i = at(event); if (i !== null) pick(view.lane, i); });
}

// While a run grows the room grows by steps, so that most updates only append; at the end the bars take the full width.
function roomFor(cut) {
  const lane = cut.whole || cut;
  if (lane.ended) return Math.max(lane.tokens.length, 32);
  let room = 48;
  while (room < lane.tokens.length) room = Math.round(room * 1.5);
  return room;
}

function ceilingFor(lane) {
  const most = Math.max(0, ...(lane.whole || lane).tokens.map((token) => natsTaken(token) || 0));
  return [2, 5, 10, 15, 20, 30].find((limit) => limit >= most * 0.999) || 30;
}

function step(view) {
  return (view.width - GEOMETRY.left - GEOMETRY.right) / view.capacity;
}

function measured(lane) {
  return lane.tokens.some((token) => natsTaken(token) !== null);
}

// The lane of the open token if it has anything to draw, else the first that has.
function updatePicture(view, lanes, wanted) {
  const some = lanes.filter(measured), lane = some.includes(wanted) ? wanted : some[0] || null;
  view.node.hidden = !lane;
  if (!lane) { view.lane = null; return; }
  view.title.replaceChildren(explained(make("span", "", "nats taken by the grammar")), some.length > 1 ? `, ${lane.name}` : "");
  const changed = lane !== view.lane || roomFor(lane) !== view.capacity || ceilingFor(lane) !== view.ceiling;
  view.lane = lane;
  if (!view.width) return;
  if (changed) redraw(view); else { addBars(view); label(view); }
}

function redraw(view) {
  if (!view.lane || !view.width) return;
  view.capacity = roomFor(view.lane);
  view.ceiling = ceilingFor(view.lane);
  view.drawn = 0;
  view.bars = draw("g", {});
  view.labels = draw("g", { class: "lp-labels" });
  view.svg.replaceChildren(...axis(view), view.bars, view.labels);
  addBars(view);
  label(view);
}

function axis(view) {
  const nodes = [];
  const ticks = view.ceiling === 2 ? [0, 1, 2] : [0, view.ceiling * (view.ceiling % 2 ? 0.4 : 0.5), view.ceiling];
  for (const tick of ticks) {
    const y = heightOf(view, tick);
    nodes.push(draw("line", { x1: GEOMETRY.left, x2: view.width, y1: y, y2: y, class: tick ? "lp-grid" : "lp-base" }));
    nodes.push(draw("text", { x: GEOMETRY.left - 6, y: y + 4, "text-anchor": "end", class: "lp-tick" }, String(tick)));
  }
  nodes.push(draw("text", { x: GEOMETRY.left, y: GEOMETRY.height - 8, class: "lp-tick" }, "token 0"));
  view.end = draw("text", { y: GEOMETRY.height - 8, "text-anchor": "end", class: "lp-tick" });
  return [...nodes, view.end];
}

function heightOf(view, nats) {
  return GEOMETRY.base - (Math.min(nats, view.ceiling) / view.ceiling) * (GEOMETRY.base - GEOMETRY.top);
}

function addBars(view) {
  const wide = step(view), gap = wide > 6 ? 2 : wide > 3 ? 1 : 0;
  const { tokens } = view.lane;
  for (; view.drawn < tokens.length; view.drawn += 1) {
    const token = tokens[view.drawn], x = GEOMETRY.left + view.drawn * wide, y = heightOf(view, natsTaken(token) || 0);
    const box = { x: x.toFixed(2), width: Math.max(wide - gap, 0.8).toFixed(2) };
    if (GEOMETRY.base - y > 0.3) view.bars.append(draw("rect", { ...box, y: y.toFixed(2), height: (GEOMETRY.base - y).toFixed(2), class: `lp-bar lp-bar-${markOf(token)}`, "data-i": view.drawn }));
    if ((token.detail || {}).allowed === 1) view.bars.append(draw("rect", { ...box, y: GEOMETRY.base + 4, height: 2.5, class: "lp-forced" }));
  }
  const last = Math.max(GEOMETRY.left + tokens.length * wide - gap, GEOMETRY.left + 90);
  view.end.setAttribute("x", last);
  view.end.textContent = tokens.length > 1 ? String(tokens.length - 1) : "";
}

function largest(lane) {
  return lane.tokens
    .map((token, i) => ({ token, i, nats: natsTaken(token) || 0 }))
    .filter(({ token }) => token.source === "overridden" && (token.detail || {}).wanted)
    .sort((a, b) => b.nats - a.nats)
    .slice(0, 3);
}

function label(view) {
  const wide = step(view), taken = [], nodes = [], words = [];
  for (const { token, i, nats } of largest(view.lane)) {
    const text = `${shown(token.detail.wanted[1], LABEL.side)} → ${shown(token.text, LABEL.side)}`;
    const bar = { x: GEOMETRY.left + (i + 0.45) * wide, top: heightOf(view, nats), i };
    const box = place(view, text.length * LABEL.size, bar, taken);
    taken.push(box);
    if (box.y < bar.top - 8) nodes.push(draw("line", { x1: bar.x, x2: bar.x, y1: box.y + 4, y2: bar.top - 1, class: "lp-leader" }));
    nodes.push(draw("text", { x: box.x + box.width / 2, y: box.y, "text-anchor": "middle", class: "lp-label", "data-i": i }, text));
    words.push(`token ${token.position}, wanted ${spoken(token.detail.wanted[1])}, got ${spoken(token.text)}`);
  }
  view.labels.replaceChildren(...nodes);
  const most = words.length ? ` Largest: ${words.join("; ")}.` : "";
  view.svg.setAttribute("aria-label", `Nats taken by the grammar at each of ${counted(view.lane.tokens.length, "token")}.${most}`);
}

// The lowest free place above the bar, touching neither another label nor another bar; three rows above all bars are always free.
function place(view, width, bar, taken) {
  const starts = [bar.x - width / 2, bar.x - 8, bar.x - width + 8].map((x) => Math.min(Math.max(x, GEOMETRY.left), view.width - width));
  const first = Math.min(bar.top - 6, GEOMETRY.base - 8);
  for (let y = first; y >= 11; y -= 3) {
    for (const x of starts) {
      const box = { x, y, width };
      if (!taken.some((other) => overlaps(box, other)) && !hitsBar(view, box, bar)) return box;
    }
  }
  return { x: starts[0], y: 11, width };
}

function overlaps(a, b) {
  return a.x < b.x + b.width + 8 && b.x < a.x + a.width + 8 && Math.abs(a.y - b.y) < LABEL.row;
}

function hitsBar(view, box, own) {
  const wide = step(view);
  const from = Math.max(0, Math.floor((box.x - GEOMETRY.left) / wide)), to = Math.floor((box.x + box.width - GEOMETRY.left) / wide);
  for (let i = from; i <= to && i < view.lane.tokens.length; i += 1) {
    if (i !== own.i && heightOf(view, natsTaken(view.lane.tokens[i]) || 0) < box.y + 4) return true;
  }
  return false;
}

function point(view, lane, i) {
  const token = lane && lane === view.lane && i !== null ? lane.tokens[i] : null;
  view.readout.textContent = token ? `${describe(token)} · ${(natsTaken(token) || 0).toFixed(2)} nats` : "";
  for (const bar of view.svg.querySelectorAll(".lp-hot")) bar.classList.remove("lp-hot");
  if (token) view.svg.querySelector(`.lp-bar[data-i="${i}"]`)?.classList.add("lp-hot");
}
