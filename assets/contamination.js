// Goes in: the lanes of a page. Comes out: of an audit its picture, accuracy per set: hollow before, filled after, grey for random neurons, a line
// at the model's own fresh accuracy; of a patched run what both models wanted, for the card. Doesn't know how anything was measured.

const AUDIT = { row: 30, top: 24, left: 86, right: 24, foot: 22 };

function isAudit(lane) {
  return lane.method === "contamination.audit";
}

function foundOf(lane, kind) {
  return lane.findings.filter((event) => event.kind === kind).map((event) => event.data || {});
}

// One row a set: all its items before anything is patched, the reported half as soon as that was patched.
function auditRows(lane) {
  const changes = foundOf(lane, "change").filter((data) => data.model === "suspect");
  const chance = foundOf(lane, "control").filter((data) => String(data.name).startsWith("random"));
  return foundOf(lane, "accuracy").filter((data) => data.model === "suspect" && !data.patched).map((plain) => {
    const change = changes.find((data) => data.set === plain.set);
    const random = chance.filter((data) => data.set === plain.set).map((data) => data.value);
    return { set: String(plain.set), n: change ? change.n : plain.n, before: change ? change.before : plain, after: change ? change.after : null, random };
  });
}

function percentOf(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function auditWords(row) {
  const words = [`${prose(row.set)}: ${percentOf(row.before.value)} before`];
  if (row.after) words.push(`${percentOf(row.after.value)} patched (${percentOf(row.after.low)} to ${percentOf(row.after.high)})`);
  if (row.random.length) words.push(`random neurons ${row.random.map(percentOf).join(", ")}`);
  return `${words.join(", ")}, of ${counted(row.n, "item")}`;
}

function newAuditPicture() {
  const view = { above: true, width: 0, rows: [] };
  view.node = make("figure", "lp-picture lp-audit");
  view.node.hidden = true;
  const caption = make("figcaption", "lp-caption"), frame = make("div", "lp-frame");
  view.readout = make("span", "lp-readout");
  caption.append(explained(make("span", "", "accuracy per set")), view.readout);
  view.svg = draw("svg", { height: 0, width: "100%", role: "img" });
  view.key = make("ul", "lp-legend");
  frame.append(view.svg);
  view.node.append(caption, frame, view.key);
  new ResizeObserver((entries) => {
    const width = Math.floor(entries[0].contentRect.width);
    if (width && width !== view.width) { view.width = width; drawAudit(view); }
  }).observe(frame);
  view.svg.addEventListener("pointermove", (event) => readAudit(view, event.offsetY));
  view.svg.addEventListener("pointerleave", () => readAudit(view, null));
  view.update = (lanes) => updateAudit(view, lanes.find(isAudit));
  view.reset = () => { view.rows = []; };
  return view;
}

// A job writes no tokens, so of its lane only the warnings are left on the page.
function updateAudit(view, lane) {
  view.rows = lane ? auditRows(lane) : [];
  view.node.hidden = !view.rows.length;
  if (!lane) return;
  lane.head.hidden = lane.body.hidden = true;
  drawAudit(view);
}

function drawAudit(view) {
  if (!view.width || !view.rows.length) return;
  const { row, top, left, right, foot } = AUDIT, height = top + row * view.rows.length + foot;
  const x = (share) => left + Number(share) * (view.width - left - right);
  const nodes = auditAxis(view, x, height - foot);
  const fresh = view.rows.find((one) => one.set === "fresh");
  if (fresh) nodes.push(...freshLine(x(fresh.before.value), height - foot, view.width));
  view.rows.forEach((one, i) => nodes.push(...auditRow(one, x, top + row * (i + 0.5))));
  view.svg.setAttribute("height", height);
  view.svg.replaceChildren(...nodes);
  view.svg.setAttribute("aria-label", `Accuracy per set. ${view.rows.map(auditWords).join("; ")}.`);
  view.key.replaceChildren(...auditKey(view.rows, fresh));
}

function auditAxis(view, x, base) {
  const nodes = [];
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    nodes.push(draw("line", { x1: x(share), x2: x(share), y1: AUDIT.top, y2: base, class: "lp-grid" }));
    nodes.push(draw("text", { x: x(share), y: base + 16, "text-anchor": "middle", class: "lp-tick" }, `${100 * share}${share === 1 ? " %" : ""}`));
  }
  return nodes;
}

function freshLine(at, base, width) {
  const words = "its own accuracy on fresh items", side = at > width / 2 ? ["end", -5] : ["start", 5];
  const line = draw("line", { x1: at, x2: at, y1: 6, y2: base, class: "lp-fresh-line" });
  return [line, draw("text", { x: at + side[1], y: 15, "text-anchor": side[0], class: "lp-tick" }, words)];
}

function auditRow(row, x, y) {
  const nodes = [draw("text", { x: AUDIT.left - 12, y: y + 4, "text-anchor": "end", class: "lp-audit-set" }, shown(row.set, 14))];
  const spread = row.after || row.before;
  if (row.after) nodes.push(draw("line", { x1: x(row.before.value), x2: x(row.after.value), y1: y, y2: y, class: "lp-audit-way" }));
  nodes.push(draw("path", { d: `M${x(spread.low)} ${y - 4}v8M${x(spread.low)} ${y}H${x(spread.high)}M${x(spread.high)} ${y - 4}v8`, class: "lp-audit-spread" }));
  row.random.forEach((share) => nodes.push(draw("circle", { cx: x(share), cy: y - 9, r: 3, class: "lp-audit-random" })));
  nodes.push(draw("circle", { cx: x(row.before.value), cy: y, r: 6.5, class: "lp-audit-before" }));
  if (row.after) nodes.push(draw("circle", { cx: x(row.after.value), cy: y, r: 4, class: "lp-audit-after" }));
  return nodes;
}

function auditKey(rows, fresh) {
  const marks = [["lp-audit-before", 6, "before"]];
  if (rows.some((row) => row.after)) marks.push(["lp-audit-after", 4, "patched, with its 95 % interval"]);
  if (rows.some((row) => row.random.length)) marks.push(["lp-audit-random", 3, "as many random neurons"]);
  const items = marks.map(([name, r, says]) => auditItem(draw("circle", { cx: 8, cy: 8, r, class: name }), says));
  return fresh ? [...items, auditItem(draw("path", { d: "M8 0V16", class: "lp-fresh-line" }), "own fresh accuracy")] : items;
}

function auditItem(mark, says) {
  const item = make("li"), icon = draw("svg", { width: 16, height: 16, "aria-hidden": "true" });
  icon.append(mark);
  item.append(icon, make("span", "", says));
  return item;
}

function readAudit(view, y) {
  const row = y === null ? undefined : view.rows[Math.floor((y - AUDIT.top) / AUDIT.row)];
  view.readout.textContent = row ? auditWords(row) : "";
}

function choiceNode(pair) {
  const node = make("span", "lp-mono");
  node.append(...(pair[1] ? pieces(pair[1]) : [make("span", "lp-unseen", "end")]));
  return node;
}

function patchFacts(add, lane, token) {
  const { own, source_top: top, kl, logprobs } = token.detail || {};
  if (!top) return;
  if (token.source !== "prefix") add("unpatched it says", own ? choiceNode(own) : "the same");
  add("the source says", top[0] === token.id ? "the same" : choiceNode(top));
  if (typeof kl === "number") add("moved by", `${kl.toFixed(kl < 0.01 ? 4 : 2)} nats`);
  const told = ["own", "patched", "source"].filter((name) => typeof (logprobs || {})[name] === "number");
  if (told.length) add("p of this token", told.map((name) => `${name === "own" ? "unpatched" : name} ${probability(Math.exp(logprobs[name]))}`).join(", "));
}

VIEWS.push(newAuditPicture);
CARD_FACTS.push(patchFacts);
