// Goes in: the lanes and which one is looked at. Comes out: the rounds of one lane, scrubbed one by one: timeline, the selected round in
// words and as a tree, its tokens lit in the strip; a switch that shows refused tokens in all texts. Hidden where nothing has rounds.

// While tokens come, timeline and tree are drawn again this seldom: the processor belongs to the model.
const REDRAW_MS = 1000;

function newRounds() {
  const view = { drawnAt: 0, lane: null, at: 0, chosen: false, lanes: [] };
  view.node = make("section", "lp-rounds");
  view.node.hidden = true;
  view.node.setAttribute("aria-label", "Rounds");
  view.timeline = newTimeline((i) => choose(view, i));
  view.tree = newTree();
  view.words = make("p", "lp-round-words");
  view.treeCaption = make("p", "lp-quiet lp-tree-caption");
  view.treeCaption.append("token, ", explained(make("span", "", "target p")), ", ", explained(make("span", "", "confidence")),
    "; bold: accepted, struck: refused, dashed: what the target wrote after it");
  view.node.append(roundsHead(view), view.timeline.node, timelineKey(), view.words, view.treeCaption, view.tree.node);
  view.update = (lanes) => updateRounds(view, lanes);
  view.reset = () => { view.lane = null; view.chosen = false; };
  view.opened = (lane, token) => {
    const at = lane.rounds.findIndex((round) => round.index === (token.detail || {}).round);
    if (at >= 0) { view.lane = lane; choose(view, at); }
  };
  return view;
}

function roundsHead(view) {
  const head = make("div", "lp-rounds-head");
  view.pick = make("select", "lp-rounds-lane");
  view.pick.setAttribute("aria-label", "Whose rounds");
  view.pick.addEventListener("change", () => { view.lane = view.lanes[Number(view.pick.value)]; view.chosen = false; drawRounds(view); });
  view.slider = make("input");
  Object.assign(view.slider, { type: "range", min: 0, step: 1 });
  view.slider.setAttribute("aria-label", "Round");
  view.slider.addEventListener("input", () => choose(view, Number(view.slider.value)));
  view.back = roundButton("‹", "Previous round", () => choose(view, view.at - 1));
  view.on = roundButton("›", "Next round", () => choose(view, view.at + 1));
  const label = make("label", "lp-switch");
  view.switch = make("input");
  view.switch.type = "checkbox";
  view.switch.addEventListener("change", () => view.lanes.forEach((lane) => showRefused(lane, view.switch.checked)));
  label.append(view.switch, "show refused tokens in the text");
  head.append(explained(make("h3", "", "rounds")), view.pick, view.back, view.slider, view.on, label);
  return head;
}

function roundButton(text, label, press) {
  const button = make("button", "lp-round-button", text);
  button.type = "button";
  button.setAttribute("aria-label", label);
  button.addEventListener("click", press);
  return button;
}

function updateRounds(view, lanes) {
  view.lanes = lanes.filter((lane) => lane.rounds.some((round) => round.drafted.length));
  view.node.hidden = !view.lanes.length;
  if (view.switch.checked) view.lanes.forEach((lane) => showRefused(lane, true));
  if (!view.lanes.length) return;
  if (!view.lanes.includes(view.lane)) { view.lane = view.lanes[0]; view.chosen = false; }
  const now = performance.now(), busy = lanes.some((lane) => !lane.ended && !lane.whole);
  if (busy && now - view.drawnAt < REDRAW_MS) return;
  view.drawnAt = now;
  drawRounds(view);
}

function choose(view, at) {
  view.chosen = true;
  view.at = at;
  drawRounds(view);
}

// Until somebody chooses, the round that accepted most is shown, at least one that drafted: it says most about its drafter.
function richest(rounds) {
  const worth = (round) => round.accepted + (round.drafted.length ? 0.5 : 0);
  return rounds.reduce((best, round, i) => (worth(round) > worth(rounds[best]) ? i : best), 0);
}

function drawRounds(view) {
  const { rounds } = view.lane;
  if (!view.chosen) view.at = richest(rounds);
  view.at = Math.min(Math.max(view.at, 0), rounds.length - 1);
  view.pick.replaceChildren(...view.lanes.map((lane, i) => laneOption(lane, i, lane === view.lane)));
  Object.assign(view.slider, { max: rounds.length - 1, value: view.at });
  view.back.disabled = view.at === 0;
  view.on.disabled = view.at === rounds.length - 1;
  view.slider.setAttribute("aria-valuetext", roundWords(rounds[view.at]));
  Object.assign(view.timeline, { rounds, at: view.at });
  drawTimeline(view.timeline);
  drawTree(view.tree, view.lane, rounds[view.at]);
  const refused = rounds[view.at].rejected;
  view.words.textContent = roundWords(rounds[view.at]) + (refused ? ` · refused ${shown(refused.text || "")}: ${refusedWords(refused)}` : "");
  lightRound(view, rounds[view.at]);
}

function laneOption(lane, i, selected) {
  const option = make("option", "", lane.name);
  option.value = i;
  option.selected = selected;
  return option;
}

// The tokens of the selected round, lit in the text of its lane.
function lightRound(view, round) {
  (view.lit || []).forEach((node) => node.classList.remove("lp-lit"));
  view.lit = view.lane.nodes.filter((_, i) => (view.lane.tokens[i].detail || {}).round === round.index);
  view.lit.forEach((node) => node.classList.add("lp-lit"));
}

VIEWS.push(newRounds);
