// Goes in: one growing string of JSON lines (props.value). Comes out: verdict, picture, one strip a lane, the card of a token.
// Doesn't know models or methods; what a page shows besides comes as views (views.js). Only new complete lines are read, and nodes are only appended; a string that isn't a
// continuation of the last one starts the page's strip afresh. The first lines of this file's tail run once, on load.

const ANNOUNCE_MS = 3000;
const LONG = 260;  // a verdict of more characters than these is set smaller

function newStrip() {
  const strip = { lanes: [], seen: "", verdict: null, recorded: null, imported: null, status: "", unread: 0, at: null, open: null, said: "", timer: null };
  strip.node = make("div", "lp");
  strip.verdictNode = make("p", "lp-verdict loupe-verdict");
  strip.sub = make("p", "lp-sub loupe-sub");
  strip.live = make("p", "lp-live");
  strip.live.setAttribute("aria-live", "polite");
  strip.card = newCard({ inspect: server && server.inspect && ((asked) => server.inspect([...asked, reader(strip)])), close: () => close(strip), branch: (data) => trigger("branch", data), fixed: () => strip.recorded?.event === "shared" });
  strip.picture = newPicture((lane, i) => { setStop(strip, lane.index, i); open(strip); }, (lane, i) => hover(strip, lane, i));
  strip.lanesNode = make("div", "lp-lanes");
  strip.legend = make("ul", "lp-legend");
  strip.legend.setAttribute("aria-label", "What the marks mean");
  const left = make("div", "lp-left"), row = make("div", "lp-row");
  left.append(strip.lanesNode, strip.legend);
  row.append(left, strip.card.node);
  strip.views = VIEWS.map((newView) => newView(strip));
  strip.above = make("div", "lp-above");
  strip.below = make("div", "lp-below");
  strip.node.append(strip.verdictNode, strip.sub, strip.live, strip.picture.node, strip.above, row, strip.below);
  strip.lanesNode.addEventListener("click", (event) => clicked(strip, event));
  strip.lanesNode.addEventListener("pointerover", (event) => overToken(strip, event));
  strip.lanesNode.addEventListener("pointerleave", () => hover(strip, null, null));
  strip.node.addEventListener("keydown", (event) => pressed(strip, event));
  return strip;
}

// Who looks inside a token: who has the link to a shared run, else this browser's visitor.
function reader(strip) {
  return strip.recorded?.share || window.loupeVisitor || "";
}

function reset(strip) {
  Object.assign(strip, { again: null, lanes: [], seen: "", verdict: null, recorded: null, imported: null, clean: null, status: "", unread: 0, at: null });
  close(strip);
  strip.lanesNode.replaceChildren();
  strip.picture.lane = null;
  strip.views.forEach((view) => view.reset?.());
}

// The complete lines that are new. A tail without a line end counts once it parses: no beginning of a JSON object is one.
function newLines(strip, value) {
  if (!value.startsWith(strip.seen)) reset(strip);
  const fresh = value.slice(strip.seen.length), cut = fresh.lastIndexOf("\n") + 1;
  const tail = fresh.slice(cut), whole = tail.trim() && parsed(tail) ? fresh : fresh.slice(0, cut);
  strip.seen += whole;
  return whole.split("\n").filter((line) => line.trim());
}

function parsed(line) {
  try { return JSON.parse(line); } catch (error) { return null; }
}

function update(strip, value) {
  if (value === strip.seen && strip.lanes.length) return;
  strip.views.forEach((view) => view.coming?.());
  for (const line of newLines(strip, value || "")) {
    const event = parsed(line);
    const readers = event && Object.hasOwn(READERS, event.event) ? READERS : MORE_READERS;
    if (event && Object.hasOwn(readers, event.event)) readers[event.event](strip, event);
    else if (!event) strip.unread += 1;
  }
  strip.lanes.forEach(settle);
  if (!strip.at && strip.lanes.some((lane) => lane.nodes.length)) setStop(strip, strip.lanes.findIndex((lane) => lane.nodes.length), 0);
  updatePicture(strip.picture, strip.lanes, strip.lanes[strip.at?.lane]);
  strip.views.forEach((view) => updateView(strip, view));
  strip.lanesNode.classList.toggle("lp-many", strip.lanes.length > 2 && strip.lanes.some((lane) => lane.rounds.length || lane.method === "routing"));
  strip.legend.replaceChildren(...legendFor(strip.lanes));
  tell(strip);
}

// A view that has nothing to show is not on the page at all.
function updateView(strip, view) {
  view.update(strip.lanes, strip.lanes[strip.at?.lane], strip.verdict);
  if (view.node.hidden) view.node.remove();
  else if (!view.node.isConnected) (view.above ? strip.above : strip.below).append(view.node);
}

function lastLane(strip) {
  return strip.lanes[strip.lanes.length - 1];
}

function endLane(strip, event) {
  strip.status = "";
  if (event.event === "failed") strip.failed = event;
  const lane = lastLane(strip);
  if (lane && !lane.ended) { lane.ended = event; if (event.event === "failed") addNote(lane, event.error); }
  else if (event.event === "failed") strip.status = event.error;
}

function notFound(strip, event) {
  const lane = lastLane(strip), data = event.data || {};
  if (!lane) return;
  lane.findings.push(event);
  if (event.kind === "lint") addNote(lane, [data.path, data.keyword, data.effect || data.message].filter(Boolean).join(" · "));
  if (event.kind === "warning" && data.text) addNote(lane, data.text);
}

const READERS = {
  recorded: (strip, event) => { strip.recorded = event; },
  shared: (strip, event) => { strip.recorded = event; },
  imported: (strip, event) => { strip.imported = event; },
  again: (strip, event) => { strip.again = event; },
  clean: (strip, event) => { strip.clean = event; },
  started: (strip, event) => {
    strip.status = "";
    const lane = newLane(event, strip.lanes.length);
    strip.lanes.push(lane);
    strip.lanesNode.append(lane.node);
  },
  token: (strip, event) => { strip.status = ""; if (lastLane(strip)) addToken(lastLane(strip), event); },
  round: (strip, event) => { lastLane(strip)?.rounds.push(event); },
  finding: notFound,
  control: (strip, event) => { lastLane(strip)?.controls.push(event); },
  queued: (strip, event) => { strip.status = event.place > 0 ? `waiting: ${counted(event.place, "run")} before this one` : event.note || "waiting"; },
  progress: (strip, event) => {
    if (lastLane(strip)) lastLane(strip).progress = event;
    const share = event.total ? `${Math.floor((100 * event.done) / event.total)} %` : event.done ? String(event.done) : "";
    strip.status = [event.note || "working", share].filter(Boolean).join(" ");
  },
  done: endLane,
  failed: endLane,
  verdict: (strip, event) => { strip.status = ""; strip.verdict = { ...event, lanes: strip.lanes.length }; },
};

function liveStatus(strip) {
  const lane = lastLane(strip);
  if (strip.status) return strip.status;
  if (!lane) return "Nothing has run here yet.";
  const facts = [counted(lane.tokens.length, "token")], speed = rate(lane);
  if (lane.ended) return endSentence(lane);
  if (speed) facts.push(`${speed.toFixed(1)} tokens/s`);
  if (lane.tokens.length && typeof lane.tokens[0].ms === "number") facts.push(`first token ${(lane.tokens[0].ms / 1000).toFixed(2)} s`);
  const name = strip.lanes.length > 1 ? `${lane.name}: generating` : "generating";
  return lane.tokens.length ? [name, ...facts].join(" · ") : `${lane.name}: reading the prompt`;
}

function endSentence(lane) {
  if (lane.ended.event === "failed") return lane.ended.error || "The run failed.";
  if (!lane.tokens.length && lane.ended.text) return lane.ended.text;  // a job writes no tokens, only what it found
  const stats = lane.ended.stats || {}, how = ENDS[lane.ended.finish_reason] || lane.ended.finish_reason || "ended";
  const valid = stats.valid === true ? "Valid. " : stats.valid === false ? "Not valid. " : "";
  return `${valid}${lane.name}: ${how} after ${counted(lane.tokens.length, "token")}.`;
}

function running(strip) {
  const lane = lastLane(strip);
  return Boolean(strip.status) || Boolean(lane && !lane.ended);
}

// The sentence: the verdict, unless something runs. A lane that came after the verdict (a branch) says below how it ended.
function tell(strip) {
  const busy = running(strip), concluded = strip.verdict && !busy, sentence = prose(concluded ? strip.verdict.sentence : liveStatus(strip));
  const lead = concluded ? sentence.match(/^[^.]{1,24}\.(?=\s|$)/) : null;
  strip.verdictNode.replaceChildren();
  if (lead) strip.verdictNode.append(make("strong", verdictMark(strip.verdict.holds), lead[0]));
  strip.verdictNode.append(lead ? sentence.slice(lead[0].length) : sentence);
  strip.verdictNode.classList.toggle("lp-long", sentence.length > LONG);
  strip.verdictNode.classList.toggle("lp-busy", busy || !strip.lanes.length);
  strip.sub.textContent = subNotes(strip, concluded).filter(Boolean).join(" · ");
  announce(strip, sentence);
}

function subNotes(strip, concluded) {
  const later = concluded && strip.lanes.length > strip.verdict.lanes ? prose(endSentence(lastLane(strip))) : "";
  return [strip.again ? `run again: ${prose(strip.again.sentence)}` : "", recordedNote(strip), importedNote(strip), concluded ? timesNote(strip) : "", later, strip.unread ? `${counted(strip.unread, "line")} could not be read` : ""];
}

function importedNote({ imported }) {
  return imported ? prose(`imported from a file, which says that it ran on ${imported.date || "an unknown day"} on ${imported.device || "an unknown device"}`) : "";
}

// One run against one run proves nothing, so the times are told as this run's and no ratio is made of them.
function timesNote(strip) {
  const told = strip.lanes.slice(0, strip.verdict.lanes).map((lane) => [lane.name, ((lane.ended || {}).stats || {}).ms_per_token]).filter(([, ms]) => typeof ms === "number");
  const times = told.map(([name, ms]) => `${ms.toFixed(ms < 10 ? 1 : 0)} ms ${name}`).join(", ");
  return told.length ? `this run, a token: ${times}${told.length > 1 ? " (Measure gives an interval)" : ""}` : "";
}

function verdictMark(holds) {
  return holds === true ? "lp-holds" : holds === false ? "lp-fails" : "";
}

function recordedNote({ recorded }) {
  if (!recorded) return "";
  if (recorded.event === "shared") return prose(`shared run, made on ${recorded.date || "an unknown day"} with ${recorded.model || "an unknown model"} on ${recorded.device || "an unknown device"}`);
  return ["recorded run", recorded.model, recorded.device, recorded.date].filter(Boolean).map(prose).join(" · ");
}

// A screen reader hears the status at most every three seconds, and always the last one.
function announce(strip, sentence) {
  strip.said = sentence;
  if (strip.timer) return;
  strip.live.textContent = sentence;
  strip.timer = setTimeout(() => {
    strip.timer = null;
    if (strip.live.textContent !== strip.said) announce(strip, strip.said);
  }, ANNOUNCE_MS);
}

function nodeAt(strip, at) {
  return at ? strip.lanes[at.lane]?.nodes[at.i] : undefined;
}

// One token of the whole strip is in the tab order.
function setStop(strip, lane, i) {
  const before = nodeAt(strip, strip.at);
  if (before) before.tabIndex = -1;
  strip.at = { lane, i };
  const node = nodeAt(strip, strip.at);
  if (node) node.tabIndex = 0;
  return node;
}

// An open card follows whoever walks on.
function walk(strip, lane, i) {
  setStop(strip, lane, i).focus();
  if (strip.open) open(strip);
}

function open(strip) {
  const node = nodeAt(strip, strip.at);
  if (!node) return;
  mark(strip, node);
  const lane = strip.lanes[strip.at.lane], token = lane.tokens[strip.at.i];
  showCard(strip.card, lane, token);
  updatePicture(strip.picture, strip.lanes, lane);
  strip.views.forEach((view) => view.opened?.(lane, token));
  trigger("select", { run: lane.run, position: token.position, token_id: token.id, index: token.position, value: token.text });
}

function mark(strip, node) {
  strip.open?.classList.remove("lp-sel");
  strip.open?.removeAttribute("aria-current");
  strip.open = node;
  node?.classList.add("lp-sel");
  node?.setAttribute("aria-current", "true");
}

function close(strip) {
  const back = strip.open && strip.card.node.contains(document.activeElement) ? strip.open : null;
  mark(strip, null);
  hideCard(strip.card);
  if (back) back.focus();
}

function clicked(strip, event) {
  const node = event.target.closest(".lp-t");
  if (!node || String(document.getSelection())) return;
  if (node === strip.open) { close(strip); return; }
  setStop(strip, Number(node.dataset.lane), Number(node.dataset.i)).focus();
  open(strip);
}

function overToken(strip, event) {
  const node = event.target.closest(".lp-t");
  hover(strip, node ? strip.lanes[Number(node.dataset.lane)] : null, node ? Number(node.dataset.i) : null);
}

function hover(strip, lane, i) {
  strip.hot?.classList.remove("lp-hot");
  strip.hot = lane && i !== null ? lane.nodes[i] : null;
  strip.hot?.classList.add("lp-hot");
  point(strip.picture, lane, i);
}

const STEPS = {
  ArrowLeft: ({ lane, i }) => ({ lane, i: i - 1 }),
  ArrowRight: ({ lane, i }) => ({ lane, i: i + 1 }),
  ArrowUp: ({ lane, i }) => ({ lane: lane - 1, i }),
  ArrowDown: ({ lane, i }) => ({ lane: lane + 1, i }),
  Home: ({ lane }) => ({ lane, i: 0 }),
  End: ({ lane }) => ({ lane, i: Infinity }),
};

function pressed(strip, event) {
  if (event.key === "Escape" && strip.open) { event.preventDefault(); close(strip); return; }
  if (!event.target.classList.contains("lp-t") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(strip); return; }
  if (!Object.hasOwn(STEPS, event.key)) return;
  event.preventDefault();
  const next = STEPS[event.key](strip.at), lane = strip.lanes[next.lane];
  if (!lane || !lane.nodes.length) return;
  walk(strip, next.lane, Math.min(Math.max(next.i, 0), lane.nodes.length - 1));
}

const strip = newStrip();
element.replaceChildren(strip.node);
update(strip, props.value);
watch("value", () => update(strip, props.value));
