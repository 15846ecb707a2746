// Goes in: one lane of a replay, cut where somebody looks. Comes out: "guess the next token" for a class: a field, or the candidates that the lines
// themselves carry; a guess uncovers the token, says what it was and how sure the model was, and keeps the score.
// Doesn't know times or pictures: those follow the replay.

// Of a token without visible text, what may be typed for it.
const SAID = { "\n": ["⏎", "line end", "newline"], " ": ["·", "space", "blank"], "\t": ["⇥", "tab"], "": ["end"] };

function newGuess(replay) {
  const guess = { replay, only: null, first: 0, right: 0, asked: 0, said: "" };
  guess.node = make("div", "lp-guess");
  guess.node.hidden = true;
  guess.pick = make("select");
  guess.pick.setAttribute("aria-label", "Whose next token");
  guess.pick.addEventListener("change", () => beginGuess(guess, replay.lanes[Number(guess.pick.value)]));
  guess.form = make("form", "lp-guess-form");
  guess.field = make("input");
  Object.assign(guess.field, { type: "text", autocomplete: "off", spellcheck: false, maxLength: 80 });
  guess.field.setAttribute("aria-label", "The next token");
  const say = make("button", "lp-what-if", "Guess");
  say.type = "submit";
  guess.form.append(make("span", "", "What comes next?"), guess.field, say);
  guess.form.addEventListener("submit", (event) => { event.preventDefault(); answerGuess(guess, guess.field.value); });
  guess.choices = make("div", "lp-guess-choices");
  guess.told = make("p", "lp-guess-told");
  guess.node.append(guess.pick, guess.form, guess.choices, guess.told);
  return guess;
}

function guessSwitch(replay) {
  const label = replaySwitch("guess the next token", (on) => (on ? beginGuess(replay.guess, replay.lanes[0]) : endGuess(replay.guess)));
  replay.guess.box = label.querySelector("input");
  return label;
}

// Where somebody stands in the middle the guessing goes on from there; else from the first token that was not given.
function beginGuess(guess, lane) {
  const { replay } = guess, at = replay.shadows && guess.only === lane ? replay.at : null;
  pause(replay);
  leave(replay);
  const free = lane.tokens.findIndex((token) => token.source !== "prefix");
  Object.assign(guess, { only: lane, first: Math.max(free, 0), right: 0, asked: 0, said: "" });
  guess.pick.replaceChildren(...replay.lanes.map((one, i) => guessOption(one, i, one === lane)));
  guess.pick.hidden = replay.lanes.length < 2;
  guess.node.hidden = false;
  replay.strip.node.classList.add("lp-guessing");
  order(replay);
  showAt(replay, at ?? guess.first);
  guess.field.focus();
}

function guessOption(lane, i, selected) {
  const option = make("option", "", lane.name);
  Object.assign(option, { value: i, selected });
  return option;
}

function endGuess(guess) {
  const { replay } = guess;
  Object.assign(guess, { only: null, first: 0 });
  guess.box.checked = false;
  guess.node.hidden = true;
  replay.strip.node.classList.remove("lp-guessing");
  pause(replay);
  leave(replay);
  order(replay);
  drawReplay(replay);
}

function nextToken(guess) {
  return guess.only ? guess.only.tokens[guess.replay.at] : undefined;
}

// Asks for the token that stands next, wherever the replay stands now.
function askGuess(guess) {
  if (!guess.only) return;
  const token = nextToken(guess), texts = token ? candidateTexts(guess.only, token) : [];
  guess.form.hidden = !token;
  guess.field.value = "";
  guess.choices.replaceChildren(...texts.map((text) => choiceButton(guess, text)));
  guess.choices.hidden = !texts.length;
  guess.told.textContent = [guess.said, token ? "" : "That was the whole answer.", guess.asked ? `${guess.right} of ${guess.asked} right` : ""].filter(Boolean).join(" · ");
  guess.said = "";  // who steps on without a guess hears no more of the last one
}

function choiceButton(guess, text) {
  const button = make("button", "lp-what-if lp-mono");
  button.type = "button";
  button.append(...(text ? pieces(text) : [make("span", "lp-unseen", "end")]));
  button.setAttribute("aria-label", `Guess ${spoken(text || "the end")}`);
  button.addEventListener("click", () => answerGuess(guess, text, true));
  return button;
}

// What the lines say was possible here: what was wanted, proposed, drafted or refused. In the order of the alphabet, which betrays nothing.
function candidateTexts(lane, token) {
  const detail = token.detail || {}, round = roundOf(lane, token);
  const opinion = lane.findings.find(({ kind, data }) => kind === "opinion" && data && data.position === token.position);
  const known = [detail.wanted, detail.proposal, detail.own, detail.source_top].map((choice) => (Array.isArray(choice) ? choice[1] : undefined));
  if (round && token.source === "correction") known.push((round.rejected || {}).text);
  if (opinion && opinion.data.agree === false) known.push(opinion.data.text);
  const texts = [...new Set([token.text, ...known.filter((text) => typeof text === "string")])];
  return texts.length > 1 ? texts.sort() : [];
}

// A guess holds if it is the token but for blanks around it, or a word for a token that can't be seen.
function isToken(guessed, token) {
  const text = token.text || "", bare = text.trim(), typed = guessed.trim();
  if (bare) return typed === bare;
  const words = Object.hasOwn(SAID, text) ? SAID[text] : [];
  return guessed === text || words.includes(typed.toLowerCase()) || (typed !== "" && typed === shown(text));
}

function answerGuess(guess, text, picked = false) {
  const token = nextToken(guess), { replay } = guess;
  if (!token || (!picked && !text)) return;
  const held = picked ? text === token.text : isToken(text, token);
  const was = `it said ${token.text ? shown(token.text) : "its end"}${typeof token.logprob === "number" ? `, p ${probability(Math.exp(token.logprob))}` : ""}`;
  guess.asked += 1;
  guess.right += held ? 1 : 0;
  guess.said = held ? `Right: ${was}` : `You guessed ${shown(text) || "its end"}; ${was}`;
  pause(replay);
  showAt(replay, replay.at + 1);
  announce(replay.strip, guess.told.textContent);
  if (!guess.form.hidden) guess.field.focus();
}
