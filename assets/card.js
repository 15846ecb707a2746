// Goes in: one token and, when asked for, what `inspect` recomputed about its step. Comes out: the card beside the strip.
// Doesn't know the lines; asks the page's server function at most once a token and remembers the answer.

// Who walks along the strip with an open card passes tokens by; only where they stay a while is the model asked.
const SETTLE_MS = 120;

const SHOWN = 11;  // ten, and the one that was best after all the cutting

// Why an alternative is out, in words. Under greedy decoding all but one are out, which is no news: those aren't struck.
const CUTS = { grammar: "grammar", top_k: "top-k", top_p: "top-p", temperature: "too small", greedy: null };

function newCard({ inspect, branch, close, fixed }) {
  const card = { known: new Map(), asked: 0, branch, fixed };
  card.node = make("aside", "lp-card");
  card.node.setAttribute("aria-label", "Token card");
  card.node.hidden = true;
  card.inspect = inspect;
  card.close = close;
  return card;
}

function hideCard(card) {
  card.asked += 1;
  card.node.hidden = true;
  card.node.replaceChildren();
}

// Facts of the line at once; alternatives when they come, unless another token was opened meanwhile.
async function showCard(card, lane, token) {
  const asked = card.asked += 1;
  const more = make("div", "lp-more-facts");
  card.node.replaceChildren(...cardHead(card, lane, token), facts(lane, token), more);
  card.node.hidden = false;
  if (!card.inspect || !lane.run) return;
  const key = `${lane.run}:${token.position}`;
  if (!card.known.has(key)) {
    more.append(make("p", "lp-quiet", "looking inside …"));
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    if (asked !== card.asked) return;
  }
  const answer = card.known.get(key) || await ask(card, lane, token);
  if (!answer.error) card.known.set(key, answer);
  if (asked !== card.asked) return;
  more.replaceChildren(...alternatives(card, lane, token, answer));
}

async function ask(card, lane, token) {
  try {
    return (await card.inspect([lane.run, token.position])) || { error: "Nothing came back." };
  } catch (error) {
    return { error: `The page could not ask: ${error.message || error}` };
  }
}

function cardHead(card, lane, token) {
  const head = make("div", "lp-card-head");
  head.append(make("span", "", `token ${token.position} · id ${token.id} · ${lane.name}`));
  const shut = make("button", "lp-close", "×");
  shut.type = "button";
  shut.setAttribute("aria-label", "Close the card");
  shut.addEventListener("click", card.close);
  head.append(shut);
  const text = make("p", "lp-card-text");
  text.append(...tokenPieces(token));
  const nodes = [head, text];
  const codes = unseen(token.text || "");
  if (codes.length) nodes.push(make("p", "lp-codes", codes.join(", ")));
  return nodes;
}

function facts(lane, token) {
  const detail = token.detail || {}, list = make("dl", "lp-facts");
  const add = (name, ...values) => {
    const value = make("dd");
    value.append(...values);
    list.append(explained(make("dt", "", name)), value);
  };
  const [name, says] = marksOf(token);
  add("who chose", make("span", `lp-k ${classOf(token)}`, name), ` ${says}`);
  if (typeof token.logprob === "number") add("p", `${probability(Math.exp(token.logprob))}, log ${token.logprob.toFixed(2).replace("-", "−")}`);
  if (typeof detail.kept === "number") add("kept", `${probability(detail.kept)} of the mass, ${natsTaken(token).toFixed(2)} nats taken`);
  if (typeof detail.allowed === "number") add("allowed", counted(detail.allowed, "token"));
  if (detail.wanted && detail.wanted[0] !== token.id) {
    const wanted = make("span", "lp-mono");
    wanted.append(...pieces(detail.wanted[1]));
    add("wanted", wanted);
  }
  for (const more of CARD_FACTS) more(add, lane, token);
  return list;
}

function alternatives(card, lane, token, answer) {
  if (answer.error) return [make("p", "lp-quiet", prose(answer.error))];
  const roles = Object.entries(answer.models || {});
  return roles.map(([role, model]) => alternativesTable(card, lane, token, model.top || [], roles.length > 1 ? role : null));
}

function alternativesTable(card, lane, token, top, role) {
  const table = make("table", "lp-alts"), head = make("tr"), body = make("tbody");
  table.append(make("caption", "", role ? `What ${prose(role)} had in mind` : "What it had in mind"));
  for (const name of ["token", "raw p", "final p"]) {
    const cell = explained(make("th", "", name));
    cell.scope = "col";
    head.append(cell);
  }
  head.append(make("td"));
  const labels = make("thead");
  labels.append(head);
  const shownTop = top.slice(0, SHOWN), most = Math.max(1e-9, ...shownTop.map((one) => Number(one.p) || 0));
  body.append(...shownTop.map((one) => alternative(card, lane, token, one, most)));
  table.append(labels, body);
  return table;
}

function cutWords(one) {
  return !one.cut ? null : Object.hasOwn(CUTS, one.cut) ? CUTS[one.cut] : prose(one.cut);
}

// The bar under a token is its raw p against the largest one shown.
function alternative(card, lane, token, one, most) {
  const why = cutWords(one), row = make("tr", why ? "lp-cut" : one.id === token.id ? "lp-chosen" : "");
  const text = make("th", "lp-mono");
  text.scope = "row";
  const word = make(why ? "s" : "span", "lp-word");
  word.append(...pieces(one.text || ""));
  text.append(word);
  if (why) text.append(make("span", "lp-why", why));
  const bar = make("span", "lp-share");
  bar.style.setProperty("--p", Math.max(0, Number(one.p) || 0) / most);
  text.append(bar);
  row.append(text, make("td", "", probability(one.p)), make("td", "", why ? "–" : probability(one.final_p)), branchCell(card, lane, token, one));
  return row;
}

// What somebody else made (`fixed`) can only be read. What the grammar refuses can't be gone on with: the same request would be refused.
function branchCell(card, lane, token, one) {
  const cell = make("td", "lp-branch");
  if (one.id === token.id) { cell.append(make("span", "lp-quiet", "chosen")); return cell; }
  if (one.cut === "grammar" || card.fixed?.()) return cell;
  const go = make("button", "", "↳");
  go.type = "button";
  go.title = "continue from here";
  go.setAttribute("aria-label", `Continue from here with ${spoken(one.text || "")}`);
  go.addEventListener("click", () => card.branch({ run: lane.run, position: token.position, token_id: one.id }));
  cell.append(go);
  return cell;
}
