"""Contamination: how much of a score is memory, which neurons hold it, and what is left without them.

Goes in: a suspect, its base, a clean twin where there is one. Comes out: patched answers of a single run (`method`) and the audit of a benchmark
(`audit`, whose docstring lists its own lines). Shortcut neuron patching after Zhu et al. 2025 (arXiv 2506.04142), with what that paper lacks: an
identity check before every run, ranks instead of raw sums, controls.

`source` of a token: `model` (the unpatched suspect would have said the same, or nothing is patched), `patched` (it would not), `prefix`.
`detail` of a token of a patched run: `kl` (nats by which the patch moved the suspect's law), `source_top` ([id, text] of the source's favourite),
`own` ([id, text] that the unpatched suspect would have said with the same draw, where it is another), `logprobs` {own, patched, source} of this token
in nats; `end` marks a stop id.
`stats`: `n_tokens`, `ttft_ms`, `tokens_per_s`, `ms_per_token`, `spans` {source, patched, own} in ms; of a patched run also `patched_tokens`, `share`,
`kl_mean`, `n_neurons`, `of_neurons`, `neurons` (the list's hash).
`finding` kinds: `identity` {sites, rows, steps, neurons, own_equal, tokens_equal, own_difference, foreign_changed, foreign_difference, dtype, device,
holds, sentence}; a run whose check does not hold ends there. An audit writes no tokens, but findings, in this order: `set`, `power`, `warning`,
`identity`, `accuracy`, `indicator`, `gap`, `curve`, `chosen`, `neurons`, `change`, `suppression`, `control`, `constant`, `diff`, `vote`, `verdict`;
what each holds stands in `audit`.
"""
