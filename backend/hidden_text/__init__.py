"""Hidden text: is a text buried in these weights, and what is it?

Goes in: a suspect model and, better, a reference (its base, or any relative with the same tokenizer); no knowledge of what is hidden. Comes out:
for a scan a ranked list of candidate texts, for a look the tokens that follow a forced beginning. Methods: `hidden_text` (`method`),
`hidden_text.scan` (`job`), `hidden_text.plant` (`plant`).

A look. `detail` of a token: `p`, `rank` (1: the suspect's favourite), `entropy` (nats), `lift` (log p suspect − log p reference, where there is
one), `end` marks a stop id; `source` is `prefix` for what was forced. `stats`: `n_tokens`, `mean_logprob`, `lift` (mean over chosen tokens),
`tokens_per_s`.

A scan. `finding` kinds:
`vocabulary` {forced, special, padding, repeated}: how many ids there are of each kind;
`map` {sweep, context, cells, values [[cell, merit], …]}: merit is the best mean lift so far of the tokens of a cell (log-probability without
reference); a cell may come again, the highest counts;
`best` {candidates [{text, score, found_by, votes}, …]}: the first ten so far;
`candidate` {rank, score, text, stitched, context, found_by, columns, ids, context_ids}: the final list. `columns`: votes (starts and contexts
that fell into its best-known run of six tokens), contexts, texts, certainty (what raises the alarm), reference_mean and reference_rule (the
published score and threshold), mean_logprob, min_logprob, lift, confident_lift, lift_run, reference_logprob, entropy, entropy_drop, period,
periodic, min_k, rarity, extended_left (tokens put before `stitched`), ends;
`calibration` {words, p, smallest, n}; `warning` {text}.
`stats`: candidates, text, found_by, score (the highest certainty of any candidate, listed or not), p, smallest_p, clean_models, calibration,
alarm (null where nothing calibrates it), reference, starts, beam_contexts, texts, cut, tokens_per_s, ledger, sentence.
Artifact: `scan` (the ledger's chunks, `candidates.jsonl`).
"""
