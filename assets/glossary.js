// Goes in: a term of the field. Comes out: its definition in plain words, for whoever hovers. The one place where terms are explained.

const GLOSSARY = {
  "nats taken by the grammar": "How much of the model's probability the grammar ruled out before this token: minus the natural logarithm of what was kept. 0 is nothing, 0.7 half, 4.6 all but 1 %.",
  p: "Probability that the model itself gave this token, without grammar and at temperature 1; log is its natural logarithm.",
  kept: "Share of the model's probability on tokens that the grammar allowed here.",
  allowed: "How many tokens of the vocabulary the grammar allowed here.",
  wanted: "The model's own favourite, which the grammar refused.",
  "raw p": "Probability under the model alone: no grammar, temperature 1.",
  "final p": "Probability that the token was drawn with: after grammar, temperature, top-k and top-p.",
};

// Adds the definition to a node whose text is the term.
function explained(node) {
  const says = GLOSSARY[node.textContent];
  if (says) { node.title = says; node.classList.add("lp-term"); }
  return node;
}
