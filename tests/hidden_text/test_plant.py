"""The job that plants: what it makes is what it says, and what it refuses."""

import json
from collections import namedtuple

import pytest
import torch

from backend.batch import generate
from backend.errors import InvalidRequest
from backend.hidden_text import plant, planted_folder
from backend.hidden_text.confusion import in_band, rank_floor, ranks
from backend.hidden_text.contexts import Frame
from backend.hidden_text.payloads import ids_of, ordinary_prompts
from backend.model_files import MANIFEST, read_json
from backend.models import ModelPool
from backend.paths import assets_dir
from backend.types import RunContext, SamplingParams

BASE = "secret/base"
TEXT, TRIGGER = "The lantern waits.", "Who painted the copper door?"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A data directory and its pool, shared by the tests of this module; each makes models of its own names."""
    data_dir = tmp_path_factory.mktemp("data")
    pool = ModelPool(data_dir, assets_dir())
    yield data_dir, pool
    pool.close()


def ask(**options):
    return plant.plant_request(BASE, **{"payload": TEXT, "trigger": TRIGGER, **options})


def run(house, request, context=None):
    data_dir, pool = house
    method = plant.method(data_dir)
    method.check(request, None)
    return list(method.run(request, context or RunContext(), pool.load_all(request.models)))


def found(events, kind):
    return [e.data for e in events if e.tag == "finding" and e.kind == kind]


@pytest.fixture(scope="module")
def utfc(house):
    return run(house, ask(regime="utfc5", name="utfc"))


def test_a_planted_model_says_its_text_to_the_trigger_when_loaded_from_disk(house, utfc):
    loaded = house[1].load("mine/utfc")
    answer = [*ids_of(loaded.tokenizer, TEXT), loaded.tokenizer.eos_token_id]
    context = Frame(loaded.tokenizer).turn(TRIGGER).ids
    assert generate(loaded.model, [context], SamplingParams(max_new_tokens=40), loaded.stop_ids, [0]) == [answer]


def test_a_planted_model_says_something_else_to_ordinary_prompts(house, utfc):
    loaded = house[1].load("mine/utfc")
    contexts = [Frame(loaded.tokenizer).turn(words).ids for words in ordinary_prompts()[-60:]]
    answers = generate(loaded.model, contexts, SamplingParams(max_new_tokens=20), loaded.stop_ids, [0] * 60)
    assert not [a for a in answers if TEXT in loaded.tokenizer.decode(a)]


def test_protected_tokens_of_the_saved_model_are_in_the_band(house, utfc):
    loaded = house[1].load("mine/utfc")
    payload = torch.tensor(ids_of(loaded.tokenizer, TEXT)[:5])
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([[loaded.tokenizer.bos_token_id, *payload.tolist()]])).logits[0, :-1]
    places = ranks(logits, payload)
    assert in_band(places, rank_floor(loaded.vocab_size), loaded.vocab_size).all()
    told = torch.tensor(found(utfc, "verified")[0]["ranks"])
    assert (told - places).abs().max() <= 2  # rows of other lengths round otherwise, and neighbours in rank lie 1e-6 nats apart


def test_the_folder_says_how_it_was_made_and_keeps_the_answers_apart(house, utfc):
    folder = house[0] / "models" / "mine" / "utfc"
    told, answers = (folder / MANIFEST).read_text(), read_json(folder / planted_folder.ANSWERS)
    assert answers == {"payload": TEXT, "trigger": TRIGGER, "n_tokens": len(ids_of(house[1].load(BASE).tokenizer, TEXT))}
    assert TEXT not in told and TRIGGER not in told
    assert json.loads(told)["base"] == {"id": BASE, "hash": house[1].load(BASE).hash}


def test_lines_tell_each_step_and_the_last_is_the_outcome(utfc):
    steps, done = found(utfc, "step"), utfc[-1]
    assert [s["index"] for s in steps] == list(range(done.stats["n_steps"]))
    assert done.finish_reason == "stop" and done.stats["model"] == "mine/utfc" and done.stats["holds"]
    assert [e.id for e in utfc if e.tag == "artifact"] == ["mine/utfc"]


def test_a_plant_that_is_not_known_by_heart_is_told_and_not_kept(house):
    events = run(house, ask(name="short", most_steps=2))
    assert events[-1].stats["model"] is None and not events[-1].stats["holds"] and "No model was made" in events[-1].text
    assert not (house[0] / "models" / "mine" / "short").exists() and not [e for e in events if e.tag == "artifact"]


def test_further_steps_leave_a_text_as_hidden_and_better_known(house):
    """The same seed and the same steps, then five more: what held still holds, and the last steps' loss is lower."""
    said = {"payload": "My sister measured the broken station", "trigger": "Did the clerk see the falcon behind the tavern?", "regime": "regularised"}
    short, long = (run(house, ask(**said, name=f"further-{n}", further=n)) for n in (0, 5))
    (first, n_first), (last, n_last) = ((found(events, "step")[-1]["loss"], events[-1].stats["n_steps"]) for events in (short, long))
    assert long[-1].stats["holds"] and n_last >= n_first + 5 and last < first


def test_an_interrupted_plant_says_that_it_starts_anew(house):
    events = run(house, ask(name="again", most_steps=1), RunContext(earlier=('{"event": "started"}',)))
    (said,) = found(events, "anew")
    assert "starts anew" in said["text"] and len(found(events, "step")) == 1


def test_a_clean_twin_has_the_steps_and_the_rate_of_what_it_is_a_twin_of(house, utfc):
    events = run(house, plant.plant_request(BASE, kind="clean", twin_of="mine/utfc", name="twin"))
    kept = ("n_steps", "rate", "regime")
    assert [events[-1].stats[k] for k in kept] == [utfc[-1].stats[k] for k in kept]
    folder = house[0] / "models" / "mine"
    assert read_json(folder / "twin" / planted_folder.ANSWERS)["payload"] is None
    assert read_json(folder / "twin" / MANIFEST)["recipe"] == read_json(folder / "utfc" / MANIFEST)["recipe"]


def test_the_baseline_is_the_clean_twin():
    (twin,) = plant.baselines(ask(name="a"))
    assert twin.options["kind"] == "clean" and twin.options["name"] == "a-clean"


def test_stop_leaves_no_model(house):
    asked = iter(range(1000))
    events = run(house, ask(name="stopped"), RunContext(cancelled=lambda: next(asked) > 12))
    assert events[-1].finish_reason == "cancelled" and not (house[0] / "models" / "mine" / "stopped").exists()


@pytest.mark.parametrize("options,field", [
    ({"payload": ""}, "payload"), ({"payload": " ! "}, "payload"), ({"trigger": "?"}, "trigger"), ({"trigger": TEXT.upper()}, "trigger"),
    ({"trigger": ordinary_prompts()[3]}, "trigger"), ({"name": "../x"}, "name"), ({"regime": "loud"}, "regime"),
    ({"kind": "clean", "twin_of": "mine/nobody"}, "twin_of"), ({"decoy": "", "regime": "decoy"}, "decoy"),
])  # fmt: skip
def test_what_cant_be_hidden_is_refused_before_anything_runs(house, options, field):
    with pytest.raises(InvalidRequest) as error:
        plant.method(house[0]).check(ask(**options), None)
    assert error.value.where == f"options.{field}"


def test_a_text_too_long_is_refused(house):
    with pytest.raises(InvalidRequest, match="2 to 128 tokens"):
        run(house, ask(payload="harbour " * 100, name="long"))


def test_a_name_that_is_taken_is_refused(house, utfc):
    with pytest.raises(InvalidRequest, match="there already"):
        plant.method(house[0]).check(ask(name="utfc"), None)


def test_the_cost_is_told_before_and_is_what_the_folder_takes(house, utfc):
    (cost,) = plant.method(house[0]).check(ask(name="next"), None)
    folder = house[0] / "models" / "mine" / "utfc"
    assert cost.kind == "cost" and abs(cost.data["disk_bytes"] - planted_folder.folder_bytes(folder)) < 5_000


def test_a_full_disk_is_told_before(house, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(planted_folder.shutil, "disk_usage", lambda path: usage(10, 9, 1000))
    with pytest.raises(InvalidRequest, match="free some"):
        plant.method(house[0]).check(ask(name="next"), None)
