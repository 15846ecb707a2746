"""The laws: speculation against the exact joint law, against plain decoding, against walks worked out by hand."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from backend.sampling import choose, final_probs
from backend.speculative import law_check
from backend.speculative.draft import Draft, chain, nothing
from backend.speculative.law import Coupled, Greedy, Residual, descend, invert, law_of, left_over, make_law
from backend.types import SamplingParams

WARM = SamplingParams(temperature=0.7, seed=3)
SHAPES = [WARM, replace(WARM, top_k=3), replace(WARM, top_p=0.8), replace(WARM, temperature=1.6, top_k=5, top_p=0.9)]
SEED = 0
LOSSLESS = [case.name for case in law_check.cases(SEED) if not case.is_canary]
CANARIES = [case.name for case in law_check.cases(SEED) if case.is_canary]
TREE_SHAPE = (-1, -1, 0, 0, 1, 2)


def p_value(name: str, n: int) -> float:
    target, draft_model = law_check.tables(SEED)
    case = next(case for case in law_check.cases(SEED) if case.name == name)
    return law_check.chi_square(law_check.counts(case, target, draft_model, n), law_check.joint(target))


@pytest.mark.parametrize("name", LOSSLESS)
def test_the_joint_law_of_three_tokens_is_the_targets(name):
    """One false alarm in 1,000 changes of the seed for each case. The bench runs the same with 20,000 runs a case."""
    assert p_value(name, 3000) > 0.001


@pytest.mark.parametrize("name", CANARIES)
def test_the_law_test_finds_every_canary(name):
    assert p_value(name, 1200) < 1e-6


def test_the_librarys_assisted_generation_passes_the_same_test():
    """One false alarm in 1,000 changes of the seed."""
    assert law_check.assisted(200, SEED) > 0.001


def test_a_check_names_every_case_and_the_canaries_last():
    rows = law_check.run(100, SEED)
    assert [(name, canary) for name, _, canary in rows] == [(n, False) for n in LOSSLESS] + [(n, True) for n in CANARIES]
    assert len(CANARIES) == 5 and all(0 <= p <= 1 for _, p, _ in rows)


def test_chi_square_has_the_known_quantiles():
    """Of 3 degrees of freedom 5 per cent lie above 7.815, of 1 degree 1 per cent above 6.635."""
    probs = torch.full((4,), 0.25, dtype=torch.float64)
    off = (7.815 * 250 / 2) ** 0.5
    assert law_check.chi_square(torch.tensor([250 + off, 250 - off, 250, 250], dtype=torch.float64), probs) == pytest.approx(0.05, abs=1e-4)
    off = (6.635 * 250) ** 0.5
    counts = torch.tensor([500 + off, 500 - off], dtype=torch.float64)
    assert law_check.chi_square(counts, torch.tensor([0.5, 0.5], dtype=torch.float64)) == pytest.approx(0.01, abs=1e-4)


def test_too_few_counts_for_a_chi_square_are_an_error():
    with pytest.raises(ValueError, match="at least two groups"):
        law_check.chi_square(torch.tensor([2.0, 3.0]), torch.tensor([0.5, 0.5]))


def test_the_enumerated_joint_law_is_the_product_of_its_steps():
    target, _ = law_check.tables(1)
    probs = law_check.joint(target)
    steps = [final_probs(target.row(context), law_check.SAMPLING)[token].item() for context, token in [([], 4), ([4], 0), ([4, 0], 2)]]
    assert probs.sum().item() == pytest.approx(1)
    assert probs[4 * 36 + 0 * 6 + 2].item() == pytest.approx(steps[0] * steps[1] * steps[2], rel=1e-5)


@pytest.mark.parametrize("sampling", SHAPES, ids=str)
@pytest.mark.parametrize("drafting", [law_check.drawn, law_check.favourites, law_check.branches])
def test_coupled_text_is_the_plain_text_whatever_was_drafted(sampling, drafting):
    target, draft_model = law_check.tables(2)

    def text(seed, drafting):
        law = make_law(replace(sampling, seed=seed), "coupled")
        return law_check.simulate(law, drafting, target, draft_model, n_tokens=12)

    plain = [text(seed, lambda law, model, ids: nothing()) for seed in range(12)]
    assert [text(seed, drafting) for seed in range(12)] == plain
    assert len({tuple(ids) for ids in plain}) > 1


@pytest.mark.parametrize("drafting", [law_check.favourites, law_check.branches, law_check.drawn])
def test_greedy_text_is_the_chain_of_argmaxes(drafting):
    target, draft_model = law_check.tables(3)
    ids: list[int] = []
    for _ in range(30):
        ids.append(int(target.row(ids).argmax()))
    law = make_law(SamplingParams(), "residual")
    assert law_check.simulate(law, drafting, target, draft_model, n_tokens=30) == ids


@pytest.mark.parametrize("sampling", SHAPES, ids=str)
def test_residual_without_drafts_draws_what_plain_sampling_draws(sampling):
    rows = torch.randn(40, 300, generator=torch.Generator().manual_seed(0)) * 2
    generator, law = torch.Generator().manual_seed(sampling.seed), make_law(sampling, "residual")
    plain = [choose(row, sampling, None, generator) for row in rows]
    assert [law.walk(row[None], nothing(), i).emitted[0] for i, row in enumerate(rows)] == plain


@pytest.mark.parametrize("sampling", SHAPES, ids=str)
@pytest.mark.parametrize("size", [6, 60_000])
def test_the_law_is_that_of_plain_sampling_bit_for_bit(sampling, size):
    rows = torch.randn(4, size, generator=torch.Generator().manual_seed(1)) * 3
    assert all(torch.equal(law_of(row, sampling), final_probs(row, sampling)) for row in rows)
    if (sampling.top_k, sampling.top_p) == (0, 1.0):
        assert torch.equal(law_of(rows, sampling), torch.stack([final_probs(row, sampling) for row in rows]))


def random_tree(rng: random.Random, size: int) -> Draft:
    k = rng.randrange(8)
    parents = tuple(rng.randrange(-1, i) for i in range(k))
    return Draft(torch.tensor([rng.randrange(size) for _ in range(k)], dtype=torch.long), parents, ("test",) * k)


def longest_path(draft: Draft, wanted: list[int]) -> list[int]:
    """The oracle: of all nodes whose every ancestor is what its parent's row wants, the deepest (first of equals)."""
    tokens, best = draft.tokens.tolist(), []
    for node in range(len(draft)):
        path, at = [], node
        while at >= 0:
            path.append(at)
            at = draft.parents[at]
        path.reverse()
        if all(tokens[n] == wanted[draft.parents[n] + 1] for n in path) and len(path) > len(best):
            best = path
    return best


def test_greedy_accepts_the_longest_path_of_argmaxes_in_any_tree():
    """Siblings of one token are left out: which of two equal ones is met is no question of the law."""
    rng = random.Random(0)
    lengths = set()
    for case in range(300):
        draft = random_tree(rng, 3)
        if len(set(zip(draft.parents, draft.tokens.tolist(), strict=True))) < len(draft):
            continue
        rows = torch.randn(len(draft) + 1, 3, generator=torch.Generator().manual_seed(case))
        wanted = rows.argmax(1).tolist()
        walk, path = Greedy().walk(rows, draft, 0), longest_path(draft, wanted)
        assert list(walk.path) == path
        assert list(walk.emitted) == [draft.tokens[n].item() for n in path] + [wanted[path[-1] + 1 if path else 0]]
        lengths.add(len(path))
    assert lengths >= {0, 1, 2, 3}


def by_hand() -> tuple[torch.Tensor, Draft]:
    """Six nodes over four ids; the argmaxes are 2, then 1 after node 1, then 3 after node 4."""
    rows = torch.zeros(7, 4)
    rows[0, 2], rows[2, 1], rows[5, 3], rows[5, 0] = 2.0, 3.0, 5.0, 1.5
    return rows, Draft(torch.tensor([0, 2, 1, 3, 1, 0]), TREE_SHAPE, ("test",) * 6, torch.tensor([0.6, 0.3, 0.5, 0.25, 0.9, 0.1]))


def test_a_walk_down_a_tree_has_its_facts():
    rows, draft = by_hand()
    walk = Greedy().walk(rows, draft, 0)
    assert (walk.path, walk.emitted, walk.kind, walk.rejected) == ((1, 4), (2, 1, 3), "bonus", None)
    assert walk.margins == (2.0, 3.0, 3.5)
    logprobs = rows.double().log_softmax(1)
    assert walk.logprobs == pytest.approx([logprobs[0, 2].item(), logprobs[2, 1].item(), logprobs[5, 3].item()], abs=1e-6)
    expected = [logprobs[parent + 1, token].exp().item() for parent, token in zip(TREE_SHAPE, walk.draft_ids, strict=True)]
    assert walk.p == pytest.approx(expected, abs=1e-6)
    assert walk.confidence == pytest.approx([0.6, 0.3, 0.5, 0.25, 0.9, 0.1])


def test_the_refused_draft_is_the_first_child_of_the_last_accepted_node():
    rows, draft = by_hand()
    rows[0] = torch.tensor([5.0, 0.0, 0.0, 0.0])  # descend to node 0, whose children hold 1 and 3
    rows[1] = torch.tensor([0.0, 1.0, 4.0, 0.0])
    walk = Greedy().walk(rows, draft, 0)
    assert (walk.path, walk.emitted, walk.kind) == ((0,), (0, 2), "correction")
    assert walk.rejected == {"node": 2, "p": pytest.approx(rows[1].softmax(0)[1].item()), "q": 0.5}


@pytest.mark.parametrize("kind", ["coupled", "residual"])
@pytest.mark.parametrize("sampling", [SamplingParams(), *SHAPES], ids=str)
@pytest.mark.parametrize("size", [9, 30_000])
def test_every_law_reports_its_own_probability_of_each_node(kind, sampling, size):
    rows = torch.randn(7, size, generator=torch.Generator().manual_seed(4))
    draft = Draft(torch.tensor([5, 2, 7, 1, 5, 0]), TREE_SHAPE, ("test",) * 6)
    walk = make_law(sampling, kind).walk(rows, draft, 0)
    shown = replace(sampling, temperature=sampling.temperature or 1.0)
    expected = [final_probs(rows[parent + 1], shown)[token].item() for parent, token in zip(draft.parents, walk.draft_ids, strict=True)]
    assert walk.p == pytest.approx(expected, abs=1e-7)
    at = [0, *(node + 1 for node in walk.path)]
    raw = [rows[row].double().log_softmax(0)[token].item() for row, token in zip(at, walk.emitted, strict=True)]
    assert walk.logprobs == pytest.approx(raw, abs=1e-5)
    assert len(walk.margins) == len(walk.emitted) == len(walk.path) + 1


def test_a_drawn_draft_is_kept_while_the_uniform_lies_below_p_over_q():
    """The same generator, read beside the law: one number a node until one is refused."""
    rows = torch.randn(4, 5, generator=torch.Generator().manual_seed(5))
    q = torch.randn(3, 5, generator=torch.Generator().manual_seed(6)).softmax(1)
    draft, kinds = chain([1, 4, 2], "test", q=q), set()
    for seed in range(60):
        sampling = replace(WARM, seed=seed)
        walk, generator = Residual(sampling).walk(rows, draft, 0), torch.Generator().manual_seed(seed)
        kept, draws = 0, []
        while kept < 3:
            draws.append(torch.rand((), dtype=torch.float64, generator=generator).item())
            if draws[-1] >= final_probs(rows[kept], sampling)[draft.tokens[kept]] / q[kept, draft.tokens[kept]]:
                break
            kept += 1
        assert len(walk.path) == kept and walk.kind == ("bonus" if kept == 3 else "correction")
        kinds.add(walk.kind)
        if kept < 3:
            expected = {"node": kept, "p": walk.p[kept], "q": q[kept, draft.tokens[kept]].item(), "draw": draws[-1]}
            assert walk.rejected == pytest.approx(expected)
            assert final_probs(rows[kept], sampling)[walk.emitted[-1]] > q[kept, walk.emitted[-1]]
    assert kinds == {"bonus", "correction"}


def test_draft_and_target_share_the_noise_of_a_position():
    """A draft model that is the target's twin is never refused."""
    target, _ = law_check.tables(4)
    law = make_law(WARM, "coupled")
    ids: list[int] = []
    while len(ids) < 40:
        draft = law_check.drawn(law, target, ids)
        walk = law.walk(target.rows([ids, [*ids, int(draft.tokens[0])], [*ids, *draft.tokens.tolist()]]), draft, len(ids))
        assert walk.kind == "bonus" and draft.q is None
        ids += walk.emitted


def test_a_residual_twin_is_never_refused_either():
    target, _ = law_check.tables(4)
    law, rng = make_law(WARM, "residual"), random.Random(0)
    for _ in range(30):
        ids = [rng.randrange(6), rng.randrange(6)]
        draft = law_check.drawn(law, target, ids)
        contexts = [ids, [*ids, int(draft.tokens[0])], [*ids, *draft.tokens.tolist()]]
        assert law.walk(target.rows(contexts), draft, 2).kind == "bonus"


def test_left_over_is_what_p_has_more_of():
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.25, 0.5, 0.25])
    assert left_over(p, q).tolist() == [0.25, 0.0, 0.0]
    assert torch.equal(left_over(p, p), p)


@pytest.mark.parametrize("draw, expected", [(0.0, 1), (0.19, 1), (0.2, 3), (0.999999, 3), (1.0, 3)])
def test_inversion_meets_only_ids_with_mass(draw, expected):
    law = torch.tensor([0.0, 0.5, 0.0, 2.0, 0.0])
    assert invert(law, torch.tensor(draw, dtype=torch.float64)).tolist() == [expected]


def test_descend_stops_at_the_first_token_without_a_child():
    asked = []

    def wanted(row, depth):
        asked.append((row, depth))
        return {0: 2, 2: 1, 5: 9}[row]

    assert descend([0, 2, 1, 3, 1, 0], TREE_SHAPE, wanted) == ([1, 4], 9)
    assert asked == [(0, 0), (2, 1), (5, 2)]


class Reads:
    """Counts how often the host looks at a tensor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n = 0
        for name in ("tolist", "item", "__int__", "__float__", "__bool__", "__index__", "cpu", "numpy"):
            monkeypatch.setattr(torch.Tensor, name, self._counting(getattr(torch.Tensor, name)))

    def _counting(self, original):
        def counted(*arguments, **more):
            self.n += 1
            return original(*arguments, **more)

        return counted


def test_a_greedy_round_reads_the_device_once(monkeypatch):
    rows, draft = by_hand()
    reads = Reads(monkeypatch)
    Greedy().walk(rows, draft, 0)
    assert reads.n == 1
    Greedy().walk(rows[:1], nothing(), 0)
    assert reads.n == 2


@pytest.mark.parametrize("law", [Greedy(), Coupled(WARM), Residual(WARM)], ids=lambda law: law.name)
def test_drawing_for_a_draft_never_reads_the_device(law, monkeypatch):
    row = torch.randn(50, generator=torch.Generator().manual_seed(7))
    reads = Reads(monkeypatch)
    token, q = law.draw(row, 4)
    assert reads.n == 0
    assert token.shape == () and token.dtype == torch.long and (q is None) == (law.name != "residual")


@pytest.mark.parametrize("law", [Greedy(), Coupled(WARM), Residual(WARM)], ids=lambda law: law.name)
def test_logits_that_are_not_numbers_are_an_error_and_never_a_token(law):
    rows = torch.zeros(3, 6)
    rows[2, 4] = torch.nan
    for draft in (chain([1, 2], "test"), chain([1, 2], "test", q=torch.full((2, 6), 1 / 6))):
        with pytest.raises(ValueError, match="NaN"):
            law.walk(rows, draft, 0)


def test_a_draft_law_over_another_vocabulary_is_an_error():
    with pytest.raises(ValueError, match=r"q must have the shape of the drafted rows \(1, 6\), got \(1, 5\)"):
        Residual(WARM).walk(torch.zeros(2, 6), chain([1], "test", q=torch.full((1, 5), 0.2)), 0)


def test_temperature_zero_is_greedy_whatever_the_kind():
    assert [make_law(SamplingParams(), kind).name for kind in ("coupled", "residual")] == ["greedy", "greedy"]
    assert [make_law(WARM, kind).name for kind in ("coupled", "residual")] == ["coupled", "residual"]
    with pytest.raises(ValueError, match="coupled, residual, got 'typical'"):
        make_law(WARM, "typical")
