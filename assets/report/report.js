// Goes in: the data block of the file. Comes out: the strip, drawn by the very scripts of the pages, and the parts below it. Every text is set
// as text. Doesn't know a server: what the pages ask of one is not offered here. `STRIP` and `SAID` are those scripts, as functions.

const data = JSON.parse(document.getElementById("data").textContent);

function mount(script, element, value, trigger = () => {}) {
  const props = { value }, changed = [];
  script(element, trigger, props, undefined, (name, told) => changed.push(told));
}

function said(id, value) {
  const place = document.getElementById(id);
  if (Array.isArray(value) && !value.length) { place.remove(); return; }
  if (place.className === "rp-wide") scrolls(place, id);
  mount(SAID, place, JSON.stringify(value));
}

// What may be wider or higher than its place can be scrolled by keys too.
function scrolls(place, name) {
  place.tabIndex = 0;
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", `${name}; scrolls`);
}

function list(id, sentences) {
  document.getElementById(id).replaceChildren(...sentences.map((sentence) => make("li", "", prose(sentence))));
}

// A table a kind of finding; the first is open.
function findings(kinds) {
  const parts = Object.entries(kinds).map(([kind, rows], i) => {
    const part = make("details"), scroll = make("div", "rp-scroll"), place = make("div", "lp-said");
    part.open = i === 0;
    part.append(make("summary", "", `${prose(kind)} · ${counted(rows.length, "row")}`), scroll);
    scrolls(scroll, `Findings of kind ${prose(kind)}`);
    scroll.append(place);
    mount(SAID, scroll, JSON.stringify(rows));
    return part;
  });
  document.getElementById("findings").replaceChildren(...parts);
  if (!parts.length) document.getElementById("findings-part").remove();
}

// Which of the requests' fields the other lanes have otherwise.
function differing(rows) {
  if (!rows.length) return;
  const place = document.getElementById("lanes-differ"), holder = make("div", "lp-said");
  place.className = "rp-wide";
  scrolls(place, "What the lanes' requests differ in");
  place.append(holder);
  mount(SAID, place, JSON.stringify(rows));
}

function save() {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([`${data.lines.join("\n")}\n`], { type: "application/jsonl" }));
  link.download = `${data.name}.jsonl`;
  link.click();
  URL.revokeObjectURL(link.href);
}

const night = window.matchMedia("(prefers-color-scheme: dark)");
const dress = (dark) => document.documentElement.classList.toggle("dark", dark);
dress(night.matches);
night.addEventListener("change", (event) => dress(event.matches));
// Paper is light, and narrower than the screen that the pictures were drawn for.
window.addEventListener("beforeprint", () => {
  dress(false);
  for (const svg of document.querySelectorAll(".lp-frame svg")) {
    const box = svg.getBoundingClientRect();
    if (!svg.hasAttribute("viewBox")) { svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`); svg.dataset.fits = "paper"; }
  }
});
window.addEventListener("afterprint", () => {
  dress(night.matches);
  for (const svg of document.querySelectorAll("svg[data-fits]")) { svg.removeAttribute("viewBox"); delete svg.dataset.fits; }
});

mount(STRIP, document.getElementById("strip"), `${data.lines.join("\n")}\n`);
list("limits", data.limits);
for (const id of ["figures", "models", "hashes", "facts"]) said(id, data[id]);
along("along", data.lines);
findings(data.findings);
document.getElementById("request").textContent = prose(data.request);
differing(data.differing);
document.getElementById("save").addEventListener("click", save);
