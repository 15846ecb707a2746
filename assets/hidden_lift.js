// Goes in: the lanes of looks. Comes out: their tokens shaded by lift, a picture of the lift along the text, and the facts of a token for its card.
// Without a reference nothing is shaded: there is no lift. Below zero the reference finds the token likelier: dotted, not shaded.

const LIFTS = { height: 130, left: 34, right: 4, top: 10, base: 104, most: 8, least: -4 };

function liftOf(token) {
  const { lift } = token.detail || {};
  return typeof lift === "number" ? lift : null;
}

function isLook(lane) {
  return lane.method === LOOK;
}

function shadeLifts(lane) {
  for (let i = lane.shaded || 0; i < lane.tokens.length; i += 1) {
    const lift = liftOf(lane.tokens[i]), node = lane.nodes[i], { rank } = lane.tokens[i].detail || {};
    if (lift !== null) {
      node.classList.add(lift >= 0 ? "lp-lift" : "lp-lift-below");
      node.style.setProperty("--lift", Math.min(Math.max(lift, 0), LIFTS.most) / LIFTS.most);
      node.title += ` · lift ${signed(lift)}`;
    }
    if (rank) node.title += ` · rank ${rank.toLocaleString("en")}`;
  }
  lane.shaded = Math.max(lane.shaded || 0, lane.tokens.length);  // a replay's lane has fewer, and its nodes are shaded already
}

function signed(nats) {
  return `${nats < 0 ? "−" : "+"}${Math.abs(nats).toFixed(2)}`;
}

// Where a look's beginning stands in a context of its own, the prompt was not read, so it is not shown.
function hideUnread(lane) {
  if (/, (from the beginning|after a bare header|after an empty turn)$/.test(lane.name)) lane.body.querySelector(".lp-prompt")?.remove();
}

function newLifts() {
  const view = { above: true, lane: null, width: 0 };
  view.node = make("figure", "lp-picture lp-lifts");
  view.node.hidden = true;
  const caption = make("figcaption", "lp-caption"), frame = make("div", "lp-frame");
  view.title = make("span");
  view.readout = make("span", "lp-readout");
  caption.append(view.title, view.readout);
  view.svg = draw("svg", { height: LIFTS.height, width: "100%", role: "img" });
  frame.append(view.svg);
  view.node.append(caption, frame);
  new ResizeObserver((entries) => {
    const width = Math.floor(entries[0].contentRect.width);
    if (width && width !== view.width) { view.width = width; drawLifts(view); }
  }).observe(frame);
  view.svg.addEventListener("pointermove", (event) => readLift(view, event.offsetX));
  view.svg.addEventListener("pointerleave", () => readLift(view, null));
  view.update = (lanes, wanted) => {
    const looks = lanes.filter(isLook);
    looks.forEach((lane) => { hideUnread(lane); shadeLifts(lane); });
    const some = looks.filter((lane) => lane.tokens.some((token) => liftOf(token) !== null));
    view.lane = some.includes(wanted) ? wanted : some[0] || null;
    view.node.hidden = !view.lane;
    if (view.lane) { view.title.replaceChildren(explained(make("span", "", "lift of each token")), some.length > 1 ? `, ${view.lane.name}` : ""); drawLifts(view); }
  };
  return view;
}

function liftStep(view) {
  return (view.width - LIFTS.left - LIFTS.right) / Math.max(view.lane.tokens.length, 24);
}

function liftHeight(nats) {
  const held = Math.min(Math.max(nats, LIFTS.least), LIFTS.most);
  return LIFTS.base - ((held - LIFTS.least) / (LIFTS.most - LIFTS.least)) * (LIFTS.base - LIFTS.top);
}

function drawLifts(view) {
  if (!view.width || !view.lane) return;
  const wide = liftStep(view), zero = liftHeight(0), nodes = [];
  for (const tick of [LIFTS.least, 0, 4, LIFTS.most]) {
    const y = liftHeight(tick);
    nodes.push(draw("line", { x1: LIFTS.left, x2: view.width, y1: y, y2: y, class: tick ? "lp-grid" : "lp-base" }));
    nodes.push(draw("text", { x: LIFTS.left - 6, y: y + 4, "text-anchor": "end", class: "lp-tick" }, fieldWords(tick)));
  }
  view.lane.tokens.forEach((token, i) => {
    const lift = liftOf(token), y = liftHeight(lift || 0), box = { x: (LIFTS.left + i * wide).toFixed(1), width: Math.max(wide - 2, 0.8).toFixed(1) };
    const name = `${lift < 0 ? "lp-lift-bar-below" : "lp-lift-bar"}${token.source === "prefix" ? " lp-lift-given" : ""}`;
    if (lift !== null) nodes.push(draw("rect", { ...box, y: Math.min(y, zero).toFixed(1), height: Math.max(Math.abs(zero - y), 0.6).toFixed(1), class: name }));
  });
  nodes.push(draw("text", { x: LIFTS.left, y: LIFTS.height - 6, class: "lp-tick" }, "token 0; pale: forced"));
  view.svg.replaceChildren(...nodes);
  const most = view.lane.tokens.reduce((best, token) => ((liftOf(token) ?? -99) > (liftOf(best) ?? -99) ? token : best), view.lane.tokens[0]);
  view.svg.setAttribute("aria-label", `Lift of each of ${counted(view.lane.tokens.length, "token")}; largest at token ${most.position}, ${spoken(most.text || "")}.`);
}

function readLift(view, x) {
  const token = x === null || !view.lane ? null : view.lane.tokens[Math.floor((x - LIFTS.left) / liftStep(view))];
  view.readout.textContent = token && liftOf(token) !== null ? describe(token) + ` · lift ${signed(liftOf(token))}` : "";
}

CARD_FACTS.push((add, lane, token) => {
  const { lift, rank, entropy } = token.detail || {};
  if (!isLook(lane)) return;
  if (typeof lift === "number") add("lift", `${signed(lift)} nats, log p ${(token.logprob - lift).toFixed(2).replace("-", "−")} under the reference`);
  if (typeof rank === "number") add("rank of the token", rank.toLocaleString("en"));
  if (typeof entropy === "number") add("entropy", `${entropy.toFixed(2)} nats`);
});

VIEWS.push(newLifts);
