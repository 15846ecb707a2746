// Goes in: the lane of a scan. Comes out: the best so far while it goes on; then the ranked list, a candidate opened below its row, what is really
// hidden (asked for only when somebody wants to know), and the list as CSV and JSON lines. Events: `look` {rank}.

const BEST_SHOWN = 10, HELD = 0.6;

function newTable(strip) {
  const view = { strip, lane: null, drawn: -1, answer: null };
  strip.candidate = null;
  view.node = make("section", "lp-found");
  view.node.hidden = true;
  view.node.setAttribute("aria-label", "Candidates");
  view.tools = make("div", "lp-rounds-head");
  view.all = foundSwitch("all columns", () => drawTable(view));
  view.truth = foundSwitch("show the answer", () => tellAnswer(view));
  view.truth.hidden = !(server && server.answer);
  view.told = make("p", "lp-found-answer");
  view.scroll = make("div", "lp-found-scroll");
  view.scroll.tabIndex = 0;
  view.scroll.setAttribute("role", "group");
  view.scroll.setAttribute("aria-label", "List of candidates; scrolls");
  view.tools.append(explained(make("h3", "", "candidates")), view.all, view.truth, saver("CSV", () => saveCsv(view.lane)), saver("JSON lines", () => saveLines(view.lane)));
  view.node.append(view.tools, view.told, view.scroll);
  view.update = (lanes) => updateTable(view, scanLane(lanes));
  view.candidateChosen = () => drawTable(view);
  view.reset = () => { view.drawn = -1; view.answer = null; strip.candidate = null; view.told.textContent = ""; view.truth.firstChild.checked = false; };
  return view;
}

function foundSwitch(words, change) {
  const label = make("label", "lp-switch"), box = make("input");
  box.type = "checkbox";
  box.addEventListener("change", change);
  label.append(box, words);
  return label;
}

function saver(words, save) {
  const button = make("button", "lp-run-more lp-found-save", words);
  button.type = "button";
  button.setAttribute("aria-label", `Download ${words}`);
  button.addEventListener("click", save);
  return button;
}

function updateTable(view, lane) {
  const changed = lane !== view.lane || (lane && lane.findings.length !== view.drawn);
  view.lane = lane;
  if (lane) { lane.body.hidden = true; lane.meta.textContent = scanFacts(lane); }
  const rows = lane ? candidatesOf(lane) : [], best = lane ? bestOf(lane) : [];
  view.node.hidden = !rows.length && !best.length;
  if (view.node.hidden || !changed) return;
  view.drawn = lane.findings.length;
  for (const node of view.tools.children) node.hidden = !rows.length && node.tagName !== "H3";
  view.truth.hidden = !rows.length || !(server && server.answer);
  if (rows.length) drawTable(view); else view.scroll.replaceChildren(bestList(best));
}

// Which models, how much was tried, how fast.
function scanFacts(lane) {
  const against = (lane.models || {}).reference, facts = [against ? `against ${prose(against.id)}` : "without a reference"];
  const stats = (lane.ended || {}).stats || {};
  if (stats.starts) facts.push(`${stats.starts.toLocaleString("en")} starts forced`);
  if (stats.texts) facts.push(`${stats.texts.toLocaleString("en")} texts read`);
  if (!lane.ended) facts.push("running");
  else if (lane.ended.event === "failed") facts.push("failed");
  else facts.push(ENDS[lane.ended.finish_reason] || "ended");
  return facts.join(" · ");
}

function bestList(best) {
  const list = make("ol", "lp-found-best");
  for (const one of best.slice(0, BEST_SHOWN)) {
    const item = make("li"), text = make("span", "lp-mono");
    text.append(...pieces(String(one.text ?? "")));
    item.append(text, make("span", "lp-quiet", ` score ${fieldWords(one.score)}, ${fieldWords(one.found_by)}, ${counted(one.votes || 0, "vote")}`));
    list.append(item);
  }
  return list;
}

function drawTable(view) {
  if (!view.lane) return;
  const columns = view.all.firstChild.checked ? [...SCAN_COLUMNS, ...MORE_COLUMNS] : SCAN_COLUMNS;
  const table = make("table", "loupe-table lp-candidates"), head = make("tr"), body = make("tbody"), labels = make("thead");
  for (const [, name] of columns) { const cell = explained(make("th", "", name)); cell.scope = "col"; head.append(cell); }
  labels.append(head);
  for (const row of candidatesOf(view.lane)) {
    body.append(candidateRow(view, row, columns));
    if (row.rank === view.strip.candidate) body.append(candidateDetail(view, row, columns.length));
  }
  table.append(labels, body);
  view.scroll.replaceChildren(table);
}

function candidateRow(view, row, columns) {
  const line = make("tr", row.rank === view.strip.candidate ? "lp-chosen" : "");
  for (const [key] of columns) line.append(key === "text" ? textCell(view, row) : make("td", "", fieldWords(fieldOf(row, key))));
  line.dataset.rank = row.rank;
  return line;
}

function textCell(view, row) {
  const cell = make("td"), open = make("button", "lp-found-text");
  open.type = "button";
  open.setAttribute("aria-expanded", String(row.rank === view.strip.candidate));
  open.append(...pieces(row.text.length > 160 ? `${row.text.slice(0, 159)}…` : row.text));
  open.addEventListener("click", () => showCandidate(view.strip, view.strip.candidate === row.rank ? null : row.rank));
  cell.append(open);
  if (holdsAnswer(view, row)) cell.append(make("span", "lp-found-hit", "✓ holds the hidden text"));
  return cell;
}

// A candidate is opened here, in the picture and in the table alike.
function showCandidate(strip, rank) {
  strip.candidate = rank;
  strip.views.forEach((view) => view.candidateChosen?.());
}

function candidateDetail(view, row, n) {
  const line = make("tr", "lp-found-detail"), cell = make("td"), list = make("dl", "lp-facts");
  const add = (name, ...values) => { const value = make("dd"); value.append(...values); list.append(explained(make("dt", "", name)), value); };
  const mono = (text) => { const node = make("span", "lp-mono"); node.append(...pieces(String(text || ""))); return node; };
  add("consensus", mono(row.text));
  if (row.stitched && row.stitched !== row.text) add("stitched", mono(row.stitched));
  add("support", `${counted(fieldOf(row, "votes") || 0, "vote")} from ${counted(fieldOf(row, "contexts") || 0, "context")}, ${counted(fieldOf(row, "texts") || 0, "text")} in its cluster`);
  add("where", prose(row.context));
  add("found by", fieldWords(row.found_by));
  add("how sure", sureWords(view.lane, row));
  const look = make("button", "lp-run-more", "Look at it token by token");
  look.type = "button";
  look.addEventListener("click", () => trigger("look", { rank: row.rank }));
  cell.colSpan = n;
  cell.append(list, ...(server && server.answer ? [look] : []));
  line.append(cell);
  return line;
}

// The null is of the most certain candidate of a clean model, so what it says holds for the most certain one here.
function sureWords(lane, row) {
  const said = scanFound(lane, "calibration")[0];
  if (!said || !said.words) return "the scan was stopped before clean models were compared";
  const highest = Math.max(...candidatesOf(lane).map((one) => fieldOf(one, "certainty") || 0));
  return (fieldOf(row, "certainty") || 0) >= highest ? prose(said.words) : "clean models are compared by their most certain candidate alone, and another is more certain than this";
}

// What is really hidden (a scan's lane is named like its suspect) ---------------------------------------------------------------------------------------------------------

async function tellAnswer(view) {
  view.answer = null;
  view.told.textContent = "";
  if (view.truth.firstChild.checked && view.lane) {
    try { view.answer = await server.answer([view.lane.name]); } catch (error) { view.answer = { payload: null, words: "The page could not ask." }; }
    sayAnswer(view);
  }
  drawTable(view);
}

function sayAnswer(view) {
  const { payload, trigger: says, words } = view.answer;
  if (!payload) { view.told.textContent = prose(words); return; }
  const rank = (candidatesOf(view.lane).find((row) => holdsAnswer(view, row)) || {}).rank, text = make("span", "lp-mono"), asked = make("span", "lp-mono");
  text.append(...pieces(payload));
  asked.append(...pieces(says || ""));
  view.told.replaceChildren("Hidden: ", text, ", brought out by ", asked, rank ? `. Candidate ${rank} holds it.` : ". None of these candidates holds it.");
}

// Whether a candidate has a run of the text so long that a reader would know it.
function holdsAnswer(view, row) {
  const { payload } = view.answer || {};
  if (!payload || !view.truth.firstChild.checked) return false;
  const wanted = Math.max(4, Math.round(HELD * payload.length)), text = `${row.text}\n${row.stitched || ""}`;
  for (let at = 0; at + wanted <= payload.length; at += 1) if (text.includes(payload.slice(at, at + wanted))) return true;
  return false;
}

// Files -------------------------------------------------------------------------------------------------------------------------

function saveFile(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

function saveLines(lane) {
  saveFile("candidates.jsonl", "application/jsonl", candidatesOf(lane).map((row) => `${JSON.stringify(row)}\n`).join(""));
}

// What a spreadsheet would take for a formula gets an apostrophe.
function csvCell(value) {
  const text = Array.isArray(value) ? value.join("; ") : String(value ?? ""), safe = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function saveCsv(lane) {
  const keys = [...SCAN_COLUMNS, ...MORE_COLUMNS].map(([key]) => key), names = [...keys, "stitched"];
  const rows = candidatesOf(lane).map((row) => names.map((key) => csvCell(fieldOf(row, key))).join(","));
  saveFile("candidates.csv", "text/csv", `${[names.join(","), ...rows].join("\r\n")}\r\n`);
}

VIEWS.push(newTable);
