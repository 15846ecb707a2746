// Goes in: nothing. Comes out: two date fields; event `choose` {since, until}: moments in UTC between which runs are wanted, or "".
// Days are the reader's own: from the first moment of one to the last of the other.

function day(label, id) {
  const line = document.createElement("label"), words = document.createElement("span"), field = document.createElement("input");
  words.textContent = label;
  field.type = "date";
  field.id = id;
  line.append(words, field);
  return [line, field];
}

function moment(text, later) {
  const [year, month, date] = text.split("-").map(Number);
  return text ? new Date(year, month - 1, date + later).toISOString() : "";
}

const [sinceLine, since] = day("From", "since"), [untilLine, until] = day("to", "until");
for (const field of [since, until]) {
  field.addEventListener("change", () => trigger("choose", { since: moment(since.value, 0), until: moment(until.value, 1) }));
}
element.querySelector(".lp-drawn").replaceChildren(sinceLine, untilLine);
