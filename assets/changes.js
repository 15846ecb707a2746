// Goes in: items whose answer was changed, as JSON (props.value): {set, question, answer, before, after, before_right, after_right, solvable}.
// Comes out: a list, each answer with what went struck and what came underlined, character by character. Texts are set as texts. Doesn't know
// who changed them.

const LONGEST_COMPARED = 600;

function made(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// lengths[i][j]: how much of a from i on and of b from j on can be read in both, in order
function common(a, b) {
  const lengths = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = a[i] === b[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  return lengths;
}

// Runs of [kept | gone | come, text]; a change takes out before it puts in.
function differences(before, after) {
  const a = [...before].slice(0, LONGEST_COMPARED), b = [...after].slice(0, LONGEST_COMPARED), lengths = common(a, b), runs = [];
  const add = (kind, character) => {
    if (runs.length && runs[runs.length - 1][0] === kind) runs[runs.length - 1][1] += character; else runs.push([kind, character]);
  };
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { add("kept", a[i]); i += 1; j += 1; }
    else if (j >= b.length || (i < a.length && lengths[i + 1][j] >= lengths[i][j + 1])) { add("gone", a[i]); i += 1; }
    else { add("come", b[j]); j += 1; }
  }
  return [before, after].some((text) => [...text].length > LONGEST_COMPARED) ? [...runs, ["kept", " …"]] : runs;
}

function answerNode(row) {
  const line = made("p", "lp-change-answer");
  for (const [kind, text] of differences(String(row.before), String(row.after))) {
    line.append(made({ gone: "del", come: "ins", kept: "span" }[kind], "", text));
  }
  return line;
}

function verdictOf(row) {
  const words = row.before_right === row.after_right ? (row.after_right ? "right both times" : "wrong both times")
    : row.after_right ? "was wrong, now right" : "was right, now wrong";
  const able = row.solvable === true ? ", within its ability" : row.solvable === false ? ", beyond its ability" : "";
  return `${row.set}: ${words}${able}; the known answer is ${row.answer}`;
}

function changeNode(row) {
  const item = made("li", row.before_right && !row.after_right ? "lp-change-lost" : "");
  item.append(made("p", "lp-change-question", row.question), answerNode(row), made("p", "lp-change-words", verdictOf(row)));
  return item;
}

function drawChanges() {
  const rows = props.value ? JSON.parse(props.value) : "", root = element.querySelector(".lp-changes");
  if (!root) return;
  root.replaceChildren();
  if (!rows) return;
  const list = made("ul");
  list.tabIndex = 0; // it scrolls, so the keyboard must reach it
  list.setAttribute("aria-label", "Answers before and after");
  list.append(...rows.map(changeNode));
  root.append(list);
}

watch("value", drawChanges);
drawChanges();
