// Goes in: a lane with its rounds. Comes out: the refused tokens in its text, struck through at their place, or none. And what a token's
// card says of its round. Refused tokens are no tokens of the answer: they are not walked to and not counted.

const DRAFTED_BY = { model: "draft model", lookup: "prompt lookup", recycling: "Token Recycling", tree: "LLMCad tree" };

function drafterName(by) {
  return Object.hasOwn(DRAFTED_BY, by) ? DRAFTED_BY[by] : prose(by || "");
}

function roundOf(lane, token) {
  const index = (token.detail || {}).round;
  return lane.rounds.find((round) => round.index === index) || null;
}

function refusedWords(rejected) {
  const facts = [["p", rejected.p], ["q", rejected.q], ["draw", rejected.draw]].filter(([, value]) => typeof value === "number");
  return facts.map(([name, value]) => `${name} ${probability(value)}`).join(", ");
}

// What the round proposed after its accepted part: the refused token, and in a chain those behind it, which were never judged.
function refusedOf(round) {
  const { rejected, parents, drafted, path } = round;
  if (!rejected) return [];
  const first = { text: rejected.text, words: `refused in round ${round.index}: ${refusedWords(rejected)}`, judged: true };
  const chain = parents.every((parent, i) => parent === i - 1);
  const behind = chain ? drafted.slice((path || []).length + 1) : [];
  return [first, ...behind.map(([, text]) => ({ text, words: `dropped in round ${round.index}: stood behind a refused token`, judged: false }))];
}

function refusedNode(token) {
  const node = make("s", token.judged ? "lp-refused" : "lp-refused lp-dropped");
  node.append(...(token.text ? pieces(token.text) : [make("span", "lp-unseen", "part")]));
  node.title = `${shown(token.text || "")} · ${token.words}`;
  return node;
}

// The refused tokens of a round stand before the token that was written instead.
function placeOf(lane, round) {
  const i = lane.tokens.findIndex((token) => (token.detail || {}).round === round.index && token.source !== "draft");
  return i < 0 ? null : lane.nodes[i];
}

function showRefused(lane, on) {
  if (!on) { lane.body.querySelectorAll(".lp-refused").forEach((node) => node.remove()); lane.refusedUpTo = 0; return; }
  for (; lane.refusedUpTo < lane.rounds.length; lane.refusedUpTo += 1) {
    const round = lane.rounds[lane.refusedUpTo], place = placeOf(lane, round);
    if (!place && !lane.ended) return;  // its tokens come with the next lines
    place?.before(...refusedOf(round).map(refusedNode));
  }
}

CARD_FACTS.push((add, lane, token) => {
  const detail = token.detail || {}, round = roundOf(lane, token);
  if (typeof detail.margin === "number") add("margin", detail.margin.toFixed(2));
  if (!round) return;
  if (detail.by) add("drafted by", drafterName(detail.by));
  add("round", `${round.index}: ${round.accepted} of ${round.drafted.length} drafted accepted`);
  if (token.source !== "correction" || !round.rejected) return;
  const word = make("s", "lp-mono");
  word.append(...pieces(round.rejected.text || ""));
  add("refused", word, ` ${refusedWords(round.rejected)}`);
});
