// Goes in: the lanes. Comes out: one slider, the threshold. While a lane runs, moving it steers what is still to come (event "steer"); of a lane
// that has ended it re-colours at once what would be asked. Doesn't know how scores come about; a lane without scores has nothing to slide.

const SLIDER_STEPS = 1000;
const STEER_MS = 150;  // the page is asked at most this often
// The router's probabilities crowd near zero: there the slider is fine.
const CURVED = { neural: 3 };

function newThreshold(strip) {
  const view = { strip, above: true, lanes: [], lane: null, chosen: null, value: null, steering: null, timer: null };
  view.node = make("div", "lp-threshold");
  view.node.hidden = true;
  view.slider = make("input");
  Object.assign(view.slider, { type: "range", min: 0, max: SLIDER_STEPS, step: 1 });
  view.slider.setAttribute("aria-label", "Threshold");
  view.slider.addEventListener("input", () => moveTo(view, valueAt(view, Number(view.slider.value))));
  view.words = make("p", "lp-quiet lp-threshold-words");
  view.words.id = `lp-threshold-${Math.random().toString(36).slice(2)}`;
  view.slider.setAttribute("aria-describedby", view.words.id);
  view.back = thresholdButton("as it ran", () => moveTo(view, null));
  view.adopt = thresholdButton("use for the next run", () => trigger("adopt", { value: view.value }));
  const row = make("div", "lp-threshold-row");
  row.append(explained(make("span", "", "threshold")), view.slider, view.back, view.adopt);
  view.node.append(row, view.words);
  view.update = (lanes) => updateThreshold(view, lanes);
  view.reset = () => { Object.assign(view, { lane: null, chosen: null, value: null, steering: null }); };
  view.opened = (lane) => { if (isRouting(lane) && slidable(lane)) { view.chosen = lane; take(view, lane); drawThreshold(view); } };
  strip.threshold = view;
  return view;
}

function thresholdButton(words, press) {
  const button = make("button", "lp-what-if", words);
  button.type = "button";
  button.addEventListener("click", press);
  return button;
}

function scoredTokens(lane) {
  return written(lane).filter((token) => scoreOf(token) !== null);
}

function slidable(lane) {
  return scoredTokens(lane).length > 0;
}

function updateThreshold(view, lanes) {
  view.lanes = lanes.filter(isRouting);
  view.node.hidden = !view.lanes.length;
  const live = view.lanes.find((lane) => !lane.ended && slidable(lane));
  const wanted = live || (view.lanes.includes(view.chosen) ? view.chosen : view.lanes.find(slidable)) || null;
  if (wanted !== view.lane) take(view, wanted);
  if (view.steering && view.steering.ended) { view.steering = null; view.value = null; }
  drawThreshold(view);
}

// Another lane stands as it ran until the slider moves.
function take(view, lane) {
  if (view.lane && view.lane !== lane) recolour(view.lane, null);
  Object.assign(view, { lane, value: lane === view.lane ? view.value : null });
}

function topOf(lane) {
  return strategyOf(lane) === "entropy" ? Math.max(1, ...scoredTokens(lane).map(scoreOf)) : 1;
}

function valueAt(view, at) {
  return topOf(view.lane) * (at / SLIDER_STEPS) ** (CURVED[strategyOf(view.lane)] || 1);
}

function placeOfValue(view, value) {
  return Math.round(SLIDER_STEPS * (Math.min(value / topOf(view.lane), 1)) ** (1 / (CURVED[strategyOf(view.lane)] || 1)));
}

// Where the slider stands before anybody moves it: at the run's own threshold, or at the one that would have asked as often.
function ranAt(lane) {
  const { threshold } = statsOf(lane), moved = lane.controls[lane.controls.length - 1];
  if (typeof threshold === "number") return threshold;
  if (moved) return moved.value;
  const tokens = scoredTokens(lane);
  return atShare(lane, tokens.filter((token) => token.source === "large").length / Math.max(1, tokens.length));
}

// The threshold that asks at this share of a lane's tokens.
function atShare(lane, share) {
  const scores = scoredTokens(lane).map(scoreOf).sort((a, b) => b - a), k = Math.round(share * scores.length);
  if (!scores.length || k <= 0) return topOf(lane);
  return k >= scores.length ? 0 : (scores[k - 1] + scores[k]) / 2;
}

function shareAt(lane, value) {
  const tokens = scoredTokens(lane);
  return tokens.length ? tokens.filter((token) => scoreOf(token) >= value).length / tokens.length : 0;
}

// The share of large tokens that the picture marks: what the slider would give, else what came.
function markedShare(view) {
  if (!view.lane) return null;
  if (view.value !== null) return shareAt(view.lane, view.value);
  const tokens = written(view.lane);
  return tokens.length ? tokens.filter((token) => token.source === "large").length / tokens.length : null;
}

function moveTo(view, value) {
  if (!view.lane) return;
  view.value = value;
  if (!view.lane.ended && value !== null) steer(view);
  else recolour(view.lane, value);
  drawThreshold(view);
}

// The last position counts: it is sent when the time is up.
function steer(view) {
  view.steering = view.lane;
  if (view.timer) return;
  view.timer = setTimeout(() => {
    view.timer = null;
    if (view.steering && view.value !== null) trigger("steer", { run: view.steering.run, value: view.value });
  }, STEER_MS);
}

function recolour(lane, value) {
  lane.tokens.forEach((token, i) => {
    const score = scoreOf(token), asks = score !== null && value !== null && score >= value, decided = (token.detail || {}).forced;
    lane.nodes[i].classList.toggle("lp-would-large", asks && token.source === "small" && !decided);
    lane.nodes[i].classList.toggle("lp-would-small", value !== null && score !== null && !asks && token.source === "large" && !decided);
  });
}

function thresholdWords(view) {
  if (!view.lane) return view.lanes.length ? "Disabled: no lane here compares a score with a threshold." : "";
  const value = view.value === null ? ranAt(view.lane) : view.value, strategy = strategyOf(view.lane);
  const name = view.lanes.length > 1 ? `${view.lane.name}: ` : "";
  if (!view.lane.ended && view.lane.fixed) return `Disabled while it runs. ${view.lane.fixed}`;
  if (!view.lane.ended) return `${name}runs now; moving the slider decides for the tokens still to come${view.value === null ? "" : ` (${probability(value)}, ${SCORES[strategy]})`}.`;
  const n = scoredTokens(view.lane).length, asked = Math.round(shareAt(view.lane, value) * n);
  const told = view.value === null ? "Nothing runs: moving the slider marks what another threshold would ask at." : "What follows a token that changes would change too.";
  return `${name}at ${probability(value)} (${SCORES[strategy] || "score"}) the large model is asked at ${asked} of ${counted(n, "token")}, ${percent(asked / n)}. ${told}`;
}

function drawThreshold(view) {
  view.slider.disabled = !view.lane || Boolean(view.lane.fixed && !view.lane.ended);
  view.back.hidden = view.value === null || !view.lane?.ended;
  view.adopt.hidden = view.value === null;
  if (view.lane) view.slider.value = placeOfValue(view, view.value === null ? ranAt(view.lane) : view.value);
  view.words.textContent = thresholdWords(view);
  view.slider.setAttribute("aria-valuetext", view.lane ? probability(view.value === null ? ranAt(view.lane) : view.value) : "none");
  view.strip.pareto?.mark();
}

VIEWS.push(newThreshold);
