"""Small-large routing: how few tokens of the large model are enough?

Goes in: a prompt, a small and a large model that share their tokens, a way to decide. Comes out: tokens with their author. The small model
proposes every token; where the decision falls against it, the large one reads in one forward what it has not read yet and says the token
itself (Fu et al. 2025, "R2R"). One loop for every lane: *always* is the large model alone, *never* the small one alone.

`source` of a token: `small`, `large`, `prefix`.
`detail` of a token: `score` (what the strategy compares with its threshold, higher: more in doubt), `routed` (whether the strategy asked for
the large model), `entropy` (of the small model, nats), `forced` (the request decided here, not the strategy), `proposal` ([id, text] that
the small model had wanted, where the large one said something else), `gap` (tokens that the large model had to read first), `spans`
{small, router, large} in ms of a large token, `end` marks a stop id.
`stats`: `strategy`, `threshold` (at the end; absent where a target led), `target_fraction`, `n_tokens`, `large_tokens`, `share`, `gaps`
{mean, max}, `ttft_ms`, `tokens_per_s`, `ms_per_token` (both without what happens between steps), `spans`
{prefill_small, prefill_large, small, router, catch_up, opinions} in ms, `agreement` (share of the small model's tokens that the large one
would have said too), `n_opinions`, `predicted_speedup` over the large model alone (none for always and oracle), `predicted_from`
{small_ms, router_ms, large_ms, catch_up} (the last in steps of the large model), `activated_params` {paper, recorder} a token,
`params` {small, router, large}.
`finding` kinds: `opinion` {position, id, text, p_small_token, agree} (what the large model thinks of a small token, known once it has read it);
`warning` {text}.
"""
