// Goes in: {"runs", "public", "sentence", "basis", "columns"} or {"error"} as JSON (props.value). Comes out: which runs, a sentence, a picture, one
// column in figures, the aligned strips; an event `choose` {runs}. All texts are set as texts. Doesn't know methods, models or the store.

const THERE = new URL(window.location.href);

function newComparison() {
  const page = { value: {}, begun: false };
  page.runs = make("ol", "lp-cmp-runs");
  page.verdict = make("p", "lp-verdict loupe-verdict");
  page.note = make("p", "lp-sub loupe-sub");
  page.acts = make("div", "lp-cmp-acts");
  page.place = make("span", "lp-quiet");
  page.place.setAttribute("aria-live", "polite");
  page.here = make("div", "lp-cmp-here");
  page.copied = make("input", "lp-cmp-link");
  page.copied.readOnly = true;
  page.copied.hidden = true;
  page.copied.setAttribute("aria-label", "Link to this comparison");
  const select = (i) => { select.begun = true; showColumn(page, i); };
  page.strips = newStrips(select);
  page.picture = newComparePicture((i) => goTo(page.strips, i, page.strips.at?.run ?? 0), (i) => pointAt(page.picture, i));
  page.walk = [button("Previous difference", () => jump(page.strips, -1)), button("Next difference", () => jump(page.strips, 1))];
  page.copy = button("Copy link", () => copyLink(page));
  page.acts.append(...page.walk, page.place, page.copy, page.copied);
  page.strips.node.addEventListener("pointerover", (event) => {
    const cell = event.target.closest(".lp-d");
    pointAt(page.picture, cell ? Number(cell.dataset.i) : null);
  });
  page.strips.node.addEventListener("pointerleave", () => pointAt(page.picture, null));
  return page;
}

function button(words, act) {
  const node = make("button", "lp-what-if", words);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

function showComparison(page, value) {
  page.value = value;
  page.strips.select.begun = false;
  const columns = value.columns || [], runs = value.runs || [];
  page.runs.replaceChildren(...runs.map((run, i) => runNode(page, run, i)));
  page.verdict.replaceChildren(...sentenceNodes(value.sentence || value.error || ""));
  page.verdict.classList.toggle("lp-long", (value.sentence || "").length > 200);
  page.note.textContent = noteOf(value);
  showCharts(page.picture, columns, runs.length);
  showStrips(page.strips, columns, runs.length);
  const n = page.strips.stops.length;
  page.walk.forEach((one) => { one.hidden = !n; });
  page.copy.hidden = runs.length < 2;
  page.copied.hidden = true;
  page.place.textContent = n ? counted(n, "difference") : "";
  page.here.replaceChildren();
  page.here.hidden = true;
  if (runs.length && value.columns !== undefined) keepAddress(runs);
}

// What is bold: the first few words, as everywhere.
function sentenceNodes(text) {
  const words = prose(text), lead = words.match(/^[^.]{1,45}\.(?=\s|$)/);
  return lead ? [make("strong", "", lead[0]), words.slice(lead[0].length)] : [words];
}

function noteOf({ columns, basis }) {
  if (!columns || !columns.length) return "";
  return basis === "texts" ? "Nothing shows that these models mean the same by a token id, so texts are compared." : "";
}

function when(at) {
  const date = new Date(at);
  if (Number.isNaN(date.valueOf())) return at;
  return date.toLocaleString([], at.length > 10 ? { dateStyle: "medium", timeStyle: "short" } : { dateStyle: "medium" });
}

function runNode(page, run, i) {
  const node = make("li", "lp-cmp-run"), head = make("p", "lp-cmp-name"), acts = make("p", "lp-cmp-run-acts");
  const name = make(run.page ? "a" : "span", "", prose(run.name));
  if (run.page) name.href = run.page;
  head.append(key(i), make("span", "lp-cmp-number", `${i + 1}`), name);
  if (i) acts.append(button("Make it run 1", () => choose([run.id, ...others(page, i)])));
  if (page.value.runs.length > 2) acts.append(button("Remove", () => choose(others(page, i))));
  for (const act of acts.children) act.setAttribute("aria-label", `${act.textContent}: run ${i + 1}, ${prose(run.name)}`);
  node.append(head, make("p", "lp-quiet", [...run.facts, when(run.at)].filter(Boolean).map(prose).join(" · ")), acts);
  if (!i || run.prompt !== page.value.runs[0].prompt) acts.before(make("p", "lp-cmp-prompt", prose(run.prompt)));
  return node;
}

function others(page, i) {
  return page.value.runs.map((run) => run.id).filter((_, place) => place !== i);
}

function choose(runs) {
  trigger("choose", { runs });
}

// The line that a run has in the picture.
function key(i) {
  const svg = svgNode("svg", { width: 28, height: 10, "aria-hidden": "true" });
  svg.append(svgNode("path", { d: "M1 5H27", class: `lp-stair lp-lane-${i}` }));
  return svg;
}

function showColumn(page, i) {
  const column = page.value.columns[i], stop = page.strips.stops.findLastIndex((from) => from <= i), differs = column.parts.includes(true);
  const body = make("tbody");
  column.tokens.forEach((cell, run) => body.append(columnRow(page, cell, run, column.parts[run])));
  const head = make("thead"), names = make("tr");
  for (const name of ["run", "token", "id", "p", "who chose", "at, s"]) { const cell = make("th", "", name); cell.scope = "col"; names.append(cell); }
  head.append(names);
  const table = make("table", "loupe-table");
  table.append(head, body);
  page.here.replaceChildren(table);
  page.here.hidden = false;
  page.place.textContent = differs ? `difference ${stop + 1} of ${page.strips.stops.length}` : counted(page.strips.stops.length, "difference");
  pointAt(page.picture, i);
}

function columnRow(page, cell, run, parts) {
  const row = make("tr"), text = make("td", "lp-mono"), words = make("span", parts ? "lp-d-parts" : "");
  row.append(make("td", "", `${run + 1} ${prose(page.value.runs[run].name)}`), text);
  if (cell) words.append(...cellPieces(cell)); else words.append("–");
  text.append(words);
  const facts = cell ? [String(cell.id), typeof cell.logprob === "number" ? probability(Math.exp(cell.logprob)) : "–", marksOf(cell)[0], typeof cell.ms === "number" ? (cell.ms / 1000).toFixed(3) : "–"] : ["", "", "", ""];
  row.append(...facts.map((fact) => make("td", "", fact)));
  return row;
}

// The address that opens this comparison: for everybody where all its runs are shared or ship, else for whoever has them.
function addressOf(ids) {
  const there = new URL("compare", THERE);
  there.searchParams.set("runs", ids.join(","));
  return there.href.replaceAll("%2C", ",");
}

function keepAddress(runs) {
  const there = new URL(window.location.href);
  const asked = (there.searchParams.get("runs") || "").split(",").filter(Boolean), own = runs.map((run) => run.id);
  if (!asked.length && runs.every((run) => !run.page)) return;  // the recording that an empty page opens on
  if (asked.join() === own.join()) return;
  there.searchParams.set("runs", own.join(","));
  window.history.replaceState(null, "", there.href.replaceAll("%2C", ","));
}

async function copyLink(page) {
  const open = Boolean(page.value.public), link = addressOf(page.value.public || page.value.runs.map((run) => run.id));
  page.copied.value = link;
  page.copied.hidden = false;
  page.copied.select();
  let said = "copied";
  try { await navigator.clipboard.writeText(link); } catch (error) { said = "copy it from here"; }
  page.place.textContent = open ? said : `${said}; it opens for you alone: share the runs in History and it opens for everybody`;
}

const page = newComparison();
const root = element.querySelector(".lp-cmp");
root.append(page.runs, page.verdict, page.note, page.picture.node, page.acts, page.here, page.strips.node);
const update = () => showComparison(page, props.value ? JSON.parse(props.value) : {});
watch("value", update);
update();
