// Goes in: lanes that have ended. Comes out: a bar that plays them again at their own times: play, one token on or back, a scrubber by token,
// a speed. What is yet to come is hidden; sentence, counters and pictures follow. Lanes run side by side, each from its own zero.
// Pure work on the lines that are there: nobody is asked, and when new lines come everything is whole again. Doesn't know what a method is.

const SPEEDS = { least: -2, most: 4, slow: -5 };  // powers of two; of a run that was over in a second the slow ones are of use too
const SHORT_MS = 1000;
const UNTIMED_MS = 100;  // a token, where no times were kept
const LONGEST_FRAME_MS = 500;  // a page that was out of sight goes on where it was

function newReplay(strip) {
  const view = { strip, above: true, lanes: [], order: [], at: 0, clock: 0, playing: false, shadows: null, timed: true };
  view.node = make("section", "lp-replay");
  view.node.hidden = true;
  view.node.setAttribute("aria-label", "Replay");
  view.guess = newGuess(view);
  view.node.append(replayRow(view), view.guess.node);
  view.node.addEventListener("keydown", (event) => replayKey(view, event));
  view.update = (lanes) => updateReplay(view, lanes);
  view.coming = () => { if (view.guess.only) endGuess(view.guess); pause(view); leave(view); };
  view.reset = () => { Object.assign(view, { lanes: [], order: [], at: 0 }); };
  return view;
}

function replayRow(view) {
  const row = make("div", "lp-replay-row");
  view.play = replayButton("Play", () => (view.playing ? pause(view) : play(view)));
  view.play.classList.add("lp-replay-play");
  view.back = replayButton("‹", () => step(-1), "One token back");
  view.on = replayButton("›", () => step(1), "One token on");
  view.scrubber = replaySlider("Token", () => { view.playing = false; showAt(view, Number(view.scrubber.value)); });
  view.times = make("span", "lp-replay-times");
  view.speed = replaySlider("Speed", () => drawReplay(view));
  view.speed.classList.add("lp-replay-speed");
  Object.assign(view.speed, { min: SPEEDS.least, max: SPEEDS.most, value: 0 });
  view.speedWords = make("span", "lp-replay-factor");
  view.large = replaySwitch("large type", (on) => view.strip.node.classList.toggle("lp-projector", on));
  view.live = replayButton("Run live", () => trigger("live", { run: view.lanes[0].run }));
  row.append(view.play, view.back, view.on, view.scrubber, view.times, view.speed, view.speedWords, guessSwitch(view), view.large, view.live);
  return row;
  function step(by) { view.playing = false; showAt(view, view.at + by); }
}

function replayButton(text, press, label) {
  const button = make("button", "lp-what-if", text);
  button.type = "button";
  if (label) button.setAttribute("aria-label", label);
  button.addEventListener("click", press);
  return button;
}

function replaySlider(label, moved) {
  const slider = make("input");
  Object.assign(slider, { type: "range", step: 1, min: 0 });
  slider.setAttribute("aria-label", label);
  slider.addEventListener("input", moved);
  return slider;
}

function replaySwitch(words, turned) {
  const label = make("label", "lp-switch"), box = make("input");
  box.type = "checkbox";
  box.addEventListener("change", () => turned(box.checked));
  label.append(box, words);
  return label;
}

// Space plays and pauses, arrows go by one token; what has keys of its own (a field, a slider's arrows, a box) keeps them.
function replayKey(view, event) {
  const { target, key } = event, field = target.matches("input[type=text], select"), slider = target.matches("input[type=range]");
  if (field || event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === " " && !target.matches("button, input[type=checkbox]")) view.play.click();
  else if (key === "ArrowRight" && !slider) view.on.click();
  else if (key === "ArrowLeft" && !slider) view.back.click();
  else return;
  event.preventDefault();
}

// What is replayed ------------------------------------------------------------------------------------------------------------------

function updateReplay(view, lanes) {
  const ready = lanes.length > 0 && !view.strip.status && lanes.every((lane) => lane.ended);
  view.lanes = ready ? lanes.filter((lane) => lane.tokens.length) : [];
  order(view);
  view.node.hidden = view.order.length < 2;
  view.live.hidden = !(view.strip.recorded && props.live);
  if (!view.node.hidden && !view.node.isConnected) view.strip.live.after(view.node);
  drawReplay(view);
}

// All tokens in the order in which they came, lanes from their own zero; with a lane chosen for guessing, only its own.
function order(view) {
  const { only } = view.guess;
  view.timed = view.lanes.some((lane) => lane.tokens.some((token) => token.ms > 0));
  view.order = view.lanes.filter((lane) => only === null || lane === only).flatMap((lane) => timesOf(lane, view.timed).map((ms, i) => ({ lane, i, ms })));
  view.order.sort((a, b) => a.ms - b.ms || a.lane.index - b.lane.index || a.i - b.i);
  view.at = view.order.length;
  Object.assign(view.speed, { min: lengthMs(view) < SHORT_MS ? SPEEDS.slow : SPEEDS.least });
}

// A lane's times never run backwards, whatever the lines say.
function timesOf(lane, timed) {
  let last = 0;
  return lane.tokens.map((token, i) => {
    last = Math.max(last, !timed ? (i + 1) * UNTIMED_MS : typeof token.ms === "number" ? token.ms : 0);
    return last;
  });
}

function timeAt(view) {
  return view.at ? view.order[view.at - 1].ms : 0;
}

function lengthMs(view) {
  return view.order.length ? view.order[view.order.length - 1].ms : 0;
}

// A lane as it was when it had so many tokens: everything else of it, its place on the page too, is the lane's own.
function shadowOf(lane) {
  return Object.assign(Object.create(lane), { whole: lane, tokens: lane.tokens, nodes: lane.nodes, ended: null, progress: null });
}

function enter(view) {
  const { strip } = view;
  if (view.shadows) return;
  close(strip);
  view.kept = { lanes: strip.lanes, verdict: strip.verdict };
  view.shadows = strip.lanes.map(shadowOf);
  Object.assign(strip, { lanes: view.shadows, verdict: null });
  strip.node.classList.add("lp-replaying");
}

// Whole again: all tokens, the verdict, the lanes themselves.
function leave(view) {
  const { strip } = view;
  if (!view.shadows) return;
  letGo(strip);
  view.kept.lanes.forEach((lane) => { lane.nodes.forEach((node) => node.classList.remove("lp-future")); lane.node.classList.remove("lp-aside"); });
  Object.assign(strip, view.kept, { status: "" });
  view.shadows = null;
  view.at = view.order.length;
  strip.node.classList.remove("lp-replaying");
  follow(view);
}

// One token is in the tab order; one that is hidden must not be.
function letGo(strip) {
  const node = nodeAt(strip, strip.at);
  if (node) node.tabIndex = -1;
  strip.at = null;
}

function showAt(view, at) {
  const wanted = Math.min(Math.max(at, 0), view.order.length), back = wanted < view.at;
  view.at = wanted;
  if (wanted === view.order.length && view.guess.only === null) leave(view);
  else { enter(view); cut(view, back); }
  drawReplay(view);
  askGuess(view.guess);
}

// Each lane gets what it had by then.
function cut(view, back) {
  const { strip, order: all, at } = view, had = new Map(), until = timeAt(view);
  for (const { lane } of all.slice(0, at)) had.set(lane, (had.get(lane) || 0) + 1);
  if (back || !nodeAt(strip, strip.at)) letGo(strip);
  for (const shadow of view.shadows) cutLane(shadow, had.get(shadow.whole) || 0, until, view.guess.only);
  const first = view.shadows.findIndex((shadow) => shadow.nodes.length);
  if (!strip.at && first >= 0) setStop(strip, first, 0);
  if (back) strip.picture.lane = null;  // it only ever adds bars
  strip.status = replayWords(view);
  follow(view);
}

function cutLane(shadow, n, until, only) {
  const { whole } = shadow, from = Math.min(n, shadow.shown ?? 0);
  for (let i = from; i < whole.nodes.length; i += 1) whole.nodes[i].classList.toggle("lp-future", i >= n);
  Object.assign(shadow, { shown: n, tokens: whole.tokens.slice(0, n), nodes: whole.nodes.slice(0, n) });
  shadow.rounds = whole.rounds.filter((round) => round.position < n);
  shadow.controls = whole.controls.filter((control) => control.position < n);
  shadow.findings = whole.findings.filter((finding) => !(finding.ms > until));
  shadow.ended = n === whole.tokens.length ? whole.ended : null;
  whole.node.classList.toggle("lp-aside", only !== null && only !== whole);
  whole.body.scrollTop = whole.body.scrollHeight;
}

// The threshold's slider stays with the run itself: nothing is to be steered in a replay.
function follow(view) {
  const { strip } = view, looked = strip.lanes[strip.at?.lane];
  strip.lanes.forEach(settle);
  updatePicture(strip.picture, strip.lanes, looked);
  strip.views.filter((other) => other !== view && other !== strip.threshold).forEach((other) => updateView(strip, other));
  tell(strip);
}

// Playing ---------------------------------------------------------------------------------------------------------------------------

function play(view) {
  if (view.at === view.order.length) showAt(view, view.guess.first);
  Object.assign(view, { playing: true, clock: timeAt(view), seen: performance.now() });
  drawReplay(view);
  requestAnimationFrame((now) => tick(view, now));
}

function pause(view) {
  view.playing = false;
  drawReplay(view);
}

function tick(view, now) {
  if (!view.playing) return;
  view.clock += Math.min(Math.max(now - view.seen, 0), LONGEST_FRAME_MS) * factor(view);
  view.seen = now;
  let { at } = view;
  while (at < view.order.length && view.order[at].ms <= view.clock) at += 1;
  view.playing = at < view.order.length;
  if (at !== view.at) showAt(view, at);
  else drawTimes(view);
  if (view.playing) requestAnimationFrame((next) => tick(view, next));
}

function factor(view) {
  return 2 ** Number(view.speed.value);
}

// Words -----------------------------------------------------------------------------------------------------------------------------

function seconds(ms) {
  return `${(ms / 1000).toFixed(ms < 9950 ? 2 : 1)} s`;
}

function replayWords(view) {
  const lanes = view.guess.only === null ? view.shadows.filter((shadow) => shadow.whole.tokens.length) : view.shadows.filter((shadow) => shadow.whole === view.guess.only);
  const had = lanes.map((lane) => `${lane.name} ${lanes.length > 1 ? lane.tokens.length : counted(lane.tokens.length, "token")}`).join(", ");
  return `Replay${view.timed ? ` at ${seconds(timeAt(view))}` : ""}: ${had}`;
}

function drawTimes(view) {
  const ms = view.playing ? Math.min(view.clock, lengthMs(view)) : timeAt(view);
  view.times.textContent = view.timed ? (view.shadows ? `${seconds(ms)} of ${seconds(lengthMs(view))} in the original` : `${seconds(lengthMs(view))} in the original`) : "no times were kept";
}

function drawReplay(view) {
  const n = view.order.length, speed = factor(view), words = speed < 1 ? `1/${1 / speed} ×` : `${speed} ×`;
  view.play.textContent = view.playing ? "Pause" : "Play";
  Object.assign(view.scrubber, { max: n, value: view.at });
  view.scrubber.setAttribute("aria-valuetext", `${view.at} of ${counted(n, "token")}${view.timed ? `, ${seconds(timeAt(view))}` : ""}`);
  view.speedWords.textContent = words;
  view.speed.setAttribute("aria-valuetext", words);
  view.back.disabled = view.at <= view.guess.first;
  view.on.disabled = view.at >= n;
  drawTimes(view);
}

VIEWS.push(newReplay);
