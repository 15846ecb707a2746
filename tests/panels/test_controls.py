"""From widgets to requests and back; what a browser sends is checked, not believed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import gradio as gr
import pytest

from backend import examples
from backend.errors import InvalidRequest
from backend.options import option
from backend.types import Prompt, RunRequest, SamplingParams
from panels import controls


@dataclass(frozen=True)
class Options:
    kind: str = option("a", "which", choices=("a", "b"))
    deep: bool = option(False, "how")
    width: int = option(3, "how wide", low=1, high=9)
    share: float = option(0.5, "how much", low=0, high=1)
    words: str = option("", "what")


def some_request(seed: int) -> RunRequest:
    chance = random.Random(seed)
    whole = [chance.randrange(low, high) for low, high in ((0, 100), (1, 999), (0, 2**31))]
    sampling = SamplingParams(chance.uniform(0, 10), chance.uniform(0.01, 1), *whole)
    prompt = Prompt.user(chance.choice(["", "a", "Grüße\n{{x}}"]), chance.choice(["chat", "raw"]), chance.choice([None, "Be brief."]))
    return RunRequest("count", prompt, {"target": chance.choice(["smollm2", "mine/x", "org/name"])}, sampling)


@pytest.mark.parametrize("seed", range(30))
def test_a_request_survives_the_form(seed: int) -> None:
    request = some_request(seed)
    assert controls.to_request("count", controls.from_request(request), {}) == request


@pytest.mark.parametrize("example", examples.load(), ids=lambda e: e.name)
def test_every_shipped_request_survives_the_form(example: examples.Example) -> None:
    request = example.request
    more = {role: name for role, name in request.models.items() if role != "target"}
    first = {"target": controls.from_request(request)[0]}  # a method without a target shows its first model there
    made = controls.to_request(request.method, controls.from_request(request), request.options, more)
    assert made == replace(request, models={**first, **request.models})


@pytest.mark.parametrize("nothing", [None, "", controls.NO_MODEL])
def test_a_further_model_that_was_not_chosen_is_left_out(nothing: object) -> None:
    values = controls.from_request(some_request(1))
    assert set(controls.to_request("count", values, {}, {"draft": nothing}).models) == {"target"}
    assert controls.to_request("count", values, {}, {"draft": " mine/y "}).models["draft"] == "mine/y"
    with pytest.raises(InvalidRequest, match="models.draft must be a name"):
        controls.to_request("count", values, {}, {"draft": 7})


@pytest.mark.parametrize(("name", "value"), [
    ("model", None), ("model", " "), ("prompt", None), ("prompt", 3), ("template", "html"), ("system", 5), ("temperature", None),
    ("temperature", -1), ("top_p", 0), ("top_k", 1.5), ("max_new_tokens", "many"), ("seed", None),
])  # fmt: skip
def test_what_no_widget_would_send_is_refused_by_name(name: str, value: object) -> None:
    said = dict(zip(controls.SHARED, controls.from_request(some_request(1)), strict=True)) | {name: value}
    with pytest.raises(InvalidRequest) as refused:
        controls.to_request("count", list(said.values()), {})
    assert refused.value.where and (name in refused.value.where or name == "model")


def test_the_browsers_memory_is_believed_only_if_it_makes_a_request() -> None:
    values = controls.from_request(some_request(2))
    kept = dict(zip(controls.SHARED, values, strict=True))
    assert controls.recalled(kept) == values
    for wrong in (None, "", [], {"model": "x"}, {**kept, "seed": "zero"}, {**kept, "more": 1}):
        assert controls.recalled(wrong) is None


def test_each_kind_of_option_gets_its_widget_with_label_help_and_limits() -> None:
    widgets = {name: controls.option_widget(spec) for name, spec in controls.specs(Options).items()}
    kinds = {name: type(widget) for name, widget in widgets.items()}
    assert kinds == {"kind": gr.Dropdown, "deep": gr.Checkbox, "width": gr.Number, "share": gr.Number, "words": gr.Textbox}
    assert all(widget.info and widget.label for widget in widgets.values())
    assert (widgets["width"].minimum, widgets["width"].maximum, widgets["width"].precision) == (1, 9, 0)
    assert [value for _, value in widgets["kind"].choices] == ["a", "b"]
