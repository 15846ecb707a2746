// Goes in: aligned columns and how many runs. Comes out: the runs' tokens under each other, line by line, those that part marked, long stretches
// in which all say the same folded. A line without a difference stands there once. One token is in the tab order; arrows walk, N and P jump to the next and the last difference.
// Doesn't know the picture or what stands around it. Columns are placed by a grid, so wide letters can't push a line out of step.

const FOLD = { least: 60, kept: 20 };  // a stretch of at least so many is folded but for its ends
const LEAST_WIDE = 24;  // characters of a line on the smallest screen

function newStrips(select) {
  const strips = { columns: [], runs: 0, at: null, wide: 0, unfolded: false, nodes: new Map(), select };
  strips.node = make("div", "lp-cmp-strips");
  strips.node.setAttribute("role", "toolbar");
  strips.node.setAttribute("aria-label", "Aligned tokens, run 1 on top. Arrow keys walk, N goes to the next difference, P to the previous one.");
  strips.ruler = make("span", "lp-cmp-ruler", "m".repeat(40));
  strips.lines = make("div", "lp-cmp-lines");
  strips.node.append(strips.ruler, strips.lines);
  new ResizeObserver(() => {
    const wide = roomOf(strips);
    if (wide !== strips.wide) layOut(strips);
  }).observe(strips.node);
  strips.node.addEventListener("click", (event) => {
    const cell = event.target.closest(".lp-d");
    if (cell) goTo(strips, Number(cell.dataset.i), Number(cell.dataset.run));
  });
  strips.node.addEventListener("keydown", (event) => walked(strips, event));
  return strips;
}

function showStrips(strips, columns, runs) {
  Object.assign(strips, { columns, runs, at: null, unfolded: false });
  strips.stops = stretches(columns).map(([from]) => from);
  strips.node.hidden = !columns.length;
  layOut(strips);
}

function roomOf(strips) {
  const one = strips.ruler.getBoundingClientRect().width / 40;
  return one ? Math.max(LEAST_WIDE, Math.floor(strips.node.clientWidth / one) - 5) : 0;
}

// Which columns stand on the page: all, or all but the middle of long stretches that say the same. An item is a column or [from, to).
function unfoldedItems(strips) {
  const items = strips.columns.map((_, i) => i);
  if (strips.unfolded || !strips.stops.length) return items;
  const kept = [];
  let from = 0;
  for (const [start, end] of [...stretches(strips.columns), [items.length, items.length]]) {
    const first = from ? from + FOLD.kept : 0, last = start === items.length ? start : start - FOLD.kept;
    if (start - from >= FOLD.least) kept.push(...items.slice(from, first), [first, last], ...items.slice(last, start));
    else kept.push(...items.slice(from, start));
    kept.push(...items.slice(start, end));
    from = end;
  }
  return kept;
}

function layOut(strips) {
  strips.wide = roomOf(strips);
  if (!strips.wide) return;
  strips.nodes.clear();
  strips.lines.replaceChildren(...linesOf(strips).map((line) => (line.folded ? foldNode(strips, line.folded) : lineNode(strips, line))));
  const at = strips.at || { i: strips.stops[0] ?? 0, run: 0 };
  strips.at = at;
  const stop = strips.nodes.get(`${at.i}:${at.run}`);
  if (stop) stop.tabIndex = 0;
}

// Columns in lines that fit; a line also ends where the text of the first run that stands there does.
function linesOf(strips) {
  const lines = [];
  let line = [], used = 0;
  const end = () => { if (line.length) lines.push(line); line = []; used = 0; };
  for (const item of unfoldedItems(strips)) {
    if (Array.isArray(item)) { end(); lines.push({ folded: item }); continue; }
    const cells = strips.columns[item].tokens, wide = Math.max(...cells.map(cellWidth));
    if (line.length && used + wide > strips.wide) end();
    line.push(item);
    used += wide;
    if ((cells.find(Boolean)?.text || "").includes("\n")) end();
  }
  end();
  return lines;
}

// About how many characters a token takes; the grid mends what this gets wrong.
function cellWidth(cell) {
  if (!cell) return 1;
  if (!cell.text) return 4;
  let wide = 0;
  for (const c of cell.text) wide += UNSEEN.test(c) && !VISIBLE_BLANKS[c] ? 5 : c > "\u2e7f" ? 2 : 1;
  return wide;
}

function foldNode(strips, [from, to]) {
  const button = make("button", "lp-more lp-cmp-fold", `… ${counted(to - from, "token")} the same in all runs`);
  button.type = "button";
  button.addEventListener("click", () => { strips.unfolded = true; layOut(strips); });
  return button;
}

function lineNode(strips, items) {
  const once = items.every((i) => alike(strips.columns[i])), node = make("div", `lp-cmp-row${once ? " lp-cmp-once" : ""}`);
  node.style.gridTemplateColumns = `4ch repeat(${items.length}, max-content)`;
  for (let run = 0; run < (once ? 1 : strips.runs); run += 1) {
    const name = make("span", "lp-cmp-gutter", once ? `1–${strips.runs}` : String(run + 1));
    name.setAttribute("aria-hidden", "true");
    node.append(name, ...items.map((i) => cellNode(strips, i, run, once)));
  }
  return node;
}

function alike({ tokens }) {
  return tokens.every((cell) => cell && cell.text === tokens[0]?.text && cell.id === tokens[0].id);
}

// A token's text; what has none says whether it is the end or a part of a character.
function cellPieces(cell) {
  return tokenPieces({ text: cell.text, detail: { end: cell.ends } });
}

// What a screen reader says of a token: blanks before it by name, then what is seen, word for word.
function saidAs(cell, node) {
  const seen = node.textContent.trim(), blanks = cell.text.match(/^[ \n\t]*/)[0];
  return seen ? [blanks ? spoken(blanks) : "", seen].filter(Boolean).join(" ") : spoken(cell.text);
}

function cellNode(strips, i, run, once) {
  const column = strips.columns[i], cell = column.tokens[run], parts = column.parts[run];
  const node = make("span", `lp-d${parts ? " lp-d-parts" : ""}${cell ? "" : " lp-d-none"}`);
  if (cell) node.append(...cellPieces(cell));
  node.setAttribute("role", "button");
  node.setAttribute("aria-label", `${once ? "All runs" : `Run ${run + 1}`}, ${cell ? saidAs(cell, node) : "nothing"}${parts ? ", differs" : ""}`);
  node.tabIndex = -1;
  Object.assign(node.dataset, { i, run });
  for (let of = once ? 0 : run; of <= (once ? strips.runs - 1 : run); of += 1) strips.nodes.set(`${i}:${of}`, node);
  return node;
}

// Go to a column, unfolding what hides it; the page's focus goes along.
function goTo(strips, i, run, focus = true) {
  if (!strips.nodes.has(`${i}:${run}`)) { strips.unfolded = true; layOut(strips); }
  const before = strips.nodes.get(`${strips.at?.i}:${strips.at?.run}`), node = strips.nodes.get(`${i}:${run}`);
  if (!node) return;
  if (before) { before.tabIndex = -1; before.removeAttribute("aria-current"); }
  strips.at = { i, run };
  node.tabIndex = 0;
  node.setAttribute("aria-current", "true");
  if (focus) { node.focus({ preventScroll: true }); node.scrollIntoView({ block: "nearest", inline: "nearest" }); }
  strips.select(i);
}

// The next stretch that differs (`way` 1) or the one before (-1); at the end it begins again.
function jump(strips, way) {
  if (!strips.stops.length) return;
  const here = strips.select.begun ? strips.at.i : way > 0 ? -1 : strips.columns.length;
  const later = way > 0 ? strips.stops.find((i) => i > here) : strips.stops.findLast((i) => i < here);
  goTo(strips, later ?? (way > 0 ? strips.stops[0] : strips.stops[strips.stops.length - 1]), strips.at.run);
}

const MOVES = {
  ArrowLeft: ({ i, run }) => [i - 1, run],
  ArrowRight: ({ i, run }) => [i + 1, run],
  ArrowUp: ({ i, run }) => [i, run - 1],
  ArrowDown: ({ i, run }) => [i, run + 1],
  Home: ({ run }) => [0, run],
  End: ({ run }) => [Infinity, run],
};

function walked(strips, event) {
  if (!event.target.classList.contains("lp-d") || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase(), way = { n: 1, p: -1 }[key];
  const move = Object.hasOwn(MOVES, event.key) ? MOVES[event.key](strips.at) : event.key === "Enter" || event.key === " " ? [strips.at.i, strips.at.run] : null;
  if (!way && !move) return;
  event.preventDefault();
  if (way) { jump(strips, way); return; }
  const [i, run] = move;
  if (run >= 0 && run < strips.runs) goTo(strips, Math.min(Math.max(i, 0), strips.columns.length - 1), run);
}
