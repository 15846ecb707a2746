// Goes in: {rows, from, more, count, filtered} (a page of entries; `from` 0 begins anew), {changed: {run, title, tags, note}} or {gone: run} as JSON
// (props.value). Comes out: the list of entries; events `open`, `remove` {run}, `pin` {run, on}, `describe` {run, title, tags, note},
// `bytag` {tag}, `more` {from}. Texts are set as texts. Two to four entries can be ticked for the compare page. Doesn't know the store.

const MOST = 4;
const entries = new Map(), ticked = new Set();
let total = { count: 0, filtered: false };

function made(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function button(words, act, className) {
  const node = made("button", className, words);
  node.type = "button";
  node.addEventListener("click", () => act(node));
  return node;
}

function when(at) {
  const date = new Date(at);
  return Number.isNaN(date.valueOf()) ? at : date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

function opener(row) {
  const link = made("a", "lp-run-open", row.title || row.prompt || "(empty prompt)");
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

function ticker(row) {
  const box = made("input", "lp-run-tick");
  box.type = "checkbox";
  box.checked = ticked.has(row.run);
  box.setAttribute("aria-label", `Compare: ${row.title || row.prompt || "(empty prompt)"}`);
  box.addEventListener("change", () => { if (box.checked) ticked.add(row.run); else ticked.delete(row.run); drawTicked(); });
  return box;
}

function remover(row) {
  const lanes = row.lanes > 1 ? ` all ${row.lanes} lanes` : "";
  const node = button("Delete", () => {
    if (node.dataset.sure) { node.disabled = true; trigger("remove", { run: row.run }); return; }
    node.dataset.sure = "yes";
    node.textContent = `Delete${lanes} for good`;
  });
  node.addEventListener("blur", () => { delete node.dataset.sure; node.textContent = "Delete"; });
  return node;
}

function facts(row) {
  const told = [when(row.at), row.panel, row.lanes > 1 ? `${row.lanes} lanes` : "", row.model, row.status].filter(Boolean);
  if (row.seconds !== null) told.push(`${row.seconds} s`);
  return told.join(" · ");
}

function tags(row) {
  const line = made("p", "lp-run-tags");
  line.append(...row.tags.map((tag) => {
    const chip = button(tag, () => trigger("bytag", { tag }), "lp-chip");
    chip.title = `only runs tagged ${tag}`;
    return chip;
  }));
  return line;
}

function acts(row) {
  const line = made("p", "lp-run-acts");
  if (row.page) { const again = made("a", "", "Open in panel"); again.href = `${row.page}?run=${encodeURIComponent(row.run)}`; line.append(again); }
  const pin = button(row.pinned ? "Unpin" : "Pin", () => trigger("pin", { run: row.run, on: !row.pinned }));
  line.append(pin, button("Edit", () => edit(row), "lp-run-edit"), remover(row));
  return line;
}

function item(row) {
  const node = made("li", row.pinned ? "lp-run lp-run-pinned" : "lp-run"), head = made("p", "lp-run-head"), body = made("div", "lp-run-body");
  if (row.pinned) head.append(made("span", "lp-run-pin", "pinned"), " ");
  head.append(opener(row));
  body.append(head);
  if (row.title) body.append(made("p", "lp-run-prompt", row.prompt));
  body.append(made("p", "lp-run-text", row.text), made("p", "lp-run-meta", facts(row)));
  if (row.tags.length) body.append(tags(row));
  if (row.note) body.append(made("p", "lp-run-note", row.note));
  node.dataset.run = row.run;
  node.append(ticker(row), body, acts(row));
  return node;
}

function field(label, value, tag) {
  const line = made("label", "lp-run-field"), box = made(tag || "input");
  box.value = value;
  line.append(made("span", "", label), box);
  return [line, box];
}

function edit(row) {
  const entry = entries.get(row.run), form = made("form", "lp-run-form");
  const [titleLine, title] = field("Title", row.title), [tagsLine, words] = field("Tags, with commas between", row.tags.join(", "));
  const [noteLine, note] = field("Note", row.note, "textarea");
  const save = button("Save", () => form.requestSubmit()), leave = () => redraw(row.run, true);
  form.append(titleLine, tagsLine, noteLine, save, button("Cancel", leave));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save.disabled = true;
    trigger("describe", { run: row.run, title: title.value, tags: words.value, note: note.value });
    setTimeout(() => { save.disabled = false; }, 1500);  // a refused change comes back as a message, not as a value
  });
  form.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.preventDefault(); leave(); } });
  entry.node.querySelector(".lp-run-body").append(form);
  entry.node.querySelector(".lp-run-acts").hidden = true;
  title.focus();
}

function redraw(run, focus) {
  const entry = entries.get(run), node = item(entry.row);
  entry.node.replaceWith(node);
  entry.node = node;
  if (focus) node.querySelector(".lp-run-edit").focus();
}

function drawTicked() {
  const n = ticked.size, link = made("a", "", "Compare");
  link.href = `compare?runs=${[...ticked].map(encodeURIComponent).join(",")}`;
  const words = n < 2 ? `${n} chosen; choose another one to compare` : n > MOST ? `${n} chosen; at most ${MOST} can be compared` : `${n} chosen`;
  const clear = button("Clear", () => { ticked.clear(); drawTicked(); list.querySelectorAll(".lp-run-tick").forEach((box) => { box.checked = false; }); });
  bar.replaceChildren(made("span", "", words), ...(n >= 2 && n <= MOST ? [link] : []), clear);
  bar.hidden = n === 0;
}

function added(value) {
  if (!value.from) { entries.clear(); list.replaceChildren(); total = { count: value.count || 0, filtered: value.filtered }; drawTotal(); }
  for (const row of value.rows) {
    if (entries.has(row.run)) continue;
    const node = item(row);
    entries.set(row.run, { row, node });
    list.append(node);
  }
  older.hidden = !value.more;
  older.disabled = false;
}

function drawTotal() {
  const { count, filtered } = total;
  head.textContent = count ? `${count.toLocaleString("en")} ${count === 1 ? "entry" : "entries"}${filtered ? " that fit" : ""}` : "";
  empty.hidden = count > 0;
  empty.textContent = filtered ? "No run fits these filters." : "No runs here yet. Whatever you run on a page is kept here.";
}

function drawRuns() {
  const value = props.value ? JSON.parse(props.value) : { rows: [] };
  if (value.changed && entries.has(value.changed.run)) {
    Object.assign(entries.get(value.changed.run).row, value.changed);
    redraw(value.changed.run, true);
  } else if (value.gone && entries.has(value.gone)) {
    entries.get(value.gone).node.remove();
    entries.delete(value.gone);
    ticked.delete(value.gone);
    total.count -= 1;
    drawTicked();
    drawTotal();
  } else if (value.rows) added(value);
}

const head = made("p", "lp-run-count"), bar = made("p", "lp-run-ticked"), list = made("ul", "lp-run-list"), empty = made("p", "lp-quiet");
const older = button("Older runs", () => { older.disabled = true; trigger("more", { from: entries.size }); }, "lp-run-more");
head.setAttribute("aria-live", "polite");
bar.setAttribute("aria-live", "polite");
older.hidden = true;
bar.hidden = true;
element.querySelector(".lp-drawn").replaceChildren(head, bar, list, empty, older);
watch("value", drawRuns);
drawRuns();
