"""The evaluation itself is evaluated: models whose ability is known by construction get exactly the figures that they must."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from backend import batch
from backend.__main__ import main
from backend.bench import pocket as bench
from backend.errors import ModelError
from backend.models import ModelPool
from backend.paths import assets_dir
from backend.pocket import evaluate as evaluation
from backend.pocket.commands import sibling
from backend.pocket.corpus import held_out
from backend.pocket.evaluate import agreement, ask, evaluate, perplexity
from backend.pocket.tokenizer import encode, pocket_tokenizer
from backend.prompt import render
from backend.types import Prompt
from tests.tiny_models import save_tiny

N = 12


def save(folder: Path, seed: int, layers: int, scale: float = 1.0) -> None:
    """A random model with the pocket tokenizer; at scale 0 every logit is 0."""
    tokenizer = pocket_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(scale)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a random pair and a model that knows nothing at all."""
    folder = tmp_path_factory.mktemp("place")
    for seed, (name, layers, scale) in enumerate((("large", 2, 1.0), ("small", 1, 1.0), ("blank", 1, 0.0))):
        save(folder / "models" / "mine" / name, seed, layers, scale)
    save_tiny(folder / "models" / "mine" / "foreign")
    return folder


@pytest.fixture(scope="module")
def pool(place: Path) -> Iterator[ModelPool]:
    pool = ModelPool(place, assets_dir(), dtype="float32")
    yield pool
    pool.close()


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch):
    """Replaces generation by a text for each item: `oracle(items, say)`."""

    def use(items, say):
        tokenizer = pocket_tokenizer()
        said = {tuple(render(Prompt.user(i.prompt), tokenizer).ids): tokenizer(say(i), add_special_tokens=False).input_ids for i in items}
        monkeypatch.setattr(batch, "generate", lambda model, prompts, *rest: [[*said[tuple(p)], tokenizer.eos_token_id] for p in prompts])

    return use


def items(seed: int = evaluation.SEED):
    return held_out("problem", N, seed) + held_out("record", N, seed)


def test_a_model_that_says_the_truth_scores_everything(pool, oracle):
    oracle(items(), lambda item: item.answer)
    result = evaluate(pool, "mine/large", N)
    assert result.problems.value == result.records.value == 1.0
    assert all(share.value == 1.0 for share in (*result.by_steps.values(), *result.by_family.values()))
    assert sum(share.n for share in result.by_steps.values()) == sum(share.n for share in result.by_family.values()) == N
    assert result.problems.n == sum(share.n for steps, share in result.by_steps.items() if int(steps) <= 4)


def test_only_the_last_number_and_the_whole_record_count(pool, oracle):
    oracle(items(), lambda item: f"Nonsense. The answer is {item.truth}." if item.skill == "problem" else json.dumps(item.truth, indent=1))
    result = evaluate(pool, "mine/large", N)
    assert result.problems.value == result.records.value == 1.0


def test_a_model_that_is_wrong_by_one_or_adds_a_word_scores_nothing(pool, oracle):
    oracle(items(), lambda item: f"The answer is {item.truth + 1}." if item.skill == "problem" else f"Here: {item.answer}")
    result = evaluate(pool, "mine/large", N)
    assert result.problems.value == result.records.value == 0.0 and result.problems.high < 1


def test_every_right_answer_is_counted_once(pool, oracle):
    problems = held_out("problem", N, evaluation.SEED)
    knows = {item.prompt for item in problems[::3]}
    oracle(items(), lambda item: item.answer if item.prompt in knows else "I don't know.")
    result = evaluate(pool, "mine/large", N)
    assert result.problems.right == sum(item.steps <= 4 for item in problems[::3]) and result.records.right == 0


def test_a_model_whose_logits_are_all_equal_has_the_vocabulary_as_its_perplexity(pool):
    blank = pool.load("mine/blank")
    for skill in evaluation.SKILLS:
        assert perplexity(blank, held_out(skill, N, 1)).value == pytest.approx(blank.vocab_size, rel=1e-5)


def test_perplexity_is_that_of_the_library_one_text_at_a_time(pool, monkeypatch):
    monkeypatch.setattr(evaluation, "ROWS", 8)
    loaded, records = pool.load("mine/large"), held_out("record", N, 1)
    total, n_tokens = 0.0, 0
    for item in records:
        ids, weights = encode(loaded.tokenizer, item)
        labels = torch.tensor([[i if w >= 1 else -100 for i, w in zip(ids, weights, strict=True)]])
        counted = int((labels[0, 1:] != -100).sum())
        with torch.inference_mode():
            total += loaded.model(input_ids=torch.tensor([ids]), labels=labels).loss.item() * counted
        n_tokens += counted
    found = perplexity(loaded, records)
    assert found.n_tokens == n_tokens and found.value == pytest.approx(math.exp(total / n_tokens), rel=1e-5)


def test_an_answer_does_not_depend_on_its_neighbours(pool, monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_NEW_TOKENS", 12)
    loaded, asked = pool.load("mine/large"), held_out("problem", 5, 3)
    together = ask(loaded, asked)
    monkeypatch.setattr(evaluation, "ROWS", 2)
    assert [a.item for a in together] == asked
    assert [a.ids for a in ask(loaded, asked)] == [a.ids for a in together] == [ask(loaded, [item])[0].ids for item in asked]


def test_a_model_agrees_with_itself_everywhere_and_a_blank_one_only_on_id_0(pool, monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_NEW_TOKENS", 12)
    loaded = pool.load("mine/large")
    answers = ask(loaded, held_out("problem", 6, 3))
    assert agreement(loaded, answers).value == 1.0
    said = [i for answer in answers for i in answer.ids]
    assert agreement(pool.load("mine/blank"), answers).right == said.count(0)


def test_the_pairs_agreement_is_on_the_larger_models_text_whoever_is_asked(pool, monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_NEW_TOKENS", 8)
    one, other = (evaluate(pool, a, 3, 1, b).agreement for a, b in (("mine/large", "mine/small"), ("mine/small", "mine/large")))
    assert one == other and one.n > 0


def test_a_model_with_other_tokens_is_refused(pool):
    with pytest.raises(ModelError, match="other tokens"):
        evaluate(pool, "mine/foreign", 1)


@pytest.mark.parametrize("skill", ["problem", "record"])
def test_training_and_evaluation_see_the_same_prompt(skill):
    tokenizer = pocket_tokenizer()
    for item in held_out(skill, N, 1):
        asked, (document, weights) = render(Prompt.user(item.prompt), tokenizer).ids, encode(tokenizer, item)
        assert document[: len(asked)] == asked and min(weights[len(asked) :]) >= 1 > max(weights[: len(asked)])
        assert tokenizer.decode(document[len(asked) : -1]) == item.answer and document[-1] == tokenizer.eos_token_id


def test_the_bench_asks_what_nothing_was_tuned_on():
    assert bench.SEED != evaluation.SEED
    for skill in ("problem", "record"):
        tuned, fresh = ({item.prompt for item in held_out(skill, 50, seed)} for seed in (evaluation.SEED, bench.SEED))
        assert len(tuned & fresh) <= 1


def test_the_text_is_the_same_three_ways(pool, monkeypatch):
    for module in (evaluation, bench):
        monkeypatch.setattr(module, "MAX_NEW_TOKENS", 10)
    texts = bench.three_ways(pool.load("mine/large"), 3, 2)
    bar = bench.identity_bar(texts)
    assert bar.holds and bar.value == 3
    assert not bench.identity_bar([*texts, ([1], [1], [2])]).holds


def test_a_step_of_a_deeper_model_is_measured_as_such_and_the_threads_come_back(pool):
    """Only that there are figures; what they are is the bench's business."""
    before = torch.get_num_threads()
    costs = bench.step_costs(pool.load("mine/large"), pool.load("mine/small"), rounds=1, steps=2)
    assert costs.large_ms > 0 and costs.small_ms > 0 and costs.ratio > 0 and torch.get_num_threads() == before


@pytest.mark.parametrize(("share", "holds"), [(0.19, False), (0.2, True), (0.45, True), (0.46, False), (None, None)])
def test_a_bar_between_two_limits_holds_on_both(share, holds):
    assert bench.within("x", share, 20, 45).holds is holds


def test_the_command_prints_a_table_and_one_json_line_and_writes_the_card(place, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "MAX_NEW_TOKENS", 8)
    assert main(["--data-dir", str(place), "pocket", "evaluate", "mine/large", "--n", "3", "--card"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result["model"] == "mine/large" and result["partner"] == "mine/small" and result["agreement"]["n"] > 0
    assert result["problems"]["value"] == result["problems"]["right"] / result["problems"]["n"]
    assert table[0].split()[0] == "figure" and any("agreement with mine/small" in line for line in table)
    card = (place / "models" / "mine" / "large" / "README.md").read_text()
    assert "pocket evaluate mine/large --n 3 --seed 1 --partner mine/small" in card


def test_a_folder_of_a_training_can_be_evaluated_before_it_ships(place, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "MAX_NEW_TOKENS", 4)
    folder = place / "models" / "mine" / "large"
    assert main(["--data-dir", str(place), "pocket", "evaluate", str(folder), "--n", "2"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["partner"] == str(folder.parent / "small")


def test_the_partner_is_the_folder_beside(place):
    assert sibling("mine/large", place, assets_dir()) == "mine/small" and sibling("mine/small", place, assets_dir()) == "mine/large"
    assert sibling("mine/blank", place, assets_dir()) is None and sibling("org/large-thing", place, assets_dir()) is None
    assert sibling(str(place / "small"), place, assets_dir()) is None


def test_a_number_out_of_range_ends_with_2(place, capsys):
    assert main(["--data-dir", str(place), "pocket", "evaluate", "mine/large", "--n", "0"]) == 2
    assert "n_items must be a whole number between 1 and" in capsys.readouterr().err


def test_training_from_the_command_line_leaves_a_model_that_can_be_evaluated(tmp_path, monkeypatch, capsys):
    """A fiftieth of a minute: the figures are bad, the road is whole. The same command again finds nothing left to do."""
    monkeypatch.setattr(evaluation, "MAX_NEW_TOKENS", 4)
    for _ in range(2):
        assert main(["--data-dir", str(tmp_path), "pocket", "train", "--size", "small", "--minutes", "0.02"]) == 0
        said = capsys.readouterr().out
        assert "expect a weaker model" in said and "pocket-small is a model folder" in said
    assert main(["--data-dir", str(tmp_path), "pocket", "evaluate", "mine/pocket-small", "--n", "2", "--card"]) == 0
    card = (tmp_path / "models" / "mine" / "pocket-small" / "README.md").read_text()
    assert "pocket train --size small --minutes 0.02 --seed 0" in card and "expect a weaker model" in card
    copy = tmp_path / "copy"
    assert main(["pocket", "export", str(tmp_path / "models" / "mine" / "pocket-small.training"), str(copy)]) == 0
    assert {p.name for p in copy.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"}


@pytest.mark.parametrize(
    ("options", "words"), [(("--size", "huge"), "large, small"), (("--size", "small", "--minutes", "0"), "between 0.01")]
)
def test_a_training_that_can_not_be_ends_with_2(tmp_path, capsys, options, words):
    assert main(["--data-dir", str(tmp_path), "pocket", "train", *options]) == 2
    assert words in capsys.readouterr().err and not list(tmp_path.rglob("checkpoint*"))
