// Goes in: the rounds of one lane. Comes out: one stacked bar a round: milliseconds of drafting, verifying and the rest; a click selects.
// Doesn't know tokens. A round far longer than the others is cut at the top of the chart; its title has the number.

const TIMES = { height: 128, left: 34, top: 8, base: 96 };
const PARTS = [["draft", "draft ms"], ["verify", "verify ms"], ["host", "host ms"]];
const CUT = 3;  // bars are cut at so many times the median

function newTimeline(pick) {
  const view = { rounds: [], at: -1, width: 0 };
  view.node = make("div", "lp-frame lp-timeline");
  view.svg = draw("svg", { height: TIMES.height, width: "100%", role: "img" });
  view.node.append(view.svg);
  new ResizeObserver((entries) => {
    const width = Math.floor(entries[0].contentRect.width);
    if (width && width !== view.width) { view.width = width; drawTimeline(view); }
  }).observe(view.node);
  view.svg.addEventListener("click", (event) => {
    const i = Math.floor((event.offsetX - TIMES.left) / barStep(view));
    if (i >= 0 && i < view.rounds.length) pick(i);
  });
  return view;
}

function barStep(view) {
  return (view.width - TIMES.left) / Math.max(view.rounds.length, 12);
}

function totalMs(round) {
  return PARTS.reduce((sum, [part]) => sum + ((round.spans || {})[part] || 0), 0);
}

function ceilingMs(rounds) {
  const totals = rounds.map(totalMs).sort((a, b) => a - b), middle = totals[Math.floor(totals.length / 2)] || 1;
  return roundUp(Math.min(totals[totals.length - 1] || 1, CUT * middle));
}

function drawTimeline(view) {
  if (!view.width || !view.rounds.length) { view.svg.replaceChildren(); return; }
  const most = ceilingMs(view.rounds), wide = barStep(view), nodes = [];
  const height = (ms) => (Math.min(ms, most) / most) * (TIMES.base - TIMES.top);
  for (const share of [0, 0.5, 1]) {
    const y = TIMES.base - share * (TIMES.base - TIMES.top);
    nodes.push(draw("line", { x1: TIMES.left, x2: view.width, y1: y, y2: y, class: share ? "lp-grid" : "lp-base" }));
    nodes.push(draw("text", { x: TIMES.left - 6, y: y + 4, "text-anchor": "end", class: "lp-tick" }, String(Number((most * share).toPrecision(2)))));
  }
  view.rounds.forEach((round, i) => nodes.push(timelineBar(view, round, i, wide, height)));
  view.svg.replaceChildren(...nodes);
  view.svg.setAttribute("aria-label", timelineWords(view.rounds));
}

function timelineBar(view, round, i, wide, height) {
  const group = draw("g", { class: i === view.at ? "lp-round-bar lp-round-at" : "lp-round-bar", "data-round": i });
  const x = TIMES.left + i * wide, width = Math.max(wide - (wide > 5 ? 2 : 0.5), 0.8);
  let done = 0;
  group.append(draw("title", {}, roundWords(round)));
  if (i === view.at) group.append(draw("rect", { x: x - 1, y: TIMES.top, width: width + 2, height: TIMES.base - TIMES.top + 16, class: "lp-round-mark" }));
  for (const [part] of PARTS) {
    const from = height(done), to = height(done + ((round.spans || {})[part] || 0));
    done += (round.spans || {})[part] || 0;
    if (to > from) group.append(draw("rect", { x, y: TIMES.base - to, width, height: to - from, class: `lp-part-${part}` }));
  }
  if (wide >= 12) group.append(draw("text", { x: x + width / 2, y: TIMES.base + 13, "text-anchor": "middle", class: "lp-tick" }, String(round.accepted)));
  return group;
}

function roundWords(round) {
  const spans = round.spans || {}, times = PARTS.map(([part]) => `${part} ${(spans[part] || 0).toFixed(1)} ms`).join(", ");
  const draft = round.drafted.length ? `${round.accepted} of ${round.drafted.length} drafted accepted` : "nothing drafted";
  return `round ${round.index}: ${draft} · ${times}`;
}

function timelineWords(rounds) {
  const sums = PARTS.map(([part]) => `${part} ${rounds.reduce((sum, round) => sum + ((round.spans || {})[part] || 0), 0).toFixed(0)} ms`);
  return `Time of ${counted(rounds.length, "round")}: ${sums.join(", ")} in all.`;
}

function timelineKey() {
  const key = make("ul", "lp-legend");
  for (const [part, term] of PARTS) {
    const item = make("li"), swatch = draw("svg", { width: 10, height: 10, "aria-hidden": "true" });
    swatch.append(draw("rect", { width: 10, height: 10, class: `lp-part-${part}` }));
    item.append(swatch, explained(make("span", "", term)));
    key.append(item);
  }
  const item = make("li");
  item.append(make("span", "", "under a bar: "), explained(make("span", "", "accepted")));
  key.append(item);
  return key;
}
