// Goes in: JSON (props.value). Comes out: a table of rows (an array of objects), a list of facts (an object) or a paragraph (a string).
// Every text is set as text, so nothing that a model or a person wrote becomes markup. Doesn't know what the values mean.

function words(value) {
  if (value === null || value === undefined) return "–";
  if (value === true) return "yes";
  if (value === false) return "no";
  if (typeof value === "number") return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(4)));
  if (Array.isArray(value)) return value.length ? value.map((inner) => Array.isArray(inner) ? inner.map(words).join(" ") : words(inner)).join(", ") : "none";
  if (typeof value === "object") return Object.entries(value).map(([key, inner]) => `${key}: ${words(inner)}`).join("; ");
  return String(value);
}

// The glossary's definition of a term, on a page that brings the glossary along.
function term(made) {
  return typeof explained === "function" ? explained(made) : made;
}

function node(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function facts(object) {
  const list = node("dl", "lp-facts");
  for (const [key, value] of Object.entries(object)) list.append(term(node("dt", "", key)), node("dd", "", words(value)));
  return list;
}

function table(rows) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const made = node("table", "loupe-table"), head = node("tr");
  for (const name of names) { const cell = term(node("th", "", name)); cell.scope = "col"; head.append(cell); }
  made.append(node("thead"), node("tbody"));
  made.firstChild.append(head);
  for (const row of rows) {
    const line = node("tr");
    names.forEach((name, i) => line.append(i ? node("td", "", words(row[name])) : term(node("td", "", words(row[name])))));
    made.lastChild.append(line);
  }
  return made;
}

function draw() {
  const value = props.value ? JSON.parse(props.value) : "";
  const root = element.querySelector(".lp-said");
  if (value === "") { root?.replaceChildren(); return; }
  const made = Array.isArray(value) ? table(value) : typeof value === "object" ? facts(value) : term(node("span", "", value));
  if (root) root.replaceChildren(made);
}

watch("value", draw);
draw();
