"""The training loop on a toy language whose next token is known: what is learned, what survives a kill."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from backend.errors import WorkbenchError
from backend.packing import Document, Packer
from backend.pocket.lean_llama import LeanLlama
from backend.training import Plan, fastest_dtype, make_optimizers, read_checkpoint, train, weighted_losses

N_IDS = 24


def documents(start: int) -> Iterator[Document]:
    """Two skills: counting up, and noise that nobody can learn."""
    for index in count(start):
        rng = random.Random(index)
        first, n = rng.randrange(2, N_IDS), rng.randrange(6, 20)
        counting = index % 4 > 0
        ids = [2 + (first + i) % (N_IDS - 2) if counting else rng.randrange(2, N_IDS) for i in range(n)]
        yield Document(ids, [1.0] * n if counting else [0.1] * n, "counting" if counting else "noise")


def toy(seed: int = 0) -> LeanLlama:
    config = LlamaConfig(
        vocab_size=N_IDS, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=32,
        max_position_embeddings=256, tie_word_embeddings=True,
    )  # fmt: skip
    return LeanLlama(config, seed)


def plan(steps: int = 60, **changes) -> Plan:
    return Plan(**{"muon_lr": 0.02, "adamw_lr": 1e-2, "decay_share": 0.5, "steps": steps, "warmup_steps": 5, "slots": 256, **changes})


def ticking():
    """A clock that advances by a second each time it is asked."""
    ticks = count()
    return lambda: float(next(ticks))


def run(folder: Path, seed: int = 0, stop_after: int | None = None, the_plan: Plan | None = None):
    """The trained model and its reports; `stop_after` abandons the run when that many steps are reported."""
    model, reports = toy(seed), []
    with closing(train(model, documents, the_plan or plan(), folder, clock=ticking(), report_s=1, checkpoint_s=7)) as going:
        for report in going:
            reports.append(report)
            if report.step == stop_after:
                break
    return model, reports


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return *run(folder), folder


def test_the_loss_of_what_can_be_learned_falls_and_that_of_noise_does_not(whole):
    _, reports, _ = whole
    first, last = reports[0].losses, reports[-1].losses
    assert last["counting"] < 0.6 * first["counting"]
    assert last["noise"] > 0.85 * first["noise"]
    assert reports[-1].finished and reports[-1].step == 60


def test_a_killed_run_goes_on_to_the_same_numbers(whole, tmp_path):
    model, reports, _ = whole
    run(tmp_path, stop_after=25)
    assert 0 < read_checkpoint(tmp_path)["progress"]["step"] < 25, "steps after the last checkpoint are lost, as in a kill"
    (tmp_path / "checkpoint.part").write_bytes(b"half a file")
    resumed, later = run(tmp_path, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), resumed.state_dict().values(), strict=True))
    assert later[-1].loss == reports[-1].loss and later[-1].tokens == reports[-1].tokens


def test_a_finished_run_does_not_start_again(whole):
    model, _, folder = whole
    again, reports = run(folder, seed=1)
    assert not reports
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_run_may_be_made_longer_but_not_go_on_at_other_rates(tmp_path):
    run(tmp_path, stop_after=10)
    with pytest.raises(WorkbenchError, match="another muon_lr"):
        run(tmp_path, the_plan=plan(muon_lr=0.01))
    _, reports = run(tmp_path, the_plan=plan(steps=12))
    assert reports[-1].step == 12 and reports[-1].finished


def test_a_folder_without_a_checkpoint_says_so(tmp_path):
    with pytest.raises(WorkbenchError, match="holds no checkpoint"):
        read_checkpoint(tmp_path)


def test_a_run_counted_in_seconds_ends_when_they_are_over(tmp_path):
    _, reports = run(tmp_path, the_plan=plan(steps=None, seconds=12))
    assert reports[-1].finished and reports[-1].elapsed_s >= 12 > reports[-2].elapsed_s
    assert reports[-1].left_s == 0 and reports[-2].left_s > 0


def test_rates_rise_stand_still_and_fall_to_nothing():
    schedule = plan(steps=100, warmup_steps=10, decay_share=0.4)
    factors = [schedule.factor(step, 0.0) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[9:61] == [1.0] * 52
    assert factors[80] == pytest.approx(0.5) and factors[100] == 0
    assert factors[60:] == sorted(factors[60:], reverse=True)


@pytest.mark.parametrize("changes", [{"steps": None}, {"seconds": 5.0}, {"decay_share": 0}, {"dtype": "float16"}, {"steps": 0}])
def test_a_plan_without_a_length_or_with_wrong_values_is_refused(changes):
    with pytest.raises(ValueError):
        plan(**changes)


def test_the_loss_of_a_document_does_not_depend_on_its_shard():
    model = toy()
    one, two = Packer(documents, 0, 1024), Packer(documents, 0, 256)
    large, small = [one.next()], [two.next() for _ in range(3)]
    assert min(one.position, two.position) >= 20
    assert _loss_by_document(model, large) == pytest.approx(_loss_by_document(model, small), abs=1e-5)


def _loss_by_document(model, shards) -> list[float]:
    """The summed loss of each of the first 20 documents of the stream."""
    found = {}
    for shard in shards:
        losses, at = weighted_losses(model, shard, torch.float32), 0
        for n_documents, length in shard.shapes:
            for _ in range(n_documents):
                found[tuple(shard.ids[at : at + length].tolist())] = losses[at : at + length].sum().item()
                at += length
    stream = documents(0)
    keys = [list(d.ids[:-1]) + [0] * (d.length - len(d.ids) + 1) for d in (next(stream) for _ in range(20))]
    return [found[tuple(key)] for key in keys]


def test_muon_has_the_matrices_of_the_blocks_and_adamw_the_rest():
    model = toy()
    *muons, adamw = make_optimizers(model, plan())
    names = {id(p): name for name, p in model.named_parameters()}
    with_muon = {names[id(p)] for o in muons for g in o.param_groups for p in g["params"]}
    with_adamw = {names[id(p)] for g in adamw.param_groups for p in g["params"]}
    assert with_muon | with_adamw == set(names.values()) and not with_muon & with_adamw
    assert with_adamw == {n for n in names.values() if "norm" in n or "embed" in n}


def test_the_probe_names_the_dtype_that_its_clock_found_cheaper():
    def clock_for(seconds: list[float]):
        times, now = iter(seconds), [0.0]

        def clock() -> float:
            now[0] += next(times)
            return now[0]

        return clock

    model = toy()
    assert fastest_dtype(model, documents, plan(), clock_for([0, 9, 0, 3, 0, 9, 0, 2])) == "bfloat16"
    assert fastest_dtype(model, documents, plan(), clock_for([0, 9, 0, 2, 0, 1, 0, 3])) == "float32"
