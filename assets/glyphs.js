// Goes in: text written by a model. Comes out: DOM pieces and plain strings in which nothing is invisible and nothing acts.
// Doesn't know lanes, cards or pictures. All text enters the page by textContent.

const NAMED = new Map([
  [0x00a0, "NBSP"], [0x00ad, "SHY"], [0x034f, "CGJ"], [0x061c, "ALM"], [0x115f, "HCF"], [0x1160, "HJF"], [0x180e, "MVS"],
  [0x200b, "ZWSP"], [0x200c, "ZWNJ"], [0x200d, "ZWJ"], [0x200e, "LRM"], [0x200f, "RLM"], [0x2028, "LS"], [0x2029, "PS"],
  [0x202a, "LRE"], [0x202b, "RLE"], [0x202c, "PDF"], [0x202d, "LRO"], [0x202e, "RLO"], [0x2060, "WJ"],
  [0x2066, "LRI"], [0x2067, "RLI"], [0x2068, "FSI"], [0x2069, "PDI"], [0x2800, "BLANK"], [0x3164, "HF"],
  [0xfeff, "BOM"], [0xffa0, "HHF"], [0x0d, "CR"], [0x00, "NUL"], [0x08, "BS"], [0x1b, "ESC"], [0x7f, "DEL"],
]);
// Controls, format characters, unassigned ones, odd spaces, blank letters, variation selectors.
const UNSEEN = new RegExp(
  "[\\p{C}\\p{Zl}\\p{Zp}\\u00a0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000\\u034f\\u115f\\u1160\\u2800\\u3164\\uffa0"
  + "\\ufe00-\\ufe0f\\u{e0100}-\\u{e01ef}]", "u");
const VISIBLE_BLANKS = { " ": ["lp-sp", "·", "space"], "\n": ["lp-nl", "⏎", "line end"], "\t": ["lp-tab", "⇥", "tab"] };

function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function codeOf(character) {
  return "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
}

function nameOf(character) {
  const code = character.codePointAt(0);
  if (code >= 0xe0020 && code <= 0xe007e) return "TAG " + String.fromCharCode(code - 0xe0000);
  return NAMED.get(code) || codeOf(character);
}

// Text as nodes. Blanks and line ends stay real characters (so copying gives the text back) and get their sign from CSS;
// other unseen characters are replaced by their short name, so a direction override can't act on the page.
function pieces(text) {
  const nodes = [];
  let plain = /^\p{M}/u.test(text) ? "◌" : "";
  const flush = () => { if (plain) nodes.push(document.createTextNode(plain)); plain = ""; };
  for (const character of text) {
    const blank = VISIBLE_BLANKS[character];
    if (!blank && !UNSEEN.test(character)) { plain += character; continue; }
    flush();
    const node = make("span", blank ? blank[0] : "lp-unseen", blank ? character : nameOf(character));
    if (!blank) node.title = codeOf(character);
    nodes.push(node);
  }
  flush();
  return nodes;
}

// Text as one plain string for tooltips and labels, at most `limit` characters.
function shown(text, limit = 60) {
  let out = "";
  for (const character of text) {
    const blank = VISIBLE_BLANKS[character];
    out += blank ? blank[1] : UNSEEN.test(character) ? `⟨${nameOf(character)}⟩` : character;
    if (out.length > limit) return out.slice(0, limit - 1) + "…";
  }
  return out;
}

// A sentence from anywhere (a verdict, a warning, an error, a name): it reads as it is, but nothing in it is unseen or turns the line around.
function prose(text) {
  return Array.from(String(text ?? ""), (c) => (!VISIBLE_BLANKS[c] && UNSEEN.test(c) ? `⟨${nameOf(c)}⟩` : c)).join("");
}

// Text for a screen reader: blanks by name.
function spoken(text) {
  if (!text) return "no text";
  let out = "";
  for (const character of text) {
    const blank = VISIBLE_BLANKS[character];
    out += blank ? ` ${blank[2]} ` : UNSEEN.test(character) ? ` ${nameOf(character)} ` : character;
  }
  return out.trim();
}

// The unseen characters of a text, each as "U+202E RLO".
function unseen(text) {
  const names = new Set();
  for (const character of text) {
    if (!VISIBLE_BLANKS[character] && UNSEEN.test(character)) names.add(`${codeOf(character)} ${NAMED.get(character.codePointAt(0)) || ""}`.trim());
  }
  return [...names];
}

function probability(p) {
  if (typeof p !== "number") return "–";
  if (p === 0) return "0";
  return p >= 0.0995 ? p.toFixed(2) : p >= 0.00095 ? p.toFixed(3) : p.toExponential(0).replace("e-", "e−");
}

function counted(n, one, many = one + "s") {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}
