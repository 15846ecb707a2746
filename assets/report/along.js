// Goes in: the lines of a run. Comes out: how sure its model was along each lane's text, a line a lane: token position against minus the
// log-probability. Colour is never alone: each lane has its dashes and its name. Doesn't know methods.

const ALONG = { width: 1020, height: 190, left: 34, right: 8, top: 12, base: 158 };

function drawn(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function lanesOf(lines) {
  const lanes = [];
  for (const event of lines.map((line) => JSON.parse(line))) {
    if (event.event === "started") lanes.push({ name: prose(event.lane || event.method), tokens: [] });
    else if (event.event === "token" && lanes.length) lanes[lanes.length - 1].tokens.push(event);
  }
  return lanes.filter(({ tokens }) => tokens.length > 1);
}

function along(id, lines) {
  const lanes = lanesOf(lines), place = document.getElementById(id);
  if (!lanes.length) { place.remove(); return; }
  const caption = make("figcaption", "lp-caption", "how surprised its model was by each token, in nats (0: certain of it)"), frame = make("div", "lp-frame");
  const svg = drawn("svg", { viewBox: `0 0 ${ALONG.width} ${ALONG.height}`, width: "100%", role: "img" }), key = make("ul", "lp-legend lp-stairs-key");
  const most = Math.max(1, ...lanes.flatMap(({ tokens }) => tokens.map(nats))), longest = Math.max(...lanes.map(({ tokens }) => tokens.length));
  const scale = { x: (i) => ALONG.left + (i / (longest - 1)) * (ALONG.width - ALONG.left - ALONG.right), y: (value) => ALONG.base - (value / most) * (ALONG.base - ALONG.top) };
  svg.append(...alongAxes(scale, most, longest), ...lanes.map((lane, i) => alongLane(lane, i, scale)));
  svg.setAttribute("aria-label", `Surprise along the text. ${lanes.map(alongWords).join("; ")}.`);
  key.append(...lanes.map(alongItem));
  frame.append(svg);
  scrolls(frame, "Surprise along the text");
  place.append(caption, frame, key);
}

function nats(token) {
  return typeof token.logprob === "number" ? Math.max(0, -token.logprob) : 0;
}

function alongAxes(scale, most, longest) {
  const nodes = [];
  for (const share of [0, 0.5, 1]) {
    const y = scale.y(most * share);
    nodes.push(drawn("line", { x1: ALONG.left, x2: ALONG.width - ALONG.right, y1: y, y2: y, class: share ? "lp-grid" : "lp-base" }));
    nodes.push(drawn("text", { x: ALONG.left - 6, y: y + 4, "text-anchor": "end", class: "lp-tick" }, String(Number((most * share).toPrecision(2)))));
  }
  nodes.push(drawn("text", { x: ALONG.left, y: ALONG.base + 19, class: "lp-tick" }, "token 0"));
  nodes.push(drawn("text", { x: ALONG.width - ALONG.right, y: ALONG.base + 19, "text-anchor": "end", class: "lp-tick" }, String(longest - 1)));
  return nodes;
}

function alongLane({ tokens }, i, scale) {
  const path = tokens.map((token, n) => `${n ? "L" : "M"}${scale.x(n).toFixed(1)} ${scale.y(nats(token)).toFixed(1)}`).join("");
  return drawn("path", { d: path, class: `lp-stair lp-lane-${i % 6}` });
}

function alongWords({ name, tokens }) {
  const mean = tokens.reduce((sum, token) => sum + nats(token), 0) / tokens.length;
  return `${name}: ${mean.toFixed(2)} nats a token on average`;
}

function alongItem(lane, i) {
  const item = make("li"), line = drawn("svg", { width: 26, height: 10, "aria-hidden": "true" });
  line.append(drawn("path", { d: "M0 5H26", class: `lp-stair lp-lane-${i % 6}` }));
  item.append(line, make("span", "", alongWords(lane)));
  return item;
}
