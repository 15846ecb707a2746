"""Links to a form's inputs: what a link says comes back, what it can't say is refused, and on a public instance presets need no model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from backend.errors import InvalidRequest, WorkbenchError
from backend.house import methods
from backend.store import Store
from backend.workbench import Workbench
from panels import (
    contamination,
    contamination_logic,
    hidden_logic,
    hidden_text,
    routing,
    routing_logic,
    speculative,
    speculative_logic,
    structured,
    structured_logic,
)
from panels.contamination_auditing import recording_of
from panels.contamination_section import presets
from panels.visitor import mint
from tests.panels.fake import FakeModels

TAB = SimpleNamespace(session_hash="tab")
PAGES = {"structured": (structured, structured_logic), "routing": (routing, routing_logic), "speculative": (speculative, speculative_logic),
         "contamination": (contamination, contamination_logic), "hidden_text": (hidden_text, hidden_logic)}  # fmt: skip
HARD = "line one\nline two & more = 100 % + “quoted” #5 ünïcode 😀 <b>"


class Locked(FakeModels):
    """Models that may be named and never loaded."""

    def load_all(self, models: Any, progress: Any = None) -> dict[str, Any]:
        raise AssertionError("a recording needs no model")


def house(folder: Path, public: bool) -> Workbench:
    """The real methods around models that are only names."""
    return Workbench(folder, methods(folder), Locked(), Store(folder), public=public)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    made = house(tmp_path_factory.mktemp("local"), public=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    made = house(tmp_path_factory.mktemp("public"), public=True)
    yield made
    made.close()


def logic_of(workbench: Workbench, page: str) -> Any:
    return PAGES[page][1].Logic(workbench)


def came_back(logic: Any, values: list[Any], token: str = "") -> list[Any]:
    """The form of somebody who opens the link to these values, whatever that browser remembered."""
    _, _, query = logic.link(values).partition("?")
    remembered = dict(zip(("model", "prompt"), ("mine/other", "remembered"), strict=True))
    return logic.first(token, dict(parse_qsl(query, keep_blank_values=True)), remembered)[0]


@pytest.mark.parametrize("page", PAGES)
def test_a_link_brings_every_input_of_every_preset_back_with_changes_or_without(local: Workbench, page: str) -> None:
    logic = logic_of(local, page)
    for preset in logic.presets:
        values = logic.values(preset.request)
        assert logic.link(values) == f"{page}?preset={preset.name}"
        changed = list(values)
        changed[1], changed[3], changed[4], changed[8] = HARD, "Be brief.", 0.25, 41
        assert came_back(logic, changed) == changed and logic.request(came_back(logic, changed)) == logic.request(changed)


def test_a_links_inputs_are_filled_and_nothing_is_shown_or_run(local: Workbench) -> None:
    logic = logic_of(local, "structured")
    values, text, words = logic.opening("", {"prompt": "Hello", "options.kind": "regex", "utm_source": "x"}, None, "Run")
    assert logic.request(values).prompt.text == "Hello" and logic.request(values).options["kind"] == "regex"
    assert text == "" and words == "A link filled this form; nothing has run. Press Run."
    assert logic.opening("", {"prompt": "Hello", "embed": "1"}, None, "Run")[2] == "This link holds inputs, not a run. Open it in Loupe to run them."
    assert local.store.runs("local") == []


def test_a_preset_in_a_link_shows_its_recording(local: Workbench) -> None:
    logic = logic_of(local, "structured")
    _, text, words = logic.opening("", {"preset": "date"}, None, "Run")
    header = json.loads(text.splitlines()[0])
    assert header["event"] == "recorded" and logic.presets[3].request.to_json() in header["requests"].values() and "recording" in words
    assert logic.opening("", {}, None, "Run")[1:] == (None, "")


@pytest.mark.parametrize(("query", "words"), [
    ({"preset": "poem"}, "no preset 'poem' here; there are structured-record"),
    ({"seed": "one"}, "seed must be a whole number, got 'one'"),
    ({"temperature": "hot"}, "temperature must be a number"),
    ({"temperature": "11"}, "sampling.temperature must be a number between 0 and 10"),
    ({"options.nonsense": "1"}, "no option 'nonsense'; it has kind, grammar"),
    ({"options.kind": "poem"}, "options.kind must be one of"),
    ({"template": "song"}, "prompt.template must be one of"),
    ({"model": ""}, "Choose a model"),
])  # fmt: skip
def test_what_no_form_could_say_is_refused_with_the_reason_and_the_page_opens_all_the_same(local: Workbench, query: dict, words: str) -> None:
    logic = logic_of(local, "structured")
    values, _, told = logic.opening("", query, None, "Run")
    assert told.startswith("! The inputs of this link were not taken.") and words in told
    assert logic.request(values) == logic.presets[0].request


def test_truths_and_numbers_of_options_are_read_as_such(local: Workbench) -> None:
    logic = logic_of(local, "routing")
    said = logic.request(logic.first("", {"options.opinions": "false", "options.every": "4", "options.threshold": "0.25"}, None)[0]).options
    assert (said["opinions"], said["every"], said["threshold"]) == (False, 4, 0.25)
    with pytest.raises(InvalidRequest, match="options.opinions must be true or false"):
        logic.first("", {"options.opinions": "perhaps"}, None)


def test_inputs_that_do_not_fit_into_a_link_are_refused_with_the_reason(local: Workbench) -> None:
    logic = logic_of(local, "structured")
    values = logic.values(logic.presets[0].request)
    with pytest.raises(InvalidRequest, match=r"a link of [\d,]+ characters; a link may have at most 4,000. Shorten the prompt"):
        logic.link([values[0], "long " * 1000, *values[2:]])
    with pytest.raises(InvalidRequest, match="no given answer tokens"):
        logic.link(logic.values(logic.request([*values[:-1], json.dumps({"answer_prefix": [5]})])))


def test_a_link_to_a_public_instance_is_held_to_its_limits(public: Workbench) -> None:
    logic, token = logic_of(public, "structured"), mint("")
    for query, words in (({"model": "some/model"}, "one of this instance's models"), ({"max_new_tokens": "9000"}, "max_new_tokens"),
                         ({"prompt": "x" * 9000}, "prompt")):  # fmt: skip
        told = logic.opening(token, query, None, "Run")[2]
        assert told.startswith("! The inputs of this link were not taken.") and words in told
    assert logic.opening(token, {"prompt": "fine"}, None, "Run")[2].startswith("A link filled")


@pytest.mark.parametrize("page", PAGES)
def test_a_public_page_answers_every_preset_with_its_recording_and_without_a_model(public: Workbench, page: str) -> None:
    logic, token, ticked = logic_of(public, page), mint(""), list(PAGES[page][0].LOOK.ticked)
    for preset in logic.presets:
        lines = [json.loads(line) for line in logic.preset(TAB, token, ticked, logic.preset_values(preset.title))]
        started = [line for line in lines if line["event"] == "started"]
        wanted = logic.lanes(logic.request(logic.preset_values(preset.title)), ticked)
        assert lines[0]["event"] == "recorded" and lines[0]["model"] and len(started) >= len(wanted), preset.name
    assert public.store.runs("anybody") == [] and public.jobs() == []


def test_a_public_audit_answers_its_presets_too(public: Workbench, local: Workbench) -> None:
    for preset in presets():
        assert json.loads(recording_of(public, preset.request).splitlines()[0])["event"] == "recorded", preset.name
        assert recording_of(local, preset.request) == ""


def test_a_changed_preset_is_no_recording_and_run_live_runs_what_the_recording_ran(tmp_path: Path) -> None:
    workbench = house(tmp_path, public=True)
    try:
        logic, token = logic_of(workbench, "hidden_text"), mint("")
        asked: list[Any] = []
        workbench.run_group = lambda requests, context: asked.append(list(requests)) or iter(())  # type: ignore[method-assign]
        values = logic.preset_values(logic.presets[0].title)
        logic.preset(TAB, token, ["reference"], [*values[:8], 99, *values[9:]])
        assert len(asked) == 1 and asked[0][0].sampling.seed == 99
        recording = next(one for one in logic.shelf if one.name == "hidden_text")
        logic.live(TAB, token, {"run": next(iter(recording.runs))})
        assert asked[1] == list(recording.requests)
        with pytest.raises(WorkbenchError, match="not one of this page's"):
            logic.live(TAB, token, {"run": "another"})
    finally:
        workbench.close()
