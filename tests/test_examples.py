"""Every request that ships runs on the real model and does what its title says; every line is one that the method's docstring lists."""

from __future__ import annotations

import json
import re
from importlib import import_module

import pytest

from backend import examples
from backend.decoder import Decoder
from backend.house import open_workbench
from backend.prompt import render
from backend.types import RunContext

NAMES = [example.name for example in examples.load()]
# what the title promises: how the run ends, and of structured generation whether the answer is valid
ENDS = {"structured-loop": ("length", False)}


def listed(panel: str) -> set[str]:
    """The names in backquotes in the docstring of a method's package."""
    return set(re.findall(r"`(\w+)`", import_module(f"backend.{panel}").__doc__))


@pytest.fixture(scope="module")
def house(smollm2_data_dir, tmp_path_factory):
    """A house of its own whose models folder is the shared one."""
    place = tmp_path_factory.mktemp("house")
    (place / "models").symlink_to(smollm2_data_dir / "models")
    workbench = open_workbench(place)
    yield workbench
    workbench.close()


@pytest.mark.smollm2
@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_on_the_real_model_and_ends_as_its_title_says(house, name):
    example = next(e for e in examples.load() if e.name == name)
    if house.method(example.request.method).job:  # minutes each; its own tests run the job
        house.check(example.request)
        return
    events = [json.loads(line) for line in house.run(example.request, RunContext())]
    done = events[-1]
    assert done["event"] == "done", done
    if example.panel == "structured":
        assert (done["finish_reason"], done["stats"]["valid"]) == ENDS.get(name, ("stop", True)), done
    told = {key for e in events if e["event"] == "token" for key in e["detail"]} | set(done["stats"])
    told |= {e["kind"] for e in events if e["event"] == "finding"}
    assert told <= listed(example.panel), f"the docstring of backend.{example.panel} does not list {sorted(told - listed(example.panel))}"


@pytest.mark.smollm2
def test_the_real_models_logits_are_the_uncached_ones_after_edits(smollm2):
    """bf16 rounds differently for different widths, so the check is the law's distance, not the bits."""
    ids = render(examples.load()[0].request.prompt, smollm2.tokenizer).ids
    decoder = Decoder(smollm2.model)
    decoder.logits(ids + [100, 200, 300])
    cached, fresh = decoder.logits(ids + [100, 7]), Decoder(smollm2.model).logits(ids + [100, 7])
    assert (cached.softmax(-1) - fresh.softmax(-1)).abs().sum() < 0.05


def test_every_example_names_a_method_and_every_file_is_in_the_index():
    folder = examples.load()[0].path.parent
    assert {e.path.name for e in examples.load()} == {p.name for p in folder.glob("*.json")} - {"index.json"}
    assert all(e.request.method == e.panel for e in examples.load())
