// Goes in: the lane of a scan and, for the grey dots, what scans of clean models found. Comes out: log-probability under the reference against that
// under the suspect, a dot a candidate; on the diagonal both find the text as likely. Hidden where there was no reference.

const DOTS = { height: 320, left: 44, right: 14, top: 12, base: 276, named: 3, label: 26 };

function newDots(strip) {
  const view = { above: true, lane: null, rows: [], clean: [], width: 0, strip };
  view.node = make("figure", "lp-picture lp-dots");
  view.node.hidden = true;
  const caption = make("figcaption", "lp-caption"), title = make("span");
  title.append("log p, suspect (up) against reference: ", explained(make("span", "", "candidates")));
  view.readout = make("span", "lp-readout");
  caption.append(title, view.readout);
  const frame = make("div", "lp-frame");
  view.svg = draw("svg", { height: DOTS.height, width: "100%", role: "img" });
  view.key = make("ul", "lp-legend");
  frame.append(view.svg);
  view.node.append(caption, frame, view.key);
  new ResizeObserver((entries) => {
    const width = Math.floor(entries[0].contentRect.width);
    if (width && width !== view.width) { view.width = width; drawDots(view); }
  }).observe(frame);
  view.svg.addEventListener("pointermove", (event) => readDot(view, event));
  view.svg.addEventListener("pointerleave", () => { view.readout.textContent = ""; });
  view.svg.addEventListener("click", (event) => { const dot = nearestDot(view, event); if (dot) showCandidate(strip, dot.row.rank); });
  view.update = (lanes) => { updateDots(view, scanLane(lanes)); };
  view.candidateChosen = () => drawDots(view);
  return view;
}

function updateDots(view, lane) {
  view.rows = lane ? candidatesOf(lane).filter((row) => typeof fieldOf(row, "reference_logprob") === "number" && typeof fieldOf(row, "mean_logprob") === "number") : [];
  view.clean = (view.strip.clean || {}).points || [];
  view.node.hidden = !view.rows.length;
  if (!view.node.hidden) drawDots(view);
}

function dotPlaces(view) {
  const pairs = view.rows.map((row) => [fieldOf(row, "reference_logprob"), fieldOf(row, "mean_logprob")]);
  const low = Math.floor(Math.min(-1, ...[...pairs, ...view.clean].flatMap(([x, y]) => [x, y])));
  const across = view.width - DOTS.left - DOTS.right, up = DOTS.base - DOTS.top;
  return { low, pairs, x: (value) => DOTS.left + (1 - value / low) * across, y: (value) => DOTS.base - (1 - value / low) * up };
}

function drawDots(view) {
  if (!view.width || !view.rows.length) return;
  const place = dotPlaces(view), nodes = dotAxes(view, place);
  view.clean.forEach(([x, y]) => nodes.push(draw("circle", { cx: place.x(x).toFixed(1), cy: place.y(y).toFixed(1), r: 2.5, class: "lp-dot-clean" })));
  view.dots = view.rows.map((row, i) => ({ row, cx: place.x(place.pairs[i][0]), cy: place.y(place.pairs[i][1]) }));
  const taken = [];
  for (const dot of [...view.dots].reverse()) {
    const chosen = view.strip.candidate === dot.row.rank, name = dot.row.rank <= DOTS.named ? "lp-dot lp-dot-best" : "lp-dot";
    nodes.push(draw("circle", { cx: dot.cx.toFixed(1), cy: dot.cy.toFixed(1), r: dot.row.rank <= DOTS.named ? 6 : 4, class: chosen ? `${name} lp-dot-chosen` : name }));
  }
  view.dots.slice(0, DOTS.named).forEach((dot) => nodes.push(...dotLabel(view, dot, taken)));
  view.svg.replaceChildren(...nodes);
  view.svg.setAttribute("aria-label", dotsWords(view));
  view.key.replaceChildren(...dotsKey(view));
}

function dotAxes(view, place) {
  const nodes = [], step = place.low < -12 ? 4 : place.low < -5 ? 2 : 1;
  for (let tick = 0; tick >= place.low; tick -= step) {
    const x = place.x(tick), y = place.y(tick), words = fieldWords(tick);
    nodes.push(draw("line", { x1: DOTS.left, x2: view.width - DOTS.right, y1: y, y2: y, class: "lp-grid" }));
    nodes.push(draw("text", { x: DOTS.left - 6, y: y + 4, "text-anchor": "end", class: "lp-tick" }, words));
    nodes.push(draw("text", { x, y: DOTS.base + 16, "text-anchor": "middle", class: "lp-tick" }, words));
  }
  nodes.push(draw("line", { x1: place.x(place.low), y1: place.y(place.low), x2: place.x(0), y2: place.y(0), class: "lp-diagonal" }));
  nodes.push(draw("text", { x: DOTS.left, y: DOTS.base + 34, class: "lp-tick" }, "log p under the reference, nats a token"));
  nodes.push(draw("text", { x: place.x(0) - 8, y: place.y(0) + 22, "text-anchor": "end", class: "lp-tick" }, "no lift"));
  return nodes;
}

// Beside its dot, on the side that has room, one line lower where another label stands.
function dotLabel(view, dot, taken) {
  const text = `${dot.row.rank} ${shown(dot.row.text, view.width < 600 ? 14 : DOTS.label)}`, width = text.length * 7.3;
  const left = dot.cx + 10 + width > view.width, x = left ? Math.max(dot.cx - 10, width) : dot.cx + 10;
  let y = dot.cy + 4;
  while (taken.some((other) => Math.abs(other - y) < 15)) y += 15;
  taken.push(y);
  return y > DOTS.base - 2 ? [] : [draw("text", { x, y, "text-anchor": left ? "end" : "start", class: "lp-dot-label" }, text)];
}

function nearestDot(view, event) {
  const away = (dot) => Math.hypot(dot.cx - event.offsetX, dot.cy - event.offsetY);
  const best = (view.dots || []).reduce((found, dot) => (!found || away(dot) < away(found) ? dot : found), null);
  return best && away(best) < 24 ? best : null;
}

function readDot(view, event) {
  const dot = nearestDot(view, event);
  view.readout.textContent = dot ? `${dot.row.rank}: ${shown(dot.row.text, 40)}, lift ${fieldWords(fieldOf(dot.row, "lift"))}` : "";
}

function dotsWords(view) {
  const best = view.rows[0];
  return `${counted(view.rows.length, "candidate")}; the first, ${spoken(best.text)}, has log p ${fieldWords(fieldOf(best, "mean_logprob"))} under the suspect `
    + `and ${fieldWords(fieldOf(best, "reference_logprob"))} under the reference.`;
}

function dotsKey(view) {
  const item = (name, words) => {
    const node = make("li"), swatch = draw("svg", { width: 14, height: 14, "aria-hidden": "true" });
    swatch.append(draw("circle", { cx: 7, cy: 7, r: 4.5, class: name }));
    node.append(swatch, make("span", "", words));
    return node;
  };
  const clean = view.clean.length ? `candidates of ${prose((view.strip.clean || {}).words || "clean models")}` : "";
  return [item("lp-dot lp-dot-best", "the first three"), item("lp-dot", "other candidates"), ...(clean ? [item("lp-dot-clean", clean)] : [])];
}

VIEWS.push(newDots);
