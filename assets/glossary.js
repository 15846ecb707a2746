// Goes in: a term of the field. Comes out: its definition in plain words, for whoever hovers. The one place where terms are explained.

const GLOSSARY = {
  "nats taken by the grammar": "How much of the model's probability the grammar ruled out before this token: minus the natural logarithm of what was kept. 0 is nothing, 0.7 half, 4.6 all but 1 %.",
  p: "Probability that the model itself gave this token, without grammar and at temperature 1; log is its natural logarithm.",
  kept: "Share of the model's probability on tokens that the grammar allowed here.",
  allowed: "How many tokens of the vocabulary the grammar allowed here.",
  wanted: "The model's own favourite, which the grammar refused.",
  "raw p": "Probability under the model alone: no grammar, temperature 1.",
  "tokens against seconds": "How much of the answer each method had at each moment, from the start of its own run, the prompt's reading included. A step is a round: its tokens come together.",
  rounds: "A round: some tokens are drafted, the target checks them in one forward, keeps those it would have written itself and adds one of its own.",
  round: "The round that gave this token, and how many of its drafted tokens were accepted.",
  accepted: "Drafted tokens that the target kept in this round.",
  refused: "The drafted token that stood here. p: the target's probability for it, q: the drafter's, draw: the random number; it is kept while draw < p / q. Without sampling it is kept only if it is the target's first choice.",
  margin: "First choice minus second, in the target's raw logits. Where it is near zero, rounding alone can change the choice.",
  "drafted by": "Who proposed this token before the target accepted it.",
  "target p": "The target's probability for this token at this place of the tree.",
  confidence: "The drafter's own probability for this token, given the tokens before it.",
  "draft ms": "Time to propose the tokens of a round.",
  "verify ms": "Time of the target's one forward over all drafted tokens of a round, with the decision which are kept.",
  "host ms": "The rest of a round: keeping the cache and the drafter up to date.",
  "tokens a round": "Tokens that a round gave on average: those accepted and one more, (accepted + rounds) / rounds; the prompt's own token is not counted. Plain decoding has 1.",
  acceptance: "Accepted tokens / drafted tokens. Comparable between chains only: a tree drafts many tokens of which one branch can be right.",
  "rounds with a draft": "Share of rounds in which anything was drafted. Nothing can be refused where nothing was proposed.",
  "drafted tokens": "Tokens proposed and checked by the target, over all rounds.",
  "accepted tokens": "Proposed tokens that the target kept, over all rounds.",
  "acceptance by position": "Of the rounds in which the 1st, 2nd, … drafted token was reached (all before it were accepted), the share that accepted it.",
  "run lengths": "How many rounds accepted 0, 1, 2, … drafted tokens.",
  "acceptance against confidence": "Drafted tokens that were tried (all before them accepted), sorted by the drafter's confidence: on the diagonal the drafter knows how good it is.",
  "speed-up curve": "Predicted speed-up E / (γ·c + v): E tokens a round, γ drafted tokens, c the time of a draft step and v the time of one verification, both in single steps of the target.",
  c: "Time of one step of the drafter / time of one step of the target. 0: drafting costs nothing.",
  v: "Time of one verification / time of one single step of the target. 1: checking many tokens costs no more than writing one.",
  "speed-up": "Plain's time a token / this method's time a token, on the same prompt. Below 1 it is slower than plain.",
  identical: "Prompts on which the method gave exactly the tokens of plain decoding.",
  "final p": "Probability that the token was drawn with: after grammar, temperature, top-k and top-p.",
};

// Adds the definition to a node whose text is the term.
function explained(node) {
  const says = GLOSSARY[node.textContent];
  if (says) { node.title = says; node.classList.add("lp-term"); }
  return node;
}
