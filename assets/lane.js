// Goes in: the events of one run. Comes out: its strip: a head (name, count, seconds, end), the prompt in grey, the tokens with their marks.
// Doesn't know other lanes, the picture or the card.

// What `source` means in words; each has its own second cue besides colour in the style sheet.
const MARKS = {
  model: ["free", "nothing interfered"],
  narrowed: ["narrowed", "some choices ruled out"],
  overridden: ["overruled", "its first choice was refused"],
  only: ["only", "one token allowed"],
  prefix: ["given", "came with the request"],
  draft: ["drafted", "proposed by the drafter and accepted"],
  correction: ["corrected", "the draft was refused here"],
  bonus: ["bonus", "came free after an accepted draft"],
  small: ["small", "written by the small model"],
  large: ["large", "written by the large model"],
  patched: ["patched", "unpatched it would say another"],
  other: ["other", "another source"],
};
// An accepted draft token is shaded by who proposed it.
const DRAFTS = {
  model: ["drafted", "by the draft model, accepted"],
  lookup: ["copied", "by prompt lookup, accepted"],
  recycling: ["recycled", "by Token Recycling, accepted"],
  tree: ["branched", "by the LLMCad tree, accepted"],
};
const GRAMMAR_MARKS = ["model", "narrowed", "overridden", "only"];
const ENDS = { stop: "finished", length: "stopped at the limit", dead_end: "dead end", cancelled: "stopped by hand" };
const PROMPT_TAIL = 12;

// A token's text as nodes; a token without text is the end, or a part of a character that a later token completes.
function tokenPieces(token) {
  if (token.text) return pieces(token.text);
  const ends = (token.detail || {}).end, node = make("span", "lp-unseen", ends ? "end" : "part");
  node.title = ends ? "the model ended here" : "part of a character";
  return [node];
}

function markOf(token) {
  return Object.hasOwn(MARKS, token.source) ? token.source : "other";
}

function draftOf(token) {
  const by = (token.detail || {}).by;
  return token.source === "draft" && Object.hasOwn(DRAFTS, by) ? by : null;
}

// Name and meaning of a token's mark.
function marksOf(token) {
  const by = draftOf(token);
  return by ? DRAFTS[by] : MARKS[markOf(token)];
}

function classOf(token) {
  const by = draftOf(token);
  return by ? `lp-draft lp-by-${by}` : `lp-${markOf(token)}`;
}

// Where almost nothing was kept the line says the nats themselves, since `kept` is rounded.
function natsTaken(token) {
  const { kept, taken } = token.detail || {};
  if (typeof taken === "number") return taken;
  if (typeof kept !== "number") return null;
  return -Math.log(Math.max(kept, 1e-13));
}

function newLane(started, index) {
  const lane = { run: started.run, name: prose(started.lane || started.method || "run"), index, tokens: [], nodes: [], ended: null, fresh: null };
  Object.assign(lane, { method: started.method, rounds: [], findings: [], controls: [], refusedUpTo: 0, models: started.models || {}, progress: null, fixed: started.fixed || "" });
  lane.node = make("section", "lp-lane");
  lane.head = make("h3", "lp-lane-head", lane.name);
  lane.meta = make("span", "lp-lane-meta");
  lane.head.append(" ", lane.meta);
  lane.notes = make("ul", "lp-notes");
  lane.notes.hidden = true;
  lane.body = make("div", "lp-text");
  lane.body.setAttribute("role", "toolbar");
  lane.body.setAttribute("aria-label", `Tokens ${lane.name}. Arrow keys walk, Enter opens.`);
  lane.body.dir = "ltr";
  if ((started.prompt || []).length) lane.body.append(promptNode(started.prompt));
  for (const warning of started.warnings || []) addNote(lane, warning);
  lane.node.append(lane.head, lane.notes, lane.body);
  return lane;
}

function addNote(lane, text) {
  lane.notes.hidden = false;
  lane.notes.append(make("li", "", prose(text)));
}

function promptPieces(tokens) {
  return tokens.map(([id, text]) => {
    const node = make("span", "lp-p");
    node.append(...pieces(text));
    node.title = `prompt token ${id} · ${shown(text)}`;
    return node;
  });
}

// Where the visible end of a long prompt begins: at its last role marker if that is near, else a dozen tokens before the end.
function tailOf(tokens) {
  if (tokens.length <= PROMPT_TAIL + 4) return 0;
  for (let i = tokens.length - 1; i >= tokens.length - PROMPT_TAIL; i -= 1) if (/^<.+>$/.test(tokens[i][1])) return i;
  return tokens.length - PROMPT_TAIL;
}

// The rest waits behind a button and is only built when asked for.
function promptNode(tokens) {
  const holder = make("span", "lp-prompt"), cut = tailOf(tokens);
  if (cut) {
    const more = make("button", "lp-more", `… ${cut} more prompt tokens`);
    more.type = "button";
    more.addEventListener("click", () => more.replaceWith(...promptPieces(tokens.slice(0, cut))));
    holder.append(more);
  }
  holder.append(...promptPieces(tokens.slice(cut)));
  return holder;
}

function describe(token) {
  const detail = token.detail || {};
  const facts = [`token ${token.position}`, token.text ? shown(token.text) : detail.end ? "end" : "part of a character", marksOf(token)[0]];
  if (token.source === "overridden" && detail.wanted) facts.push(`wanted ${shown(detail.wanted[1])}`);
  if (typeof token.logprob === "number") facts.push(`p ${probability(Math.exp(token.logprob))}`);
  if (typeof detail.kept === "number") facts.push(`kept ${probability(detail.kept)}`);
  if (typeof detail.allowed === "number") facts.push(`${detail.allowed.toLocaleString("en")} allowed`);
  return facts.join(" · ");
}

// Tokens of one update gather in a fragment; `settle` puts them on the page in one go.
function addToken(lane, token) {
  const node = make("span", `lp-t ${classOf(token)}`);
  node.append(...tokenPieces(token));
  node.setAttribute("role", "button");
  node.setAttribute("aria-label", `${token.text ? spoken(token.text) : node.textContent}, ${marksOf(token)[0]}`);
  node.tabIndex = -1;
  node.title = describe(token);
  node.dataset.lane = lane.index;
  node.dataset.i = lane.tokens.length;
  lane.tokens.push(token);
  lane.nodes.push(node);
  lane.fresh = lane.fresh || document.createDocumentFragment();
  lane.fresh.append(node);
}

function rate(lane) {
  const first = lane.tokens[0], last = lane.tokens[lane.tokens.length - 1];
  if (lane.tokens.length < 2 || !(last.ms > first.ms)) return null;
  return (1000 * (lane.tokens.length - 1)) / (last.ms - first.ms);
}

function laneFacts(lane) {
  const facts = [counted(lane.tokens.length, "token")];
  const last = lane.tokens[lane.tokens.length - 1];
  if (last && typeof last.ms === "number") facts.push(`${(last.ms / 1000).toFixed(1)} s`);
  if (!lane.ended) facts.push(lane.whole ? "so far" : "running");
  else facts.push(lane.ended.event === "failed" ? "failed" : ENDS[lane.ended.finish_reason] || lane.ended.finish_reason);
  return facts.join(" · ");
}

function settle(lane) {
  if (lane.fresh) lane.body.append(lane.fresh);
  lane.fresh = null;
  lane.meta.textContent = laneFacts(lane);
  lane.node.classList.toggle("lp-running", !lane.ended);
}

function legendFor(lanes) {
  const tokens = lanes.flatMap((lane) => lane.tokens), seen = new Set(tokens.map(markOf)), kinds = new Map();
  if (["narrowed", "overridden", "only"].some((mark) => seen.has(mark))) GRAMMAR_MARKS.forEach((mark) => seen.add(mark));
  for (const mark of Object.keys(MARKS)) {
    if (mark === "draft") tokens.filter((token) => token.source === "draft").forEach((token) => kinds.set(classOf(token), marksOf(token)));
    else if (seen.has(mark)) kinds.set(`lp-${mark}`, MARKS[mark]);
  }
  if (kinds.size < 2) return [];
  return [...kinds].map(([name, [word, says]]) => {
    const item = make("li");
    item.append(make("span", `lp-k ${name}`, word), make("span", "", says));
    return item;
  });
}
