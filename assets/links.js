// Goes in: {links: [{label, url}, …]} as JSON (props.value). Comes out: each address in a field with Copy; the first is copied at once where the
// browser lets us, else it is selected, ready for Ctrl+C. Texts are set as texts. Doesn't know what a link opens.

function made(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

async function copy(field, button) {
  field.select();
  try { await navigator.clipboard.writeText(field.value); button.textContent = "Copied"; } catch (error) { button.textContent = "Press Ctrl+C"; }
}

function line({ label, url }) {
  const row = made("div", "lp-link-row"), name = made("label", "lp-link"), field = made("input"), button = made("button", "lp-act", "Copy");
  Object.assign(field, { readOnly: true, value: url, size: 12 });
  name.append(made("span", "", label), field);
  button.type = "button";
  button.setAttribute("aria-label", `Copy: ${label}`);
  button.addEventListener("click", () => copy(field, button));
  row.append(name, button);
  return row;
}

function drawLinks() {
  const root = element.querySelector(".lp-links"), { links } = props.value ? JSON.parse(props.value) : { links: [] };
  root.replaceChildren(...links.map(line));
  const first = root.querySelector(".lp-link-row");
  if (first) copy(first.querySelector("input"), first.querySelector("button"));
}

watch("value", drawLinks);
