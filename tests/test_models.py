"""The pool, the passport, the choice of dtype, and whether two models' tokens mean the same."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

from backend import memory, model_dtype, models
from backend.errors import ModelError
from backend.model_dtype import choose_dtype
from backend.models import ModelPool
from backend.passport import is_causal, load_config, stop_ids
from backend.paths import assets_dir
from tests.families import FAMILIES, STATEFUL, build
from tests.tiny_models import save_tiny, tiny_model, tiny_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def four(data_dir: Path) -> dict[str, int]:
    """Four models of the user's own, each with the bytes of its weights in fp32; `big` is wider."""
    sizes = {}
    for seed, (name, hidden) in enumerate({"a": 32, "b": 32, "c": 32, "big": 96}.items()):
        save_tiny(data_dir / "models" / "mine" / name, seed, hidden)
        sizes[f"mine/{name}"] = 4 * sum(p.numel() for p in tiny_model(len(tiny_tokenizer()), seed, hidden).parameters())
    return sizes


@pytest.fixture
def pool(data_dir: Path) -> ModelPool:
    return ModelPool(data_dir, assets_dir(), device="cpu")


def loaded_ids(pool: ModelPool) -> list[str]:
    return [model.id for model in pool.loaded()]


class Closable:
    closed = False

    def close(self) -> None:
        self.closed = True


# Loading -----------------------------------------------------------------------------------------------------------------------


def test_a_loaded_model_is_the_saved_one_in_eval_mode(pool: ModelPool, tiny_dir: Path) -> None:
    loaded = pool.load(str(tiny_dir))
    original = AutoModelForCausalLM.from_pretrained(tiny_dir, dtype=torch.float32)
    theirs = original.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in loaded.model.state_dict().items())
    assert not loaded.model.training
    assert (loaded.dtype, loaded.device, loaded.model.dtype) == (torch.float32, CPU, torch.float32)
    assert loaded.vocab_size == loaded.model(torch.tensor([[1]])).logits.shape[-1]
    assert loaded.stop_ids == (2,)
    assert loaded.line() == {"id": str(tiny_dir), "hash": loaded.hash, "dtype": "float32", "device": "cpu", "origin": "folder"}


def test_weights_can_be_trained(pool: ModelPool, tiny_dir: Path) -> None:
    model = pool.load(str(tiny_dir)).model
    model(torch.tensor([[1, 5, 6]]), labels=torch.tensor([[1, 5, 6]])).loss.backward()
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0


def test_the_same_id_is_loaded_once(pool: ModelPool, four: dict[str, int]) -> None:
    both = pool.load_all({"target": "mine/a", "draft": "mine/a"})
    assert both["target"] is both["draft"] is pool.load("mine/a")


def test_two_threads_get_the_same_model(pool: ModelPool, four: dict[str, int]) -> None:
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(pool.load("mine/a"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] is got[1]


def test_replaced_files_are_loaded_again(pool: ModelPool, four: dict[str, int], data_dir: Path) -> None:
    before = pool.load("mine/a")
    shutil.rmtree(data_dir / "models" / "mine" / "a")
    save_tiny(data_dir / "models" / "mine" / "a", seed=77)
    after = pool.load("mine/a")
    assert after.hash != before.hash
    assert not torch.equal(after.model.get_input_embeddings().weight, before.model.get_input_embeddings().weight)


def test_shards_load_as_one_model(pool: ModelPool, tmp_path: Path, tiny_dir: Path) -> None:
    folder = save_tiny(tmp_path / "sharded", shard="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    ids = torch.tensor([[1, 40, 50]])
    assert torch.equal(pool.load(str(folder)).model(ids).logits, pool.load(str(tiny_dir)).model(ids).logits)


# Memory ------------------------------------------------------------------------------------------------------------------------


def test_the_estimate_is_what_the_weights_take(pool: ModelPool, four: dict[str, int]) -> None:
    for model_id, size in four.items():
        plan = pool.cost(model_id)
        loaded = pool.load(model_id)
        assert plan.bytes == size == sum(p.numel() * p.element_size() for p in loaded.model.parameters())


def test_least_recently_used_is_freed_first_and_its_resources_closed(data_dir: Path, four: dict[str, int]) -> None:
    pool = ModelPool(data_dir, assets_dir(), memory_budget_bytes=2 * four["mine/a"], device="cpu")
    held = {name: pool.load(f"mine/{name}").resources.get("worker", Closable) for name in "ab"}
    pool.load("mine/a")
    pool.load("mine/c")
    assert loaded_ids(pool) == ["mine/a", "mine/c"]
    assert (held["a"].closed, held["b"].closed) == (False, True)


def test_the_budget_holds_for_any_order_of_loads(data_dir: Path, four: dict[str, int]) -> None:
    """Oracle: after each load the last models used, as many as fit, are exactly those that are kept."""
    budget = four["mine/big"] + four["mine/a"]
    pool = ModelPool(data_dir, assets_dir(), memory_budget_bytes=budget, device="cpu")
    expected: list[str] = []
    for name in ["a", "b", "c", "big", "a", "c", "b", "a", "big", "b"]:
        model_id = f"mine/{name}"
        pool.load(model_id)
        expected = [m for m in expected if m != model_id] + [model_id]
        while sum(four[m] for m in expected) > budget:
            expected.pop(0)
        assert loaded_ids(pool) == expected


def test_all_roles_are_reserved_at_once_or_refused_with_the_sum(data_dir: Path, four: dict[str, int]) -> None:
    pool = ModelPool(data_dir, assets_dir(), memory_budget_bytes=four["mine/big"] + 1000, device="cpu")
    pool.load("mine/a")
    total = f"{(four['mine/big'] + four['mine/b']) / 1e6:.1f} MB"
    with pytest.raises(ModelError, match=rf"mine/big .* \+ mine/b .* = {total}; the budget is .* Choose a smaller model"):
        pool.load_all({"target": "mine/big", "draft": "mine/b"})
    assert loaded_ids(pool) == ["mine/a"]  # nothing was freed for a load that can't be
    assert set(pool.load_all({"target": "mine/big"})) == {"target"}


def test_too_large_is_refused_before_anything_is_read(data_dir: Path, four: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ModelPool(data_dir, assets_dir(), memory_budget_bytes=1000, device="cpu")
    monkeypatch.setattr(models, "load_weights", lambda *a: pytest.fail("weights were read"))
    with pytest.raises(ModelError, match="mine/big .*parameters in float32"):
        pool.load("mine/big")


def test_roles_of_one_request_do_not_push_each_other_out(data_dir: Path, four: dict[str, int]) -> None:
    pool = ModelPool(data_dir, assets_dir(), memory_budget_bytes=2 * four["mine/a"], device="cpu")
    pool.load("mine/a")
    pool.load("mine/b")
    assert set(pool.load_all({"x": "mine/c", "y": "mine/a"})) == {"x", "y"}
    assert set(loaded_ids(pool)) == {"mine/a", "mine/c"}


def test_a_held_model_is_not_freed(data_dir: Path, four: dict[str, int]) -> None:
    pool = ModelPool(data_dir, assets_dir(), memory_budget_bytes=2 * four["mine/a"], device="cpu")
    pool.load("mine/a")
    with pool.holding(["mine/a"]):
        pool.load("mine/b")
        pool.load("mine/c")
        assert loaded_ids(pool) == ["mine/a", "mine/c"]
        with pytest.raises(ModelError, match="mine/a .* in use by a job"):
            pool.load_all({"x": "mine/b", "y": "mine/c"})
    pool.load_all({"x": "mine/b", "y": "mine/c"})
    assert set(loaded_ids(pool)) == {"mine/b", "mine/c"}


def test_unload_and_close_free_what_they_should(pool: ModelPool, four: dict[str, int]) -> None:
    workers = [pool.load(f"mine/{name}").resources.get("worker", Closable) for name in "abc"]
    pool.unload("mine/b")
    pool.unload("mine/never-loaded")
    assert [w.closed for w in workers] == [False, True, False]
    pool.close()
    assert loaded_ids(pool) == [] and all(w.closed for w in workers)


def test_the_list_says_what_is_loaded(pool: ModelPool, four: dict[str, int]) -> None:
    pool.load("mine/b")
    rows = {row["id"]: row["loaded"] for row in pool.list()}
    assert {m: rows[m] for m in ("smollm2", *four)} == {"smollm2": False, **{m: m == "mine/b" for m in four}}


def test_the_default_budget_is_a_share_of_the_smallest_limit(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("5000\n")
    (tmp_path / "none").write_text("max\n")
    assert memory.container_limits((tmp_path / "set", tmp_path / "none", tmp_path / "missing")) == [5000]
    assert 0 < memory.default_budget(CPU) <= 0.6 * memory.psutil.virtual_memory().total


def test_running_out_of_memory_is_told_by_name(pool: ModelPool, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(ModelError, match=f"{tiny_dir}: not enough memory on cpu .* choose a smaller model"):
        pool.load(str(tiny_dir))


# Refusals ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path: Path, tiny_dir: Path) -> Path:
    return Path(shutil.copytree(tiny_dir, tmp_path / "fresh"))


def as_bert(folder: Path) -> None:
    config = BertConfig(vocab_size=60, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertForMaskedLM(config).save_pretrained(folder)


def as_t5(folder: Path) -> None:
    T5ForConditionalGeneration(T5Config(vocab_size=60, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(folder)


def unknown_type(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "from_the_future"}')


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def lost_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def misfit(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (as_bert, "not a causal language model .BertForMaskedLM.; choose"),
        (as_t5, "not a causal language model .T5ForConditionalGeneration.; choose"),
        (unknown_type, "config.json can't be used .*choose another"),
        (broken_config, "config.json can't be used .*repair"),
        (broken_tokenizer, "tokenizer can't be read .*download the model again"),
        (lost_weight, "lack 1 weight.s., the first is model.layers.1.mlp.up_proj.weight; download"),
        (misfit, "weights can't be loaded .*download the model again"),
    ],
)
def test_what_cannot_run_is_refused_by_name_with_what_to_do(pool: ModelPool, fresh: Path, harm, says: str) -> None:
    harm(fresh)
    with pytest.raises(ModelError, match=says) as caught:
        pool.load(str(fresh))
    assert str(caught.value).startswith(str(fresh))
    assert pool.loaded() == []


# Dtype -------------------------------------------------------------------------------------------------------------------------


def test_dtype_follows_the_wish_then_the_environment_then_the_size(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOUPE_DTYPE", raising=False)
    monkeypatch.setattr(model_dtype, "bf16_pays", lambda folder: True)
    assert choose_dtype(CPU, 1_000_000, data_dir) == torch.float32
    assert choose_dtype(CPU, 100_000_000, data_dir) == torch.bfloat16
    monkeypatch.setenv("LOUPE_DTYPE", "float16")
    assert choose_dtype(CPU, 100_000_000, data_dir) == torch.float16
    assert choose_dtype(CPU, 100_000_000, data_dir, "float32") == torch.float32
    with pytest.raises(ModelError, match="dtype must be one of float32, bfloat16, float16, got 'int4'"):
        choose_dtype(CPU, 1, data_dir, "int4")


@pytest.mark.parametrize(("bf16", "pays"), [(0.5, True), (1.0, True), (1.2, False)])
def test_bf16_is_measured_once_and_taken_unless_slower(data_dir: Path, monkeypatch: pytest.MonkeyPatch, bf16: float, pays: bool) -> None:
    calls: list[torch.dtype] = []

    def seconds(dtype: torch.dtype) -> float:
        calls.append(dtype)
        return bf16 if dtype == torch.bfloat16 else 1.0

    monkeypatch.setattr(model_dtype, "seconds", seconds)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert [model_dtype.bf16_pays(data_dir), model_dtype.bf16_pays(data_dir)] == [pays, pays]
    assert sorted(map(str, calls)) == ["torch.bfloat16", "torch.float32"]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert model_dtype.bf16_pays(data_dir) is False and len(calls) == 2


def test_the_pool_loads_in_the_dtype_asked_for(data_dir: Path, four: dict[str, int]) -> None:
    pool = ModelPool(data_dir, assets_dir(), device="cpu", dtype="bfloat16")
    loaded = pool.load("mine/a")
    assert loaded.model.dtype == loaded.dtype == torch.bfloat16
    plan = pool.cost("mine/a")
    assert plan.n_parameters * 2 * (2 if plan.packed else 1) == plan.bytes and plan.n_parameters * 4 == four["mine/a"]


# Passport ----------------------------------------------------------------------------------------------------------------------


def test_a_passport_before_loading_is_the_one_after(pool: ModelPool, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(models, "load_weights", lambda *a: pytest.fail("weights were read"))
        before = pool.describe(str(tiny_dir))
    loaded = pool.load(str(tiny_dir))
    assert before == loaded.passport == pool.describe(str(tiny_dir))
    assert before.n_parameters == sum(p.numel() for p in loaded.model.parameters())
    assert (before.n_layers, before.n_heads, before.context_length, before.vocab_size) == (2, 4, 128, 300)
    assert (before.cache, before.rollback, before.chat_template) == ("full", "yes", True)
    assert before.stop_tokens == ((2, "<|stop|>"),) and before.hash == loaded.hash
    assert before.methods == {"structured": "yes"}
    assert json.loads(json.dumps(before.to_json()))["memory_bytes"] == {
        name: before.n_parameters * size for name, size in {"float32": 4, "bfloat16": 2, "float16": 2}.items()
    }


@pytest.mark.parametrize("family", sorted({**FAMILIES, **STATEFUL}))
def test_every_family_has_a_passport_with_the_right_count_and_rollback(pool: ModelPool, tmp_path: Path, family: str) -> None:
    model = build(family)
    model.save_pretrained(tmp_path / family)
    tiny_tokenizer().save_pretrained(tmp_path / family)
    passport = pool.describe(str(tmp_path / family))
    assert passport.n_parameters == sum(p.numel() for p in model.parameters())
    assert passport.rollback.startswith("no: " if family in STATEFUL else "yes")
    assert ("sliding" in passport.cache) == (family in ("mistral", "gemma2", "gemma3", "phi3", "phi3_longrope")), passport.cache


def test_the_licence_comes_from_the_model_card(pool: ModelPool, fresh: Path) -> None:
    assert pool.describe(str(fresh)).licence is None
    (fresh / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\nlicense: not this one\n")
    assert pool.describe(str(fresh)).licence == "apache-2.0"


def test_a_hub_model_that_is_not_here_has_a_passport_without_weights(pool: ModelPool, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fresh / "model.safetensors").unlink()
    monkeypatch.setattr(models, "download", lambda model_id, progress, weights: fresh)
    passport = pool.describe("org/name")
    assert (passport.hash, passport.origin, passport.n_layers) == (None, "hub", 2)


def test_a_hub_model_too_large_is_refused_before_its_weights_are_fetched(data_dir: Path, fresh: Path, monkeypatch) -> None:
    (fresh / "model.safetensors").unlink()
    monkeypatch.setattr(models, "download", lambda model_id, progress, weights: fresh)
    monkeypatch.setattr(models, "get", lambda *a: pytest.fail("weights were fetched"))
    with pytest.raises(ModelError, match="Too large for this machine: org/name"):
        ModelPool(data_dir, assets_dir(), memory_budget_bytes=10, device="cpu").load("org/name")


def test_stop_ids_are_those_of_all_three_places_within_the_logits(fresh: Path) -> None:
    (fresh / "generation_config.json").write_text('{"eos_token_id": [7, 0, 999]}')
    config, tokenizer = load_config("x", fresh), tiny_tokenizer()
    config.eos_token_id = [5, 7]
    assert stop_ids(fresh, config, tokenizer, 300) == (7, 0, 5, 2)


def test_a_decoder_made_from_an_encoder_counts_as_causal_only_if_its_config_says_so() -> None:
    assert not is_causal(BertConfig())
    assert is_causal(BertConfig(is_decoder=True))
    assert not is_causal(T5Config())


# The real one ------------------------------------------------------------------------------------------------------------------


@pytest.mark.smollm2
def test_the_real_model_knows_the_capital_of_france(smollm2) -> None:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    ids = smollm2.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    answer = []
    with torch.inference_mode():
        for _ in range(16):
            answer.append(int(smollm2.model(ids).logits[0, -1].argmax()))
            if answer[-1] in smollm2.stop_ids:
                break
            ids = torch.cat([ids, torch.tensor([[answer[-1]]])], dim=1)
    assert "Paris" in smollm2.tokenizer.decode(answer)
    assert answer[-1] == 2


@pytest.mark.smollm2
def test_the_real_model_has_its_passport(smollm2) -> None:
    passport = smollm2.passport
    assert (passport.n_parameters, passport.n_layers, passport.vocab_size, passport.context_length) == (134_515_008, 30, 49_152, 8192)
    assert {2, 0} <= set(smollm2.stop_ids) and passport.chat_template and passport.licence == "apache-2.0"
    assert smollm2.origin in ("hub", "gguf") and smollm2.line()["hash"] == smollm2.hash
    assert smollm2.tokenizer.convert_ids_to_tokens(smollm2.tokenizer("  1").input_ids) == ["ĠĠ", "1"]
