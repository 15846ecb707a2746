"""A single patched run against a recomputation of all three models at every token; its lanes; its refusals; a whole group through the workbench."""

from __future__ import annotations

import json
import re

import pytest
import torch

import backend.contamination
from backend import artifacts
from backend.batch import generate as library
from backend.contamination.generate import divergence
from backend.contamination.generate import generate as generate_lane
from backend.contamination.method import method
from backend.contamination.neurons import KIND, Neurons, random_neurons, save
from backend.contamination.request import baselines, chosen_neurons, lane
from backend.contamination.taps import sites_of
from backend.errors import InvalidRequest, ModelError, WorkbenchError
from backend.model_service import ModelService
from backend.models import ModelPool
from backend.paths import assets_dir
from backend.sampling import choose
from backend.store import Store
from backend.types import Done, Finding, Progress, Prompt, RunContext, RunRecord, RunRequest, SamplingParams, Token
from backend.workbench import Workbench
from tests.contamination.test_lockstep import recomputed
from tests.contamination.test_taps import hooks_of
from tests.families import uncached_logits
from tests.families_ffn import build
from tests.routing.pair import STOP, handle
from tests.tiny_models import save_tiny

PROMPT = [5, 9, 11]
DOC = backend.contamination.__doc__
LISTED = set(re.findall(r"`(\w+)`", DOC)) | {name.strip() for group in re.findall(r"\{([\w,\s]+)\}", DOC) for name in group.split(",")}


def models(family="llama"):
    return {"suspect": handle(family, 1), "source": handle(family, 2)}


def request(n=15, temperature=0.0, prefix=(), family_models=None, seed=3, **options):
    sampling = SamplingParams(temperature=temperature, max_new_tokens=n, seed=seed)
    roles = family_models or {"suspect": "a", "source": "b"}
    return RunRequest("contamination", Prompt.user("w5 w9 w11", template="raw"), roles, sampling, options, prefix)


def events(roles, asked, neurons=None, context=None):
    neurons = random_neurons(sites_of(roles["suspect"]), 40, 0) if neurons is None else neurons
    return list(generate_lane(asked, context or RunContext(), roles, neurons))


def tokens(found):
    return [e for e in found if isinstance(e, Token)]


def ids(found):
    return [t.id for t in tokens(found)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_every_token_is_that_of_a_full_recomputation(family, temperature):
    roles, asked = models(family), request(temperature=temperature)
    neurons = random_neurons(sites_of(roles["suspect"]), 40, 0)
    found = events(roles, asked, neurons)
    generator, seq = torch.Generator().manual_seed(3), list(PROMPT)
    for token in tokens(found):
        after = recomputed(roles["suspect"], roles["source"], seq, neurons)
        own, source = (uncached_logits(roles[role].model, seq)[-1] for role in ("suspect", "source"))
        state = generator.get_state()
        wanted = choose(own, asked.sampling, None, generator)
        generator.set_state(state)
        assert token.id == choose(after, asked.sampling, None, generator)
        assert token.source == ("model" if wanted == token.id else "patched")
        assert token.detail.get("own", [token.id])[0] == wanted and token.detail["source_top"][0] == int(source.argmax())
        laws = {name: torch.log_softmax(row, 0)[token.id].item() for name, row in (("own", own), ("patched", after), ("source", source))}
        assert token.detail["logprobs"] == pytest.approx(laws, abs=2e-3)
        assert token.logprob == pytest.approx(laws["own" if token.source == "model" else "patched"], abs=2e-4)
        assert token.detail["kl"] == pytest.approx(divergence(own, after), abs=1e-3)
        seq.append(token.id)
    assert len(tokens(found)) > 3 and {"model", "patched"} >= {t.source for t in tokens(found)}
    stats = found[-1].stats
    assert stats["patched_tokens"] == sum(t.source == "patched" for t in tokens(found)) > 0
    assert (stats["n_neurons"], stats["neurons"], stats["n_tokens"]) == (40, neurons.hash, len(tokens(found)))


def test_the_divergence_is_that_of_torch_and_nothing_for_equal_laws():
    a, b = torch.randn(2, 30, generator=torch.Generator().manual_seed(0))
    oracle = torch.distributions.kl_divergence(torch.distributions.Categorical(logits=a), torch.distributions.Categorical(logits=b))
    assert divergence(a, b) == pytest.approx(oracle.item(), rel=1e-5) and divergence(a, a) == 0


def test_a_lane_alone_is_the_librarys_decoding_of_that_model():
    roles = models() | {"base": handle("llama", 4)}
    for patch, role in (("none", "suspect"), ("source", "source"), ("base", "base")):
        asked = request(patch=patch, family_models={"suspect": "a", "source": "b", "base": "c"})
        found = events(roles, asked, Neurons({}))
        assert ids(found) == library(roles[role].model, [PROMPT], SamplingParams(max_new_tokens=15), (STOP,), [0])[0]
        assert {t.source for t in tokens(found)} == {"model"} and not any(isinstance(e, Finding) for e in found)
        assert "patched_tokens" not in found[-1].stats and set(found[-1].stats["spans"]) == {"own"}


def test_the_check_stands_first_and_is_made_once_a_list():
    roles, asked = models(), request(n=2)
    first, second = (events(roles, asked) for _ in range(2))
    kinds = [type(e) for e in first]
    assert kinds.index(Finding) < kinds.index(Token) and Progress in kinds
    checks = [next(e for e in found if isinstance(e, Finding)) for found in (first, second)]
    assert checks[0].kind == "identity" and checks[0].data["holds"] and checks[0] == checks[1]
    assert Progress not in [type(e) for e in second]
    other = events(roles, asked, random_neurons(sites_of(roles["suspect"]), 41, 0))
    assert Progress in [type(e) for e in other]  # another list is another check


def test_a_check_that_fails_ends_the_run_before_its_first_token():
    roles = models()
    roles["source"] = handle("llama", 5, model=roles["suspect"].model)  # the same weights under another hash
    seen = []
    with pytest.raises(WorkbenchError, match="change nothing"):
        for event in generate_lane(request(), RunContext(), roles, random_neurons(sites_of(roles["suspect"]), 40, 0)):
            seen.append(event)
    assert [e.kind for e in seen if isinstance(e, Finding)] == ["identity"] and not tokens(seen)


def test_a_prefix_goes_on_as_the_run_it_came_from():
    roles = models()
    whole = events(roles, request())
    said = ids(whole)
    assert len(said) > 6
    rest = events(roles, request(n=len(said) - 5, prefix=tuple(said[:5])))
    assert ids(rest) == said and [t.source for t in tokens(rest)][:5] == ["prefix"] * 5
    assert [t.detail["kl"] for t in tokens(rest)] == pytest.approx([t.detail["kl"] for t in tokens(whole)], abs=1e-3)
    assert [t.source for t in tokens(rest)][5:] == [t.source for t in tokens(whole)][5:]
    assert rest[-1].text == whole[-1].text and rest[-1].stats["n_tokens"] == len(said) - 5


def test_the_same_seed_says_the_same_again():
    roles, asked = models(), request(temperature=1.5)
    assert ids(events(roles, asked)) == ids(events(roles, asked)) != ids(events(roles, request(temperature=1.5, seed=4)))


@pytest.mark.parametrize("after", [0, 1, 40])
def test_a_stopped_run_is_a_result_and_leaves_no_hook(after):
    """Stop in the check, and between tokens."""
    roles, asked = models(), request(n=100)
    left = iter([False] * after)
    found = events(roles, asked, context=RunContext(cancelled=lambda: next(left, True)))
    assert isinstance(found[-1], Done) and found[-1].finish_reason == "cancelled"
    assert not hooks_of(roles["suspect"].model) and not hooks_of(roles["source"].model)


def test_a_closed_run_leaves_no_hook():
    roles = models("gpt2")
    steps = generate_lane(request(), RunContext(), roles, random_neurons(sites_of(roles["suspect"]), 40, 0))
    for event in steps:
        assert not hooks_of(roles["suspect"].model) and not hooks_of(roles["source"].model)  # none while an event is out
        if isinstance(event, Token):
            break
    steps.close()
    assert not hooks_of(roles["suspect"].model) and not hooks_of(roles["source"].model)


def test_everything_that_is_told_is_listed():
    found = events(models(), request(n=100))
    told = {key for t in tokens(found) for key in t.detail} | set(found[-1].stats)
    told |= {key for e in found if isinstance(e, Finding) for key in e.data}
    assert told <= LISTED, sorted(told - LISTED)


# Requests ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"neurons": "random"}, "how many random neurons"),
        ({"k": 3}, "must be 0 where all neurons are patched"),
        ({"patch": "base"}, "models.base is missing"),
        ({"patch": "half"}, "must be one of patched, none, source, base"),
        ({"k": -1}, "between 0 and"),
        ({"neurons": "nobody"}, "is not an artifact"),
        ({"neurons": "0" * 26}, "There is no artifact"),
        ({"neurons": "random", "k": 97}, "between 1 and 96"),
    ],
)
def test_options_that_cannot_be_are_refused_in_words(options, told, data_dir):
    with pytest.raises(InvalidRequest, match=told):
        chosen_neurons(request(**options), sites_of(models()["suspect"]), data_dir)


def test_a_list_is_found_by_its_id_and_cut_to_its_best(data_dir):
    sites = sites_of(models()["suspect"])
    ordered = [(1, 7), (0, 3), (1, 2)]
    artifact_id, folder = artifacts.create(data_dir, KIND)
    save(folder, Neurons.of(ordered), {})
    assert chosen_neurons(request(neurons=artifact_id), sites, data_dir) == Neurons.of(ordered)
    assert chosen_neurons(request(neurons=artifact_id, k=2), sites, data_dir) == Neurons.of(ordered[:2])
    with pytest.raises(InvalidRequest, match="the list has 3 neurons"):
        chosen_neurons(request(neurons=artifact_id, k=4), sites, data_dir)
    save(folder, Neurons.of([(0, 48)]), {})
    with pytest.raises(InvalidRequest, match="made for another model"):
        chosen_neurons(request(neurons=artifact_id), sites, data_dir)


def test_random_neurons_come_from_the_requests_seed(data_dir):
    sites = sites_of(models()["suspect"])
    drawn = [chosen_neurons(request(neurons="random", k=9, seed=seed), sites, data_dir).hash for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_lanes_and_baselines_are_in_plain_words():
    asked = request(neurons="random", k=1200, prefix=(4,), family_models={"suspect": "a", "source": "b", "base": "c"})
    others = baselines(asked)
    assert [lane(r) for r in (asked, *others)] == ["patched, 1,200 random neurons", "unpatched", "source alone", "base alone"]
    assert all(not r.answer_prefix and not baselines(r) for r in others)
    assert [lane(r) for r in baselines(request())] == ["unpatched", "source alone"] and lane(request()) == "patched, all neurons"


def test_models_of_another_shape_or_other_tokens_are_refused():
    """Whoever speaks: a comparison of strangers shows nothing."""
    roles = {"suspect": handle("llama", 1), "source": handle("gpt2", 2)}
    for patch in ("patched", "none", "source"):
        with pytest.raises(InvalidRequest, match="built differently"):
            list(method(None).run(request(patch=patch), RunContext(), roles))
    with pytest.raises(InvalidRequest, match="same weights|at once"):
        list(method(None).run(request(), RunContext(), {"suspect": roles["suspect"], "source": roles["suspect"]}))
    experts = {role: handle("mixtral", seed, model=build("mixtral", seed)) for role, seed in (("suspect", 0), ("source", 1))}
    with pytest.raises(ModelError, match="mixture of experts"):
        list(method(None).run(request(), RunContext(), experts))


def test_inspecting_shows_the_law_before_and_after():
    roles, asked = models(), request()
    found = method(None).inspect(asked, roles, ids(events(roles, asked, Neurons.every(sites_of(roles["suspect"])))), 4, 5)
    seq = PROMPT + ids(events(roles, asked, Neurons.every(sites_of(roles["suspect"]))))[:4]
    every = Neurons.every(sites_of(roles["suspect"]))
    oracles = {
        "the suspect, unpatched": uncached_logits(roles["suspect"].model, seq)[-1],
        "the suspect, patched": recomputed(roles["suspect"], roles["source"], seq, every),
        "the source": uncached_logits(roles["source"].model, seq)[-1],
    }
    assert set(found["models"]) == set(oracles) and found["n_neurons"] == 96
    for name, row in oracles.items():
        top = found["models"][name]["top"][:5]
        assert [one["id"] for one in top] == row.topk(5).indices.tolist()
        assert [one["p"] for one in top] == pytest.approx(row.softmax(0).topk(5).values.tolist(), abs=1e-4)
    alone = method(None).inspect(request(patch="source"), roles, ids(events(roles, asked)), 2, 3)
    assert list(alone["models"]) == ["source"]


# The verdict and the workbench ------------------------------------------------------------------------------------------------------


def record(text, patch, status="completed", error=None, **stats):
    lines = (json.dumps({"event": "token", "position": 4, "text": " 12", "source": "patched", "detail": {"own": [3, " 17"]}}),)
    return RunRecord("r", request(patch=patch), status, lane=patch, text=text, stats=stats, error=error, lines=lines)


def test_the_verdict_counts_and_compares_and_claims_nothing():
    found = dict(n_tokens=9, patched_tokens=2, n_neurons=64, of_neurons=1024)
    said = method(None).verdict([record("a", "patched", **found), record("b", "none", n_tokens=9), record(" a", "source", n_tokens=9)])
    assert said.sentence == (
        "With 64 of 1,024 neurons patched the suspect chose otherwise at 2 of 9 tokens, first at token 4, where it wanted ' 17' and said ' 12'. "
        "Unpatched: another text. The source alone: the same text. One answer says nothing about a score; the audit does."
    )
    assert said.holds is None and said.figures["lanes"][0]["patched_tokens"] == 2
    untouched = method(None).verdict([record("a", "patched", **found | {"patched_tokens": 0})]).sentence
    assert "chose what it would have chosen anyway, at all 9 tokens" in untouched
    failed = method(None).verdict([record("", "patched", "failed", "No such list."), record("b", "none", n_tokens=2)])
    assert failed.sentence == "Failed: No such list. Unpatched: another text."


def test_a_group_runs_through_the_workbench(data_dir):
    places = {"suspect": str(save_tiny(data_dir / "a", seed=1)), "source": str(save_tiny(data_dir / "b", seed=2))}
    house = Workbench(data_dir, {"contamination": method(data_dir)}, ModelService(ModelPool(data_dir, assets_dir())), Store(data_dir))
    try:
        asked = RunRequest("contamination", Prompt.user("the cat"), places, SamplingParams(max_new_tokens=6), {"neurons": "random", "k": 60})
        lines = [json.loads(line) for line in house.run_group([asked, *house.baselines(asked)], RunContext())]
        done = [line for line in lines if line["event"] == "done"]
        assert len(done) == 3 and {line["finish_reason"] for line in done} <= {"stop", "length"}
        assert [line["kind"] for line in lines if line["event"] == "finding"] == ["identity"]
        assert "60 of 96 neurons patched" in lines[-1]["sentence"] and lines[-1]["event"] == "verdict"
        run_id = next(line["run"] for line in lines if line["event"] == "started")
        assert set(house.inspect(run_id, 0)["models"]) == {"the suspect, unpatched", "the suspect, patched", "the source"}
        with pytest.raises(InvalidRequest, match="suspect and comparison at once"):
            house.check(RunRequest("contamination", Prompt.user("x"), {"suspect": places["suspect"], "source": places["suspect"]}))
        other = RunRequest("contamination", Prompt.user("x"), {**places, "source": str(save_tiny(data_dir / "c", hidden=64))})
        with pytest.raises(InvalidRequest, match="hidden size 32 and 64"):
            house.check(other)
    finally:
        house.close()
