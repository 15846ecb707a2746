// Goes in: {"rows": [{"prompt", "panel", "title", "model", "at", "lanes": [{"run", "name"}]}]} as JSON (props.value). Comes out: a list of runs, a
// button a lane; an event `pick` {run}. Texts are set as texts. Doesn't know what is compared already.

function laneButton(lane, prompt) {
  const node = make("button", "lp-what-if", prose(lane.name));
  node.type = "button";
  node.setAttribute("aria-label", `Add ${prose(lane.name)} of ${prose(prompt)}`);
  node.addEventListener("click", () => trigger("pick", { run: lane.run }));
  return node;
}

function pickRow(row) {
  const node = make("li", "lp-pick-row"), lanes = make("p", "lp-pick-lanes"), date = new Date(row.at);
  const at = row.at && !Number.isNaN(date.valueOf()) ? date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "";
  lanes.append(...row.lanes.map((lane) => laneButton(lane, row.prompt)));
  node.append(make("p", "lp-pick-prompt", prose(row.prompt) || "(empty prompt)"), make("p", "lp-quiet", [row.title, row.panel, row.model, at].filter(Boolean).map(prose).join(" · ")), lanes);
  return node;
}

function drawPicker() {
  const rows = (props.value ? JSON.parse(props.value) : {}).rows || [], list = make("ul", "lp-pick-list");
  list.append(...rows.map(pickRow));
  element.querySelector(".lp-pick").replaceChildren(rows.length ? list : make("p", "lp-quiet", "No run of yours and no recording has these words."));
}

watch("value", drawPicker);
drawPicker();
