"""Labels against following every branch by itself, with nothing batched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from backend.batch import generate
from backend.decoder import Decoder
from backend.routing.features import law_features, spread_free
from backend.routing.labelling import CLASSES, DIVERGENT, IDENTICAL, NEUTRAL, UNGRADED, Rule, label
from backend.routing.tasks import pocket_problems
from backend.types import SamplingParams

N, ROOM = 5, 160
OUTCOME = Rule("outcome", 1.0, ROOM)


def finished(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def problems():
    """One of them has an answer that the large model will not give."""
    found = pocket_problems(N, 11)
    return [replace(p, answer="-7") if i == 2 else p for i, p in enumerate(found)]


@pytest.fixture(scope="module")
def chunk(pocket_pair, problems):
    return finished(label(pocket_pair, problems, OUTCOME, first=100))


def slowly(pair, problem):
    """One prompt, position by position: (label, small's id, large's id) of each."""
    prompt, stop = pair.prompt_ids(problem), pair.stop_ids
    answer = generate(pair.large.model, [prompt], SamplingParams(max_new_tokens=ROOM), stop, [0])[0]
    small = Decoder(pair.small.model)
    right = problem.right(pair.text(answer))
    for position, said in enumerate(answer):
        before = answer[:position]
        token = int(small.logits(prompt + before)[0].argmax())
        if not right:
            yield UNGRADED, token, said
        elif token == said:
            yield IDENTICAL, token, said
        else:
            left = SamplingParams(max_new_tokens=ROOM - position - 1)
            went_on = [] if token in stop else generate(pair.large.model, [prompt + before + [token]], left, stop, [0])[0]
            yield (NEUTRAL if problem.right(pair.text([*before, token, *went_on])) else DIVERGENT), token, said


def test_labels_are_those_of_following_every_branch_by_itself(pocket_pair, problems, chunk):
    expected = [row for problem in problems for row in slowly(pocket_pair, problem)]
    found = list(zip(*(chunk.columns[name].tolist() for name in ("label", "small", "large")), strict=True))
    assert found == expected
    assert {label for label, _, _ in found} == set(range(len(CLASSES)))  # these problems have all four


def test_the_decision_to_end_is_a_position_like_any_other(pocket_pair, chunk):
    ends = [i for i, token in enumerate(chunk.columns["large"].tolist()) if token in pocket_pair.stop_ids]
    assert len(ends) == N and all(answer[-1] in pocket_pair.stop_ids for answer in chunk.answers)


def test_a_prompt_that_the_large_model_gets_wrong_is_ungraded_as_a_whole(chunk):
    wrong = {100 + i for i, right in enumerate(chunk.right) if not right}
    assert 102 in wrong
    ungraded = chunk.columns["prompt"][chunk.columns["label"] == UNGRADED].unique().tolist()
    assert set(ungraded) == wrong


def test_features_are_those_of_the_small_model_step_by_step(pocket_pair, problems, chunk):
    prompt, answer = pocket_pair.prompt_ids(problems[0]), chunk.answers[0]
    logits, hidden = Decoder(pocket_pair.small.model).logits_and_hidden(prompt + answer[:-1], last=len(answer))
    law = law_features(logits, logits.argmax(-1))
    torch.testing.assert_close(chunk.columns["law"][: len(answer)].float(), law, atol=2e-2, rtol=2e-3)  # fp16 of numbers up to 30
    torch.testing.assert_close(chunk.columns["hidden"][: len(answer)].float(), spread_free(hidden), atol=5e-3, rtol=2e-3)


def test_the_distance_of_the_laws_is_kullback_leiblers(pocket_pair, problems, chunk):
    ids = pocket_pair.prompt_ids(problems[0]) + chunk.answers[0][:-1]
    n = len(chunk.answers[0])
    small, large = (torch.log_softmax(Decoder(m.model).logits(ids, last=n).double(), -1) for m in (pocket_pair.small, pocket_pair.large))
    kl = (large.exp() * (large - small)).sum(-1)
    torch.testing.assert_close(chunk.columns["kl"][:n].double(), kl, atol=2e-2, rtol=5e-3)


def test_without_a_grader_distance_or_difference_decide(pocket_pair, problems, chunk):
    differ = chunk.columns["small"] != chunk.columns["large"]
    by_difference = finished(label(pocket_pair, problems, Rule("mismatch", 0.0, ROOM), 0)).columns["label"]
    assert torch.equal(by_difference == DIVERGENT, differ)
    far = finished(label(pocket_pair, problems, Rule("kl", 2.0, ROOM), 0)).columns
    assert torch.equal(far["label"] == DIVERGENT, differ & (far["kl"] >= 2.0)) and (far["label"] == NEUTRAL).any()


def test_unjudged_prompts_only_say_where_the_choices_differ(pocket_pair, problems, chunk):
    found = finished(label(pocket_pair, problems, Rule("none", 0.0, ROOM), 100)).columns
    assert (found["label"] == UNGRADED).all()
    assert all(torch.equal(found[name], chunk.columns[name]) for name in ("small", "large", "law", "prompt", "position"))


def test_an_answer_without_room_is_cut(pocket_pair, problems):
    cut = finished(label(pocket_pair, problems, Rule("outcome", 0.0, 5), 0))
    assert {len(answer) for answer in cut.answers} == {5} and not any(cut.right)
