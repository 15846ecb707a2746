// Goes in: {"answer_prefix", "messages", "role", "system"} as JSON, each part where there is one (props.value). Comes out: a line for each in
// plain words with a button that takes it away; event `take` {part}. What earlier messages say stands in the line's title.

function counts(n, what) {
  return `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
}

const WORDS = {
  answer_prefix: (ids) => [`The answer begins with ${counts(ids.length, "given token")}.`, `token ids ${ids.join(" ")}`],
  messages: (said) => [`The prompt follows ${counts(said.length, "earlier message")}.`, said.map((one) => `${one.role}: ${one.content}`).join("\n")],
  role: (role) => [`The prompt is said by the ${role}.`, ""],
  system: () => ["The system message is empty, not the template's own.", ""],
};

function part(name, value) {
  const line = document.createElement("p"), words = document.createElement("span"), take = document.createElement("button");
  [words.textContent, words.title] = WORDS[name](value);
  take.type = "button";
  take.textContent = "Leave out";
  take.setAttribute("aria-label", `Leave out: ${words.textContent}`);
  take.addEventListener("click", () => { take.disabled = true; trigger("take", { part: name }); });
  line.append(words, " ", take);
  return line;
}

function drawCarried() {
  const root = element.querySelector(".lp-carried"), parts = props.value ? JSON.parse(props.value) : {};
  root?.replaceChildren(...Object.entries(parts).filter(([name]) => Object.hasOwn(WORDS, name)).map(([name, value]) => part(name, value)));
}

watch("value", drawCarried);
drawCarried();
