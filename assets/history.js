// Goes in: {"rows": [...], "more": bool} as JSON (props.value). Comes out: a list of runs; events `open`, `delete` {run} and `more`.
// Texts are set as texts. Deleting asks once more on the same button. Doesn't know the store or what a run is.

const FACTS = ["panel", "lane", "model", "status"];

function made(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function when(at) {
  const date = new Date(at);
  return Number.isNaN(date.valueOf()) ? at : date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

function opener(row) {
  const link = made("a", "lp-run-open", row.prompt || "(empty prompt)");
  link.href = `history?run=${encodeURIComponent(row.run)}`;
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    window.history.replaceState(null, "", link.href);
    trigger("open", { run: row.run });
    window.scrollTo({ top: 0 });
  });
  return link;
}

function remover(row) {
  const button = made("button", "lp-run-delete", "Delete");
  button.type = "button";
  button.addEventListener("click", () => {
    if (button.dataset.sure) { button.disabled = true; trigger("delete", { run: row.run }); return; }
    button.dataset.sure = "yes";
    button.textContent = "Delete for good";
  });
  button.addEventListener("blur", () => { delete button.dataset.sure; button.textContent = "Delete"; });
  return button;
}

function item(row) {
  const node = made("li", "lp-run"), meta = made("p", "lp-run-meta"), acts = made("p", "lp-run-acts");
  const facts = FACTS.map((name) => row[name]).filter(Boolean);
  if (row.seconds !== null) facts.push(`${row.seconds} s`);
  meta.textContent = [when(row.at), ...facts].join(" · ");
  if (row.page) { const again = made("a", "", "Open in panel"); again.href = `${row.page}?run=${encodeURIComponent(row.run)}`; acts.append(again); }
  acts.append(remover(row));
  node.dataset.run = row.run;
  node.append(opener(row), made("p", "lp-run-text", row.text), meta, acts);
  return node;
}

function drawRuns() {
  const root = element.querySelector(".lp-runs"), value = props.value ? JSON.parse(props.value) : { rows: [] };
  if (!root) return;
  const list = made("ul", "lp-run-list");
  list.append(...value.rows.map(item));
  root.replaceChildren(value.rows.length ? list : made("p", "lp-quiet", "No runs here yet."));
  if (!value.more) return;
  const more = made("button", "lp-run-more", "Older runs");
  more.type = "button";
  more.addEventListener("click", () => { more.disabled = true; trigger("more", {}); });
  root.append(more);
}

watch("value", drawRuns);
drawRuns();
