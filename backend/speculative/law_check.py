"""Does speculation keep the target's law? The exact joint law of three tokens against counted runs, and bugs that the count must find.

Goes in: a law, a way to draft, how many runs. Comes out: chi-square p-values. The models are tables of logits over six ids, so the joint law
is known by enumeration (216 cells); the library's own assisted generation is held to the same test on tiny Llamas. Knows nothing of loops,
decoders or requests: the simulation here is its own loop of draft, walk, append.

The canaries are wrong on purpose, each in a way that real code has been wrong; a test that does not find them says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from backend.speculative.draft import Draft, chain, nothing
from backend.speculative.law import Law, Residual, Walk, invert, law_of, make_law
from backend.types import SamplingParams

VOCAB = 6
N_TOKENS = 3
GAMMA = 2
SAMPLING = SamplingParams(temperature=0.7)
LOW = 0.3  # a drafted token with less q ends the draft
FEWEST = 5.0  # cells that expect fewer counts are taken together: below that chi-square's own law is off


@dataclass(frozen=True)
class Table:
    """A model without a network: raw logits `(VOCAB,)` by the last two tokens, or as many as there are."""

    logits: Mapping[tuple[int, ...], torch.Tensor]

    def row(self, context: Sequence[int]) -> torch.Tensor:
        return self.logits[tuple(context[-2:])]

    def rows(self, contexts: Sequence[Sequence[int]]) -> torch.Tensor:
        """The raw logits after each context, `(len(contexts), VOCAB)`."""
        return torch.stack([self.row(context) for context in contexts])


Drafting = Callable[[Law, Table, list[int]], Draft]


def tables(seed: int) -> tuple[Table, Table]:
    """A target and a draft model of which it accepts about three tokens in four."""
    generator = torch.Generator().manual_seed(seed)
    contexts = [ids for length in range(3) for ids in product(range(VOCAB), repeat=length)]
    target = {ids: torch.randn(VOCAB, generator=generator) * 1.2 for ids in contexts}
    draft = {ids: row + torch.randn(VOCAB, generator=generator) * 0.6 for ids, row in target.items()}
    return Table(target), Table(draft)


def drawn(law: Law, model: Table, ids: list[int]) -> Draft:
    """A chain that the draft model draws by the run's law."""
    tokens, laws = [], []
    for _ in range(GAMMA):
        token, q = law.draw(model.row(ids + tokens), len(ids) + len(tokens))
        tokens.append(int(token))
        laws.append(q)
    return chain(tokens, "model", q=None if laws[0] is None else torch.stack(laws))


def favourites(law: Law, model: Table, ids: list[int]) -> Draft:
    """The draft model's argmax, a function of the text."""
    return chain(_favourites(model, ids), "model")


def branches(law: Law, model: Table, ids: list[int]) -> Draft:
    """A tree: the two likeliest tokens, two behind the first, one behind the second."""
    first, second = _best(model, ids, 2)
    under_first, under_second = _best(model, [*ids, first], 2), _best(model, [*ids, second], 1)
    tokens = torch.tensor([first, second, *under_first, *under_second])
    return Draft(tokens, (-1, -1, 0, 0, 1), ("tree",) * 5)


class Warm:
    """Draws by a law of another temperature than the target's, and says so: q is what it drew from."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, law: Law, model: Table, ids: list[int]) -> Draft:
        tokens, laws = [], []
        for _ in range(GAMMA):
            q = law_of(model.row(ids + tokens), replace(SAMPLING, temperature=1.4))
            token = int(invert(q, torch.rand((), dtype=torch.float64, generator=self._generator)))
            tokens.append(token)
            laws.append(q)
        return chain(tokens, "model", q=torch.stack(laws))


class Stopping:
    """Draws by the law until a token has little q. Keeping that token is lossless; dropping it is not."""

    def __init__(self, keep_low: bool) -> None:
        self._keep_low = keep_low

    def __call__(self, law: Law, model: Table, ids: list[int]) -> Draft:
        tokens, laws = [], []
        while len(tokens) < GAMMA:
            token, q = law.draw(model.row(ids + tokens), len(ids) + len(tokens))
            low = q[token].item() < LOW
            if not low or self._keep_low:
                tokens.append(int(token))
                laws.append(q)
            if low:
                break
        return chain(tokens, "model", q=torch.stack(laws)) if tokens else nothing()


def canary_soft_q(law: Law, model: Table, ids: list[int]) -> Draft:
    """Wrong on purpose: the argmax drafted, its softmax handed over as the law that it was drawn from."""
    tokens = _favourites(model, ids)
    return chain(tokens, "model", q=torch.stack([law_of(model.row(ids + tokens[:i]), SAMPLING) for i in range(GAMMA)]))


class CanaryNoResidual(Residual):
    """Wrong on purpose: after a refusal the token is drawn from p, as if nothing had been refused."""

    def walk(self, rows: torch.Tensor, draft: Draft, position: int) -> Walk:
        walk = super().walk(rows, draft, position)
        return self._redrawn(walk, rows, SAMPLING) if walk.kind == "correction" else walk

    def _redrawn(self, walk: Walk, rows: torch.Tensor, sampling: SamplingParams) -> Walk:
        token = int(invert(law_of(rows[len(walk.path)], sampling), self._uniform()))
        return replace(walk, emitted=(*walk.emitted[:-1], token))


class CanaryHotBonus(CanaryNoResidual):
    """Wrong on purpose: the bonus token comes at temperature 1 whatever was asked for."""

    def walk(self, rows: torch.Tensor, draft: Draft, position: int) -> Walk:
        walk = Residual.walk(self, rows, draft, position)
        return self._redrawn(walk, rows, replace(SAMPLING, temperature=1.0)) if walk.kind == "bonus" else walk


class CanaryOneUniform(Residual):
    """Wrong on purpose: the generator is seeded again before every number, so one number decides everything in a run."""

    def __init__(self, sampling: SamplingParams) -> None:
        super().__init__(sampling)
        self._only = super()._uniform()

    def _uniform(self) -> torch.Tensor:
        return self._only


@dataclass(frozen=True)
class Case:
    """One line of the test: how drafts come about, the law of run i, whether it is wrong on purpose, and whether the draft model is the
    target's twin, so that nothing is refused."""

    name: str
    drafting: Drafting
    law: Callable[[int], Law]
    is_canary: bool = False
    twin: bool = False


def cases(seed: int) -> list[Case]:
    """All that must keep the law, then all that must be found out. One generator serves a residual law's runs, one seed each coupled run."""

    def residual(offset: int, kind: type[Residual] = Residual) -> Callable[[int], Law]:
        law = kind(replace(SAMPLING, seed=seed + offset))
        return lambda run: law

    def seeded(kind: Callable[[SamplingParams], Law], offset: int) -> Callable[[int], Law]:
        return lambda run: kind(replace(SAMPLING, seed=(seed + offset) * 1_000_000 + run))

    def coupled(sampling: SamplingParams) -> Law:
        return make_law(sampling, "coupled")

    return [
        Case("residual, drawn draft", drawn, residual(1)),
        Case("residual, greedy draft", favourites, residual(2)),
        Case("residual, tree", branches, residual(3)),
        Case("residual, draft at another temperature", Warm(seed + 4), residual(4)),
        Case("residual, stop after a kept low-q token", Stopping(keep_low=True), residual(5)),
        Case("coupled, drawn draft", drawn, seeded(coupled, 6)),
        Case("coupled, tree", branches, seeded(coupled, 7)),
        Case("canary: residual forgotten", drawn, residual(8, CanaryNoResidual), True),
        Case("canary: bonus at temperature 1", drawn, residual(9, CanaryHotBonus), True, twin=True),
        Case("canary: one uniform for all positions", drawn, seeded(CanaryOneUniform, 10), True),
        Case("canary: softmax q with a greedy draft", canary_soft_q, residual(11), True),
        Case("canary: a drawn token dropped", Stopping(keep_low=False), residual(12), True),
    ]  # fmt: skip


def run(n: int, seed: int) -> list[tuple[str, float, bool]]:
    """(name, p-value, is it a canary) of every case over n runs each; lossless ones should not fall below 0.001, canaries far below 1e-6."""
    target, draft_model = tables(seed)
    probs = joint(target)
    return [(case.name, chi_square(counts(case, target, draft_model, n), probs), case.is_canary) for case in cases(seed)]


def counts(case: Case, target: Table, draft_model: Table, n: int) -> torch.Tensor:
    """How often each of the first three tokens' `VOCAB ** 3` combinations came in n runs."""
    found = [0] * VOCAB**N_TOKENS
    with torch.inference_mode():
        for number in range(n):
            found[_cell(simulate(case.law(number), case.drafting, target, target if case.twin else draft_model))] += 1
    return torch.tensor(found, dtype=torch.float64)


def simulate(law: Law, drafting: Drafting, target: Table, draft_model: Table, n_tokens: int = N_TOKENS) -> list[int]:
    """One run from an empty context until it has `n_tokens`; what a round gives beyond them is cut off."""
    ids: list[int] = []
    while len(ids) < n_tokens:
        draft = drafting(law, draft_model, ids)
        tokens, contexts = draft.tokens.tolist(), [ids]
        for node, parent in enumerate(draft.parents):
            contexts.append([*contexts[parent + 1], tokens[node]])
        ids = [*ids, *law.walk(target.rows(contexts), draft, len(ids)).emitted]
    return ids[:n_tokens]


def joint(target: Table, sampling: SamplingParams = SAMPLING) -> torch.Tensor:
    """The exact law of the first three tokens, `(VOCAB ** 3,)` float64, by enumeration."""
    return enumerate_joint(lambda contexts: target.rows(contexts), sampling)


def enumerate_joint(rows: Callable[[Sequence[Sequence[int]]], torch.Tensor], sampling: SamplingParams) -> torch.Tensor:
    """The same from any function that gives the logits after each of some contexts of one length."""
    probs, contexts = torch.ones(1, dtype=torch.float64), [[]]
    for _ in range(N_TOKENS):
        steps = torch.stack([law_of(row, sampling) for row in rows(contexts)]).double()
        probs = (probs[:, None] * (steps / steps.sum(1, keepdim=True))).flatten()
        contexts = [[*context, token] for context in contexts for token in range(VOCAB)]
    return probs


def chi_square(observed: torch.Tensor, probs: torch.Tensor) -> float:
    """Pearson's p-value of counts under a law; cells that expect fewer than `FEWEST` counts are taken together. Raises `ValueError` where
    that leaves nothing to compare."""
    expected = probs * observed.sum()
    few = expected < FEWEST
    groups = [(observed[~few], expected[~few]), (observed[few].sum()[None], expected[few].sum()[None])]
    got, want = (torch.cat([group[i] for group in groups if group[1].sum() > 0]) for i in (0, 1))
    if len(want) < 2:
        raise ValueError(f"chi-square needs at least two groups of cells, got {len(want)} from {observed.sum():g} counts.")
    statistic = ((got - want) ** 2 / want).sum()
    return torch.special.gammaincc(torch.tensor((len(want) - 1) / 2, dtype=torch.float64), statistic / 2).item()


def assisted(n: int, seed: int) -> float:
    """The reference: p-value of transformers' assisted generation on a pair of tiny random Llamas, at the same temperature and gamma."""
    target, assistant = _llama(seed, 2), _llama(seed + 1, 1)
    assistant.generation_config.update(num_assistant_tokens=GAMMA, num_assistant_tokens_schedule="constant", assistant_confidence_threshold=0.0)
    start = torch.tensor([[0]])
    found = torch.zeros(VOCAB**N_TOKENS, dtype=torch.float64)
    options = {"do_sample": True, "temperature": SAMPLING.temperature, "top_k": 0, "top_p": 1.0, "max_new_tokens": N_TOKENS, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(n):
            ids = target.generate(start, attention_mask=torch.ones_like(start), assistant_model=assistant, **options)
            found[_cell(ids[0, 1:].tolist())] += 1

    def rows(contexts: Sequence[Sequence[int]]) -> torch.Tensor:
        with torch.inference_mode():
            return target(torch.tensor([[0, *context] for context in contexts])).logits[:, -1].float()

    return chi_square(found, enumerate_joint(rows, SAMPLING))


def _llama(seed: int, n_layers: int) -> PreTrainedModel:
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": n_layers, "num_attention_heads": 2, "max_position_embeddings": 32}
    config = LlamaConfig(vocab_size=VOCAB, **shape, initializer_range=0.5, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def _cell(ids: Sequence[int]) -> int:
    """Tokens as the digits of a number."""
    return int("".join(map(str, ids)), VOCAB)


def _favourites(model: Table, ids: list[int]) -> list[int]:
    tokens: list[int] = []
    for _ in range(GAMMA):
        tokens += _best(model, ids + tokens, 1)
    return tokens


def _best(model: Table, ids: list[int], k: int) -> list[int]:
    return model.row(ids).topk(k).indices.tolist()
