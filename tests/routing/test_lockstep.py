"""Many rows in step against one stream at a time."""

from __future__ import annotations

import pytest

from backend.batch import generate
from backend.routing.generate import generate as one_stream
from backend.routing.lockstep import Answer, Arm, route
from backend.routing.tasks import pocket_problems
from backend.types import Prompt, RunContext, RunRequest, SamplingParams, Token
from tests.routing.pair import COSTS

ROOM = 120


def finished(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def problems():
    return pocket_problems(6, 21)


def routed(pair, problems, arm, router=None, seed=0):
    prompts = [pair.prompt_ids(p) for p in problems]
    return finished(route(pair, router, prompts, [ROOM] * len(prompts), arm, seed))


@pytest.mark.parametrize("role", ["small", "large"])
def test_a_model_alone_says_what_it_says_in_a_batch(pocket_pair, problems, role):
    model = getattr(pocket_pair, role).model
    prompts = [pocket_pair.prompt_ids(p) for p in problems]
    expected = generate(model, prompts, SamplingParams(max_new_tokens=ROOM), pocket_pair.stop_ids, [0] * len(prompts))
    answers = routed(pocket_pair, problems, Arm(role))
    assert [a.ids for a in answers] == expected
    assert all(len(a.gaps) == (len(a.ids) if role == "large" else 0) for a in answers)


@pytest.mark.parametrize(("strategy", "threshold"), [("neural", 0.2), ("entropy", 0.7), ("oracle", 0.0)])
def test_in_step_is_what_one_stream_says(pocket, pocket_pair, problems, chance_router, strategy, threshold):
    answers = routed(pocket_pair, problems, Arm(strategy, 0.1, threshold), chance_router)
    for problem, answer in zip(problems, answers, strict=True):
        request = RunRequest("routing", Prompt.user(problem.prompt), {"small": "s", "large": "l"}, SamplingParams(max_new_tokens=ROOM),
                             {"strategy": strategy, "opinions": False} | ({} if strategy == "oracle" else {"threshold": threshold}))  # fmt: skip
        router = chance_router if strategy == "neural" else None
        found = [e for e in one_stream(request, RunContext(), pocket, pocket_pair.report, router, COSTS) if isinstance(e, Token)]
        assert answer.ids == [token.id for token in found]
        assert len(answer.gaps) == sum(token.source == "large" for token in found)
    assert 0 < sum(len(a.gaps) for a in answers) < sum(len(a.ids) for a in answers)


def test_random_routing_keeps_its_share_and_its_seed(pocket_pair, problems):
    """Some 250 tokens at a half: 0.35 to 0.65 is more than four spreads to both sides."""
    arm = Arm("random", 0.5, 0.5)
    once, again, other = (routed(pocket_pair, problems, arm, seed=seed) for seed in (1, 1, 2))
    assert [a.ids for a in once] == [a.ids for a in again] and [a.gaps for a in once] == [a.gaps for a in again] != [a.gaps for a in other]
    assert 0.35 < sum(len(a.gaps) for a in once) / sum(len(a.ids) for a in once) < 0.65


def test_a_lower_threshold_asks_more(pocket_pair, problems):
    asked = [sum(len(a.gaps) for a in routed(pocket_pair, problems, Arm("entropy", 0.1, t))) for t in (2.0, 0.5, 0.1)]
    assert asked == sorted(asked) and asked[0] < asked[-1]


def test_gaps_are_what_the_large_model_has_not_read():
    answer = Answer()
    for large in (False, False, True, False, True, True):
        answer.add(5, large)
    assert answer.gaps == [2, 2, 1]
