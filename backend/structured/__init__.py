"""Structured generation: does the model still say what it wants when a grammar holds its hand, and what does the grammar cost?

Goes in: a prompt and a grammar (JSON Schema, plain JSON, regular expression, EBNF, structural tag). Comes out: tokens with what the
grammar did to each, then whether the text is what was asked for. XGrammar works in a process of its own (`engine`, `worker`).

`detail` of a token under a grammar: `allowed` (how many ids), `kept` (probability mass they had before the mask), `taken` (nats, where
`kept` is tiny), `wanted` ([id, text] of the model's favourite, where it was refused); `end` marks a stop id.
`stats`: `valid`, `state` (valid, invalid, not_json, truncated, dead_end), `message`, `path`, `n_tokens`, `ttft_ms`, `tokens_per_s`,
`ms_per_token`, `spans` {model, mask, compile} in ms; under a grammar also `compile_ms`, `mask_ms` (mean), `taken_nats`, `forced`,
`overridden`.
`finding` kinds: `lint` {path, keyword, effect, message}, `warning` {text}.

Nothing is imported here: the grammar worker is a module of this package and must start without torch models or transformers.
"""
