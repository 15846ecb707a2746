"""Speculative decoding: how much faster can the same text come, without changing it?

Goes in: a prompt, a target model, a drafter. Comes out: rounds (what was drafted, what of it the target accepted, what each part cost) and
their tokens. Plain decoding is the drafter `none`: one loop, so a baseline can't drift.

`source` of a token: `model` (no draft in its round), `draft` (accepted), `correction` (after a refused draft), `bonus` (all accepted).
`detail` of a token: `round` (index), `margin` (by how much a raw logit would have had to differ for another token to come out), `by` (who
drafted it, if drafted), `end` marks a stop id.
`round` lines: `drafted` [[id, text, confidence or null, p, by], …] in the tree's order, `confidence` the drafter's own for this token given
its parent, `p` the target's probability for it there (the law's; under greedy the raw one); `parents` (-1: child of the last token); `path`
(indices of the accepted ones, in order); `accepted` (how many, before a stop id cut the round); `rejected` {id, text, p, q, draw} the first
refused child of the last accepted node (`q` under which probability it was drafted, `draw` the uniform number, where there was one);
`spans` {draft, verify, host} in ms.
`stats`: `drafter`, `law`, `mode`, `n_tokens`, `rounds`, `drafted`, `accepted`, `tokens_per_round`, `acceptance` (accepted / drafted),
`per_position` [[offered, accepted], …], `run_lengths` (rounds by number accepted), `coverage` (rounds with a draft / rounds), `ttft_ms`,
`tokens_per_s`, `ms_per_token`, `spans` {prefill, draft, verify, host}, `costs` {step_ms, c, widths, v, noise}. All but the times are
what `trace.summarize` reads from the run's own `round` lines; the prefill and its one token are no round.
`finding` kinds: `warning` {text}.
"""
