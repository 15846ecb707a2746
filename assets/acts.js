// Goes in: {} | {view: "offer" | "links" | "shipped" | "words", …} | {file: {name, text, type}} as JSON (props.value). Comes out: the row of
// actions under a strip and, below it, what sharing would show or the links; events `offer`, `publish`, `revoke`, `take` {form}, `again`.
// Texts are set as texts. Doesn't know the run.

const FORMS = [["jsonl", "JSON lines"], ["csv", "CSV of the tokens"], ["html", "HTML report, opens offline"]];
const COPIED_MS = 2000;

function made(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function button(words, act, className) {
  const node = made("button", className || "lp-act", words);
  node.type = "button";
  node.addEventListener("click", () => act(node));
  return node;
}

// A menu that a key closes and that closes itself when something is chosen or the focus leaves.
function exportMenu() {
  const menu = made("details", "lp-export"), list = made("div", "lp-export-forms");
  menu.append(made("summary", "lp-act", "Export"), list);
  list.append(...FORMS.map(([form, words]) => button(words, () => { menu.open = false; trigger("take", { form }); })));
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.preventDefault();
    menu.open = false;
    menu.firstChild.focus();
  });
  menu.addEventListener("focusout", (event) => { if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false; });
  return menu;
}

function save({ name, text, type }) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

// Inside a frame the clipboard may be closed to us; then the address is selected, ready for Ctrl+C.
async function copy(field, node) {
  field.select();
  try { await navigator.clipboard.writeText(field.value); node.textContent = "Copied"; } catch (error) { node.textContent = "Press Ctrl+C"; }
  setTimeout(() => { node.textContent = "Copy"; }, COPIED_MS);
}

function link({ label, url }) {
  const line = made("label", "lp-link"), field = made("input");
  field.readOnly = true;
  field.value = url;
  field.size = 30;
  line.append(made("span", "", label), field);
  const row = made("div", "lp-link-row"), copier = button("Copy", (node) => copy(field, node));
  copier.setAttribute("aria-label", `Copy: ${label}`);
  row.append(line, copier);
  return row;
}

function facts(object) {
  const list = made("dl", "lp-facts lp-public");
  for (const [name, value] of Object.entries(object)) list.append(made("dt", "", name), made("dd", "", String(value)));
  return list;
}

function close() {
  view.replaceChildren();
  view.hidden = true;
}

function revoker() {
  const node = button("Stop sharing", () => {
    if (node.dataset.sure) { node.disabled = true; trigger("revoke", {}); return; }
    node.dataset.sure = "yes";
    node.textContent = "Stop sharing: the link will open nothing";
  });
  node.addEventListener("blur", () => { delete node.dataset.sure; node.textContent = "Stop sharing"; });
  return node;
}

const VIEWS = {
  offer: ({ public: told, kept, warning }) => {
    const row = made("div", "lp-acts-row");
    row.append(button("Make the link", (node) => { node.disabled = true; trigger("publish", {}); }, "lp-act lp-act-first"), button("Keep it private", close));
    const parts = [made("h3", "", "Whoever has the link will see this"), facts(told), made("p", "lp-quiet", kept), row];
    if (warning) parts.splice(2, 0, made("p", "lp-acts-warning", `! ${warning}`));
    return parts;
  },
  links: ({ links, words, revocable }) => {
    const row = made("div", "lp-acts-row");
    if (revocable) row.append(revoker());
    row.append(button("Close", close));
    return [made("h3", "", "Shared"), made("p", "lp-quiet", words || "Whoever has this link can read the run, without a login."), ...links.map(link), row];
  },
  shipped: ({ links, words }) => [made("p", "lp-quiet", words), ...links.map(link), button("Close", close)],
  words: ({ words }) => [made("p", "lp-quiet", words), button("Close", close)],
};

function drawActs() {
  const value = props.value ? JSON.parse(props.value) : {};
  if (value.file) { save(value.file); return; }
  if (!Object.hasOwn(VIEWS, value.view || "")) { close(); return; }
  view.replaceChildren(...VIEWS[value.view](value));
  view.hidden = false;
  view.querySelector("button, input")?.focus({ preventScroll: true });
}

const row = made("div", "lp-acts-row"), view = made("section", "lp-sharing");
view.setAttribute("aria-label", "Sharing");
view.setAttribute("aria-live", "polite");
view.hidden = true;
row.append(button("Share …", () => trigger("offer", {})), button("Run again", () => { close(); trigger("again", {}); }), exportMenu());
element.querySelector(".lp-acts").replaceChildren(row, view);
watch("value", drawActs);
