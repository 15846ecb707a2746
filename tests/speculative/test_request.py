"""What is known before a run: lanes, baselines, refusals that say what to do."""

from __future__ import annotations

import pytest

from backend.errors import InvalidRequest
from backend.resources import Resources
from backend.speculative import evaluate
from backend.speculative.request import baselines, check, lane
from backend.types import Prompt, RunRequest


def request(drafter: str, models: dict[str, str] | None = None, **options) -> RunRequest:
    return RunRequest("speculative", Prompt.user("Hi"), models or {"target": "pocket/large"}, options={"drafter": drafter, **options})


def test_the_baseline_is_the_same_request_without_drafter_and_draft_model():
    asked = request("model", {"target": "pocket/large", "draft": "pocket/small"}, gamma=4, mode="reproducible")
    (plain,) = baselines(asked)
    assert plain.options == {"drafter": "none", "gamma": 4, "mode": "reproducible"} and plain.models == {"target": "pocket/large"}
    assert baselines(plain) == [] and lane(plain) == "plain" and lane(asked) == "draft model 4"


def test_a_drafter_without_its_model_is_refused_and_the_others_are_named():
    with pytest.raises(InvalidRequest, match="prompt lookup, Token Recycling and auto") as refused:
        check(request("tree"), Resources())
    assert refused.value.where == "models.draft"


def test_the_same_model_twice_is_a_warning():
    twice = request("model", {"target": "pocket/large", "draft": "pocket/large"})
    assert "same model" in check(twice, Resources())[0].data["text"]


def test_reproducible_mode_says_what_it_does_to_trees():
    assert "best branch" in check(request("recycling", mode="reproducible"), Resources())[0].data["text"]
    assert check(request("lookup", mode="reproducible"), Resources()) == []


@pytest.mark.parametrize(
    ("options", "words"), [({"gamma": 99}, "options.gamma"), ({"law": "best"}, "options.law"), ({"alpha": 1}, "no field 'alpha'")]
)
def test_options_out_of_range_are_refused_by_name(options, words):
    with pytest.raises(InvalidRequest, match=words):
        check(request("lookup", **options), Resources())


def test_shipped_prompt_sets_have_24_prompts_and_the_mix_six_kinds():
    assert len(evaluate.read_cases("pocket")) == 24
    kinds = [case.kind for case in evaluate.read_cases("mix")]
    assert len(kinds) == 24 and {kinds.count(kind) for kind in set(kinds)} == {4} and len(set(kinds)) == 6


@pytest.mark.parametrize(
    ("prompts", "words"),
    [("", "at least one prompt"), ("nonsense", "line 1"), ('{"prompt": "a"}\n{"text": "b"}', "line 2"), ('{"prompt": " "}', "line 1")],
)
def test_a_prompt_set_that_cannot_be_read_names_its_line(prompts, words):
    with pytest.raises(InvalidRequest, match=words):
        evaluate.read_cases(prompts)


def test_drafters_of_an_evaluation_are_names_and_plain_is_always_there():
    assert evaluate.read_drafters("lookup, auto,lookup, none") == ["lookup", "auto"]
    with pytest.raises(InvalidRequest, match="no drafter 'magic'"):
        evaluate.read_drafters("auto, magic")
    with pytest.raises(InvalidRequest, match="at least one"):
        evaluate.read_drafters("none")
