"""What a routed run may ask for, which lanes stand beside it, and what is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backend.artifacts import create
from backend.errors import InvalidRequest, WorkbenchError
from backend.models import ModelPool
from backend.options import parse_options
from backend.paths import assets_dir
from backend.prompt import render
from backend.resources import Resources
from backend.routing.costs import Costs, costs_of, measure, predicted_speedup
from backend.routing.fit import HEADS
from backend.routing.method import method
from backend.routing.request import BUDGETS, Options, baselines, lane, parse, replay
from backend.routing.router import Member, Router
from backend.types import Done, Prompt, RunContext, RunRequest, SamplingParams, Token
from tests.families import build
from tests.routing.pair import handle
from tests.tiny_models import save_tiny

POCKET = {"small": "pocket/small", "large": "pocket/large"}


def asked(strategy="neural", models=POCKET, n=8, prefix=(), **options):
    options = {"strategy": strategy, **options}
    return RunRequest("routing", Prompt.user("Tom has 2 apples."), models, SamplingParams(max_new_tokens=n), options, prefix)


@pytest.mark.parametrize(("strategy", "high"), [("neural", 1), ("entropy", 15), ("margin", 1), ("top1", 1), ("random", 1)])
def test_a_threshold_must_fit_its_strategy(strategy, high):
    assert parse(asked(strategy, threshold=float(high))).threshold == high
    for value in (-0.1, high + 0.1):
        with pytest.raises(InvalidRequest, match="threshold") as caught:
            parse(asked(strategy, threshold=value))
        assert caught.value.where == "options.threshold" and repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"strategy": "coin"}, "options.strategy"),
        ({"strategy": "oracle", "target_fraction": 0.1}, "options.target_fraction"),
        ({"strategy": "entropy", "target_fraction": 1.5}, "options.target_fraction"),
        ({"strategy": "entropy", "force": [[1, "big"]]}, "options.force"),
        ({"strategy": "entropy", "force": [[-1, "large"]]}, "options.force"),
        ({"strategy": "entropy", "force": ["large"]}, "options.force"),
        ({"strategy": "entropy", "controls": [[1, 99.0]]}, "options.controls"),
        ({"strategy": "entropy", "controls": [[True, 0.5]]}, "options.controls"),
        ({"strategy": "always", "controls": [[1, 0.5]]}, "options.controls"),
        ({"strategy": "every_k", "every": 0}, "options.every"),
    ],
)
def test_options_that_no_run_could_keep_are_refused_by_name(options, where):
    with pytest.raises(InvalidRequest) as caught:
        parse(asked(**options))
    assert caught.value.where == where


def test_beside_a_routed_run_stand_each_model_alone_and_its_rivals_at_the_same_budget():
    lanes = baselines(asked(target_fraction=0.15, force=[[1, "large"]], opinions=False))
    assert [lane(r) for r in lanes] == ["large only", "small only", "entropy at the same budget", "random at the same budget"]
    parsed = [parse(r) for r in lanes]
    assert [(p.strategy, p.target_fraction) for p in parsed] == [("always", 0), ("never", 0), ("entropy", 0.15), ("random", 0.15)]
    assert all(not p.force and not p.opinions for p in parsed)
    assert lane(asked()) == "routed" and [lane(r) for r in baselines(lanes[2])] == ["large only", "small only", "random at the same budget"]
    assert all(baselines(asked(s)) == [] for s in ("always", "never"))
    assert [lane(r) for r in baselines(asked("oracle"))] == [lane(r) for r in baselines(asked("random"))] == ["large only", "small only"]


def test_a_plain_threshold_gives_its_rivals_the_share_that_the_router_expects_and_says_so():
    known = baselines(asked(threshold=0.4), expected=lambda options: 0.123456)
    assert [parse(r).target_fraction for r in known[2:]] == [0.123, 0.123]
    assert lane(known[2]) == "entropy at 12.3 % large tokens (as the router expects)"
    guessed = baselines(asked(threshold=0.4))
    assert parse(guessed[2]).target_fraction == 0.1 and lane(guessed[3]) == "random at 10 % large tokens (assumed)"
    assert {parse(r).budget_from for r in [*known, *guessed]} == set(BUDGETS) - {"request"}


def test_a_replay_carries_the_thresholds_that_were_moved():
    moved = [{"event": "control", "name": "threshold", "value": 0.7, "position": 3}, {"event": "token", "position": 4}]
    assert parse(replay(asked(), moved)).recorded() == {3: 0.7} and replay(asked(), moved[1:]) == asked()


def test_every_option_has_a_help_text_and_a_default_that_passes():
    assert parse(asked("neural")) == parse_options(Options, {})
    assert all(len(f.metadata["help"]) > 20 for f in Options.__dataclass_fields__.values())


# With a router on disk -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory):
    pool = ModelPool(tmp_path_factory.mktemp("pool"), assets_dir(), dtype="float32")
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def pocket(pool: ModelPool):
    return pool.load_all(POCKET)


@pytest.fixture
def made(data_dir: Path, pocket):
    """A router of random weights for the pocket pair, as a training would leave it."""
    return save_router(data_dir, pocket)


def save_router(data_dir: Path, pocket) -> tuple[str, Path]:
    artifact_id, folder = create(data_dir, "router")
    members = {role: vars(Member.of(loaded)) for role, loaded in pocket.items()}
    width, draw = 32 + 3 + 2 * 64, torch.Generator().manual_seed(1)
    shares = [0.0, 0.5, 1.0]
    card = {"format": 1, "pair": members, "top_k": 32, "depth": 1,
            "thresholds": {"share": shares, **{name: [1.0, 0.5, 0.0] for name in ("neural", "entropy", "margin", "top1")}}}  # fmt: skip
    layers = [(torch.randn(width, 16, generator=draw) * 0.02, torch.zeros(16)), (torch.randn(16, HEADS, generator=draw), torch.zeros(HEADS))]
    Router(layers, card).save(folder)
    return artifact_id, folder


def test_a_routed_run_with_a_router_of_ones_own(data_dir: Path, pocket, made):
    routing, request = method(data_dir), asked(router=made[0], target_fraction=0.3, n=24)
    assert routing.check(request, Resources()) == []
    routing.warm(request, pocket)
    found = list(routing.run(request, RunContext(), pocket))
    scores = [e.detail["score"] for e in found if isinstance(e, Token)]
    assert len(scores) > 5 and all(0 <= s <= 1 for s in scores) and len(set(scores)) > 3
    assert isinstance(found[-1], Done) and found[-1].stats["params"]["router"] == Router.load(made[1]).n_parameters
    assert found[-1].stats["predicted_speedup"] > 0
    assert [routing.lane(r) for r in routing.baselines(asked(router=made[0], threshold=0.75))][2:] == [
        "entropy at 25 % large tokens (as the router expects)", "random at 25 % large tokens (as the router expects)"]  # fmt: skip
    other = {"small": "pocket/small", "large": "smollm2"}
    assert "assumed" in routing.lane(routing.baselines(asked(router=made[0], models=other))[2])


def test_each_pocket_model_alone_says_what_the_library_says(data_dir: Path, pocket):
    for strategy, role in (("always", "large"), ("never", "small")):
        request = asked(strategy, n=48)
        prompt = render(request.prompt, pocket[role].tokenizer).ids
        found = [e.id for e in method(data_dir).run(request, RunContext(), pocket) if isinstance(e, Token)]
        out = pocket[role].model.generate(torch.tensor([prompt]), max_new_tokens=48, do_sample=False, pad_token_id=0, eos_token_id=2)
        assert found == out[0, len(prompt) :].tolist()


def test_looking_inside_gives_both_models_and_the_run_s_own_figures(data_dir: Path, pocket, made):
    routing, request = method(data_dir), asked(router=made[0], n=12, threshold=0.4)
    tokens = [e for e in routing.run(request, RunContext(), pocket) if isinstance(e, Token)]
    ids = [t.id for t in tokens]
    for token in tokens[::3]:
        seen = routing.inspect(request, pocket, ids, token.position, 5)
        assert seen["score"] == seen["router"] == pytest.approx(token.detail["score"], abs=1e-3)
        assert seen["entropy"] == pytest.approx(token.detail["entropy"], abs=1e-3)
        assert seen["models"][token.source]["top"][0]["id"] == token.id and seen["models"][token.source]["top"][0]["final_p"] == 1.0
        assert len(seen["models"]["small"]["top"]) == 5 and seen["models"]["large"]["id"] == "pocket/large"


@pytest.mark.parametrize(
    ("damage", "words"),
    [(lambda f: (f / "router.safetensors").write_bytes(b"broken"), "damaged"), (lambda f: (f / "card.json").write_text("{"), "damaged"),
     (lambda f: (f / "router.safetensors").unlink(), "train the router again")],
)  # fmt: skip
def test_a_damaged_router_is_told_before_anything_runs(data_dir: Path, made, damage, words):
    damage(made[1])
    with pytest.raises(InvalidRequest, match=words) as caught:
        method(data_dir).check(asked(router=made[0]), Resources())
    assert caught.value.where == "options.router"


def test_a_router_that_is_not_there_or_another_pairs_is_refused(data_dir: Path, pocket, made):
    routing = method(data_dir)
    for name in ("shipped/nothing", "no artifact", "01ARZ3NDEKTSV4RRFFQ69G5FAV"):
        with pytest.raises(InvalidRequest) as caught:
            routing.check(asked(router=name), Resources())
        assert caught.value.where == "options.router"
    swapped = {"small": pocket["large"], "large": pocket["small"]}
    with pytest.raises(WorkbenchError, match="another pair"):
        list(routing.run(asked(router=made[0]), RunContext(), swapped))


def test_models_with_unlike_tokens_are_refused_before_they_are_loaded(data_dir: Path, pool: ModelPool, pocket, tmp_path: Path):
    foreign = str(save_tiny(tmp_path / "foreign"))
    request = asked("entropy", models={"small": foreign, "large": "pocket/large"})
    with pytest.raises(InvalidRequest, match="tokens have different ids") as caught:
        method(data_dir).check(request, Resources())
    assert caught.value.where == "models.small"
    with pytest.raises(InvalidRequest, match="can't work together"):
        list(method(data_dir).run(request, RunContext(), {"small": pool.load(foreign), "large": pocket["large"]}))
    absent = asked("entropy", models={"small": "mine/absent", "large": "pocket/large"})
    assert method(data_dir).check(absent, Resources()) == []


# Costs ----------------------------------------------------------------------------------------------------------------------------


def test_the_prediction_is_the_formula():
    """t_S = 2, t_R = 1, t_L = 10; a catch-up over 4 tokens takes 13, so at a quarter large tokens: 10 / (2 + 1 + 13 / 4)."""
    costs = Costs((1, 2, 4), (10.0, 11.0, 13.0))
    assert predicted_speedup(2.0, 1.0, 0.25, costs) == pytest.approx(10 / 6.25)
    assert costs.forward_ms(3) == 12 and costs.forward_ms(8) == 17 and costs.forward_ms(1) == 10
    assert predicted_speedup(2.0, 0.0, 0.0, costs) == pytest.approx(5) and predicted_speedup(0.0, 0.0, 1.0, costs) == pytest.approx(1)
    assert predicted_speedup(0.0, 0.0, 0.0, costs) is None and predicted_speedup(1.0, 0.0, 0.5, Costs((1,), (0.0,))) is None
    assert Costs((1,), (10.0,)).forward_ms(5) == 50


class Ticking:
    """A clock on which every look takes a second."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


def test_costs_are_measured_once_within_the_context_and_not_for_ever():
    loaded = handle("llama", 1)
    costs = costs_of(loaded, [5] * 200, Ticking())
    assert costs_of(loaded, [5], Ticking()) is costs and costs.widths == (1,) and costs.ms == (1000.0,)
    still = measure(loaded, [5, 6, 7], lambda: 0.0)
    assert still.widths == (1, 2, 4, 8, 16, 32) and set(still.ms) == {0.0}


def test_a_model_that_cannot_take_tokens_back_is_timed_one_step_at_a_time():
    loaded = handle("mamba", 1, model=build("mamba"))
    assert measure(loaded, [5, 6, 7], lambda: 0.0).widths == (1,)
