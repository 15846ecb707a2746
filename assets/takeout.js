// Goes in: {"words", "run", "file"} as JSON (props.value): what was done, a run to open, a file to save. Comes out: buttons; events `listing`,
// `database` and `forget`. Deleting asks once more on the same button. Texts are set as texts.

function made(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function button(text, press) {
  const node = made("button", "lp-run-more", text);
  node.type = "button";
  node.addEventListener("click", () => press(node));
  return node;
}

function remover() {
  const ask = "Delete all my runs", node = button(ask, () => {
    if (!node.dataset.sure) { node.dataset.sure = "yes"; node.textContent = "Delete them all for good, shared ones too"; return; }
    reset();
    trigger("forget", {});
  });
  const reset = () => { delete node.dataset.sure; node.textContent = ask; };
  node.addEventListener("blur", reset);
  return node;
}

function save({ name, text, type }) {
  const link = made("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

function drawTakeout() {
  const { words, run, file } = props.value ? JSON.parse(props.value) : {};
  said.replaceChildren(words || "");
  if (run) {
    const open = made("a", "", "Open it");
    open.href = `history?run=${encodeURIComponent(run)}`;
    said.append(" ", open);
  }
  if (file) save(file);
}

const row = made("p", "lp-takeout-row"), said = made("p", "lp-quiet lp-takeout-said");
said.setAttribute("aria-live", "polite");
row.append(button("List as CSV", () => trigger("listing", {})), " ", button("All runs as SQLite", () => trigger("database", {})), " ", remover());
element.querySelector(".lp-takeout").replaceChildren(
  made("p", "lp-quiet", "A run exported as JSON lines, here or elsewhere, becomes one of yours. The SQLite file holds your runs and nobody else's; Loupe opens it as loupe.db of a data directory."),
  row, said,
);
watch("value", drawTakeout);
drawTakeout();
