// Goes in: one round and its lane. Comes out: its draft as a tree, left to right: the token, the target's p and the drafter's confidence,
// the accepted path bold, the refused token struck. Drawn in real pixels inside a box that scrolls.

const BRANCH = { column: 132, row: 26, left: 6, top: 18, box: 120 };

// Where each node stands: its depth, and a row that its first child shares, so that a chain lies flat.
function treePlaces(parents) {
  const children = parents.map(() => []), roots = [];
  parents.forEach((parent, i) => (parent < 0 ? roots : children[parent]).push(i));
  const places = new Array(parents.length);
  let row = 0;
  const put = (node, depth) => {
    places[node] = { depth, row };
    children[node].forEach((child, n) => { if (n) row += 1; put(child, depth + 1); });
  };
  roots.forEach((node, n) => { if (n) row += 1; put(node, 1); });
  return places;
}

function newTree() {
  const view = { node: make("div", "lp-tree") };
  view.node.tabIndex = 0;
  view.node.setAttribute("role", "group");
  return view;
}

function drawTree(view, lane, round) {
  const places = treePlaces(round.parents), path = new Set(round.path || []);
  const extra = lane.tokens.find((token) => (token.detail || {}).round === round.index && token.source !== "draft");
  const before = lane.tokens[round.position - 1], nodes = [];
  const last = (round.path || []).length ? places[round.path[round.path.length - 1]] : { depth: 0, row: 0 };
  const rows = Math.max(0, ...places.map((place) => place.row)) + (extra ? 2 : 1), depth = Math.max(last.depth + 1, ...places.map((place) => place.depth));
  nodes.push(treeBox({ depth: 0, row: 0 }, before ? before.text : "", "", "lp-node-root", before ? "the token before this round" : "the prompt's end"));
  round.drafted.forEach((entry, i) => {
    const from = round.parents[i] < 0 ? { depth: 0, row: 0 } : places[round.parents[i]];
    nodes.unshift(treeEdge(from, places[i], path.has(i)));
    nodes.push(treeBox(places[i], entry[1], nodeNumbers(entry), nodeClass(round, path, i), nodeWords(round, path, i)));
  });
  if (extra) {
    const place = { depth: last.depth + 1, row: rows - 1 };
    nodes.unshift(treeEdge(last, place, false, "lp-edge-extra"));
    nodes.push(treeBox(place, extra.text || "", "", `lp-node-extra lp-node-${markOf(extra)}`, `written by the target: ${MARKS[markOf(extra)][0]}`));
  }
  const svg = draw("svg", { width: BRANCH.left + (depth + 1) * BRANCH.column, height: BRANCH.top + rows * BRANCH.row, role: "img" });
  svg.setAttribute("aria-label", treeWords(round));
  svg.append(...nodes);
  view.node.setAttribute("aria-label", `Tree of round ${round.index}; scrolls`);
  view.node.replaceChildren(svg);
}

function placeX(place) { return BRANCH.left + place.depth * BRANCH.column; }
function placeY(place) { return BRANCH.top + place.row * BRANCH.row; }

function treeEdge(from, to, on, more = "") {
  const x = placeX(from) + BRANCH.box, y = placeY(from) - 4, far = placeX(to), low = placeY(to) - 4, middle = (x + far) / 2;
  return draw("path", { d: `M${x} ${y}C${middle} ${y} ${middle} ${low} ${far} ${low}`, class: `lp-edge ${on ? "lp-edge-on" : ""} ${more}` });
}

function treeBox(place, text, numbers, name, title) {
  const group = draw("g", { class: `lp-node ${name}`, transform: `translate(${placeX(place)} ${placeY(place)})` });
  group.append(draw("title", {}, `${shown(text || "")} · ${title}`));
  group.append(draw("rect", { x: 0, y: -15, width: BRANCH.box, height: 21, rx: 3 }));
  group.append(draw("text", { x: 6, y: 0, class: "lp-node-text" }, shown(text || "…", numbers ? 8 : 13)));
  if (numbers) group.append(draw("text", { x: BRANCH.box - 6, y: 0, "text-anchor": "end", class: "lp-node-numbers" }, numbers));
  return group;
}

function short(p) {
  return typeof p !== "number" ? "–" : p >= 0.995 ? "1" : p < 0.005 ? "0" : p.toFixed(2).slice(1);
}

function nodeNumbers([, , confidence, p]) {
  return `${short(p)} ${short(confidence)}`;
}

function nodeClass(round, path, i) {
  return path.has(i) ? "lp-node-on" : round.rejected && round.rejected.node === i ? "lp-node-refused" : "";
}

function nodeWords(round, path, i) {
  const [, , confidence, p, by] = round.drafted[i];
  const what = path.has(i) ? "accepted" : round.rejected && round.rejected.node === i ? `refused (${refusedWords(round.rejected)})` : "not reached";
  return [what, by ? `by ${drafterName(by)}` : "", typeof p === "number" ? `p ${probability(p)}` : "", typeof confidence === "number" ? `confidence ${probability(confidence)}` : ""].filter(Boolean).join(" · ");
}

function treeWords(round) {
  const path = (round.path || []).map((i) => spoken(round.drafted[i][1]));
  return `Draft of round ${round.index}: ${counted(round.drafted.length, "node")}, accepted ${path.length ? path.join(", ") : "none"}.`;
}
