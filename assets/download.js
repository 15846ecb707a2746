// Goes in: {"name", "rows"} or {"name", "text"} as JSON (props.value). Comes out: a button that saves the rows as CSV or the text as it
// is, or nothing without either.
// A cell that a spreadsheet would take for a formula gets an apostrophe. Everything happens in the browser.

function cell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv(rows) {
  const names = Object.keys(rows[0]);
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

function save(name, content, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

function drawDownload() {
  const { name, rows = [], text = "" } = props.value ? JSON.parse(props.value) : {};
  const root = element.querySelector(".lp-download"), button = document.createElement("button");
  if (!root) return;
  button.type = "button";
  button.className = "lp-run-more";
  button.textContent = text ? "Download JSON" : "Download CSV";
  button.addEventListener("click", () => (text ? save(name, text, "application/json") : save(name, csv(rows), "text/csv")));
  root.replaceChildren(...(text || rows.length ? [button] : []));
}

watch("value", drawDownload);
drawDownload();
