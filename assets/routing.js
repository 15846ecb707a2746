// Goes in: a lane of small-large routing. Comes out: its tokens shaded by score and underlined where the large model disagrees, one line of
// live figures under its name, what a token's card says of the decision, and the what-if of one token. Doesn't know the picture or the slider.

// What a score is, by strategy; the shade is full at one, of entropy at this many nats.
const SCORES = {
  neural: "router's probability", entropy: "entropy in nats", margin: "1 minus the first choice's lead", top1: "1 minus the first choice's probability",
  random: "drawn by chance",
};
const FULL_NATS = 2;

function isRouting(lane) {
  return lane.method === "routing";
}

function scoreOf(token) {
  const { score } = token.detail || {};
  return typeof score === "number" ? score : null;
}

function statsOf(lane) {
  return (lane.ended || {}).stats || {};
}

// Said at the end; until then the lane's name tells.
function strategyOf(lane) {
  const { strategy } = statsOf(lane);
  if (strategy) return strategy;
  return [["entropy", "entropy"], ["margin", "margin"], ["first choice", "top1"], ["random", "random"]].find(([word]) => lane.name.includes(word))?.[1] || "neural";
}

function routingOf(lane) {
  lane.routing = lane.routing || { shaded: 0, heard: 0, opinions: new Map(), facts: null };
  return lane.routing;
}

function addWords(node, words) {
  node.title += ` · ${words}`;
}

function shadeTokens(lane) {
  const known = routingOf(lane), strategy = strategyOf(lane), full = strategy === "entropy" ? FULL_NATS : 1;
  for (; known.shaded < lane.tokens.length; known.shaded += 1) {
    const token = lane.tokens[known.shaded], node = lane.nodes[known.shaded], score = scoreOf(token);
    if ((token.detail || {}).forced) { node.classList.add("lp-by-hand"); addWords(node, "decided by hand"); }
    if (score === null || strategy === "random") continue;
    node.classList.add("lp-scored");
    node.style.setProperty("--score", Math.min(1, score / full).toFixed(3));
    addWords(node, `score ${probability(score)}`);
  }
}

// Opinions come later than their tokens: when the large model has read them.
function hearOpinions(lane) {
  const known = routingOf(lane);
  for (; known.heard < lane.findings.length; known.heard += 1) {
    const { kind, data } = lane.findings[known.heard], node = lane.nodes[(data || {}).position];
    if (kind !== "opinion" || !data) continue;
    known.opinions.set(data.position, data);
    if (data.agree !== false || !node) continue;
    node.classList.add("lp-disagrees");
    addWords(node, `the large model would say ${shown(data.text || "")}`);
    node.setAttribute("aria-label", `${node.getAttribute("aria-label")}, the large model would say ${spoken(data.text || "its end")}`);
  }
}

function written(lane) {
  return lane.tokens.filter((token) => token.source !== "prefix");
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function ms(value) {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

// Whether the large model has said every token so far: then its marks would only shout.
function wroteAlone(lane) {
  return lane.tokens.length > 0 && lane.tokens.every((token) => token.source === "large");
}

// How far the large model was left behind, each time it was asked.
function gapWords(lane) {
  if (wroteAlone(lane)) return "";
  const gaps = written(lane).map((token) => (token.detail || {}).gap).filter((gap) => typeof gap === "number");
  if (!gaps.length) return "";
  return `gaps ${(gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length).toFixed(1)} on average, ${Math.max(...gaps)} at most`;
}

function splitWords({ spans }) {
  if (!spans) return "";
  const prompts = (spans.prefill_small || 0) + (spans.prefill_large || 0);
  const parts = [["prompt", prompts], ["small", spans.small], ["router", spans.router], ["large", spans.catch_up], ["opinions", spans.opinions]];
  return parts.filter(([, value]) => value >= 0.05).map(([name, value]) => `${name} ${ms(value)}`).join(", ");
}

// One run against one run: "in this run", and beside it what the parts promise.
function speedWords(lane, lanes) {
  const stats = statsOf(lane), large = lanes.find((other) => isRouting(other) && statsOf(other).strategy === "always");
  const told = [];
  if (stats.predicted_speedup) told.push(`predicted ${stats.predicted_speedup.toFixed(2)} ×`);
  if (large && large !== lane && stats.ms_per_token && statsOf(large).ms_per_token) told.push(`in this run ${(statsOf(large).ms_per_token / stats.ms_per_token).toFixed(2)} ×`);
  return told.length ? `speed-up over large only: ${told.join(", ")}` : "";
}

function movedWords(lane) {
  const moved = lane.controls.filter(({ name }) => name === "threshold");
  return moved.length ? `threshold moved ${moved.slice(-3).map(({ value, position }) => `to ${probability(value)} at token ${position}`).join(", ")}` : "";
}

function routingFacts(lane, lanes) {
  const tokens = written(lane), large = tokens.filter((token) => token.source === "large").length, first = tokens[0];
  const facts = [tokens.length ? `large ${large} of ${tokens.length} tokens (${percent(large / tokens.length)})` : "", gapWords(lane)];
  if (first && typeof first.ms === "number") facts.push(`first token ${ms(first.ms)}`);
  return [...facts, splitWords(statsOf(lane)), speedWords(lane, lanes), movedWords(lane)].filter(Boolean).join(" · ");
}

function tellLane(lane, lanes) {
  const known = routingOf(lane);
  if (!known.facts) {
    known.facts = make("p", "lp-quiet lp-lane-facts");
    lane.head.after(known.facts);
  }
  lane.node.classList.toggle("lp-alone", wroteAlone(lane));
  const words = routingFacts(lane, lanes);
  if (known.facts.textContent !== words) known.facts.textContent = words;
}

// The card ------------------------------------------------------------------------------------------------------------------------

function wordOf(tag, text) {
  const node = make(tag, "lp-mono");
  node.append(...(text ? pieces(text) : [make("span", "lp-unseen", "end")]));
  return node;
}

function whatIfButton(lane, token, who) {
  const button = make("button", "lp-what-if", `${who} here`);
  button.type = "button";
  button.setAttribute("aria-label", `${who} here: let the ${who} model say this token and go on from it`);
  button.addEventListener("click", () => trigger("force", { run: lane.run, position: token.position, token_id: token.id, who }));
  return button;
}

CARD_FACTS.push((add, lane, token) => {
  if (!isRouting(lane)) return;
  const detail = token.detail || {}, score = scoreOf(token), opinion = routingOf(lane).opinions.get(token.position);
  if (score !== null) add("score", `${probability(score)}, ${SCORES[strategyOf(lane)] || "score"}`);
  if (typeof detail.entropy === "number") add("entropy", `${detail.entropy.toFixed(2)} nats`);
  if (detail.forced) add("decided by", "hand, not by the strategy");
  if (detail.proposal) add("rejected proposal", wordOf("s", detail.proposal[1]));
  if (typeof detail.gap === "number") add("catch-up", counted(detail.gap, "token"));
  if (detail.spans) add("time here", Object.entries(detail.spans).map(([name, value]) => `${prose(name)} ${ms(value)}`).join(", "));
  if (opinion) add("large model's opinion", ...(opinion.agree ? ["the same token"] : ["would say ", wordOf("span", opinion.text)]), `, gives this one p ${probability(opinion.p_small_token)}`);
  if (lane.run) add("what if", whatIfButton(lane, token, "small"), " ", whatIfButton(lane, token, "large"));
});

// What the marks of a routed text mean, beside the strip's own legend.
function newRoutingKey() {
  const view = { node: make("ul", "lp-legend lp-routing-key") };
  view.node.hidden = true;
  for (const [name, word, says] of [
    ["lp-k lp-scored lp-full", "shade", "the stronger, the more in doubt the small model's token is"],
    ["lp-k lp-disagrees", "underlined", "the large model would have said another token"],
    ["lp-k lp-would-large", "framed", "would go to the large model at the slider's threshold"],
    ["lp-k lp-would-small", "struck", "would stay with the small model"],
  ]) {
    const item = make("li");
    item.append(make("span", name, word), make("span", "", says));
    view.node.append(item);
  }
  view.update = (lanes) => {
    const routed = lanes.filter(isRouting);
    view.node.hidden = !routed.length;
    routed.forEach((lane) => { shadeTokens(lane); hearOpinions(lane); tellLane(lane, lanes); });
  };
  return view;
}

VIEWS.push(newRoutingKey);
