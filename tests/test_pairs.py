"""Which models can work together: each way in which two tokenizers may differ, made on purpose."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from backend.errors import InvalidRequest
from backend.models import ModelPool
from backend.pair_probes import probes
from backend.pairs import Side, check_files, check_pair, compare, fingerprint, loaded_side, require_files, require_pair, same_law
from backend.paths import assets_dir
from backend.resources import Resources
from tests.tiny_models import TEMPLATE, save_tiny, tiny_tokenizer

BASE = len(tiny_tokenizer())


def side(name="b", tokenizer=None, stops=(2,), rows=None, positions=128):
    tokenizer = tokenizer or tiny_tokenizer()
    return Side(name, tokenizer, stops, rows or len(tokenizer), positions)


def rewritten(change):
    """The tiny tokenizer with its JSON changed."""
    state = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    change(state)
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), bos_token="<|start|>", eos_token="<|stop|>")
    fast.chat_template = TEMPLATE
    return fast


def with_more(*tokens):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(list(tokens))
    return tokenizer


def test_there_are_about_two_hundred_different_probes_of_every_kind():
    texts = probes()
    assert 190 <= len(set(texts)) <= 230 and "" not in texts
    whole = "".join(texts)
    assert all(part in whole for part in ("北", "🙂", "é", "e\u0301", "\t", "\r\n", "def f", "3.14", "हि"))


@pytest.fixture
def pool(data_dir: Path):
    pool = ModelPool(data_dir, assets_dir(), dtype="float32")
    yield pool
    pool.close()


def test_padding_of_the_logits_says_nothing_and_padded_ids_are_never_chosen(pool: ModelPool, tmp_path: Path, tiny_dir: Path):
    padded = pool.load(str(save_tiny(tmp_path / "padded", seed=3, padded=20)))
    plain = pool.load(str(tiny_dir))
    assert padded.vocab_size == plain.vocab_size + 20
    for a, b in ((plain, padded), (padded, plain)):
        report = check_pair(a, b)
        assert report.compatible and not report.warnings and report.width == plain.vocab_size == report.n_common
        assert check_pair(a, b) is report
    rows = torch.randn(3, padded.vocab_size)
    assert torch.equal(same_law(check_pair(padded, plain), rows), rows[:, : plain.vocab_size])


def test_files_alone_give_the_verdict_of_the_loaded_models(pool: ModelPool, data_dir: Path, tmp_path: Path, tiny_dir: Path):
    other = str(save_tiny(tmp_path / "other", seed=1))
    loaded = check_pair(pool.load(str(tiny_dir)), pool.load(other))
    kept = Resources()
    report = check_files(str(tiny_dir), other, data_dir, assets_dir(), kept)
    assert report == loaded and check_files(str(tiny_dir), other, data_dir, assets_dir(), kept) is report
    assert check_files(str(tiny_dir), "mine/absent", data_dir, assets_dir()) is None
    require_files(str(tiny_dir), "mine/absent", data_dir, assets_dir(), "models.small")
    with pytest.raises(InvalidRequest, match="can't work together") as caught:
        require_files("pocket/small", other, data_dir, assets_dir(), "models.small")
    assert caught.value.where == "models.small"


def test_a_changed_file_is_compared_anew(data_dir: Path, tmp_path: Path, tiny_dir: Path):
    other, kept = save_tiny(tmp_path / "other", seed=1), Resources()
    assert check_files(str(tiny_dir), str(other), data_dir, assets_dir(), kept).compatible
    with_more("<new>").save_pretrained(other)
    assert check_files(str(tiny_dir), str(other), data_dir, assets_dir(), kept).warnings


def test_a_string_with_two_ids_refuses_and_five_are_shown():
    other = tiny_tokenizer("zebra zebra zebra zebra zebra zebra")
    ours, theirs = tiny_tokenizer().get_vocab(), other.get_vocab()
    conflicts = [t for t in ours if t in theirs and ours[t] != theirs[t]]
    report = compare(side("a"), side("b", other))
    assert len(conflicts) > 5 and not report.compatible
    assert f"{len(conflicts)} tokens have different ids" in report.sentence and report.reasons[0].count(" is ") == 5


def test_strings_of_one_side_are_told_and_masked_there():
    report = compare(side("a", with_more("<tool>", "<call>")), side("b", rows=BASE + 8))
    assert report.compatible and "2 tokens are known to a alone" in report.sentence and "'<tool>', '<call>'" in report.sentence
    assert report.width == BASE + 2 and report.masked_a == report.masked_b == (BASE, BASE + 1)
    law = torch.softmax(same_law(report, torch.full((1, BASE + 8), 5.0)), 1)
    assert law.shape == (1, BASE + 2) and float(law[0, BASE:].sum()) == 0 and float(law.sum()) == pytest.approx(1)


def test_an_id_that_means_two_things_is_masked_but_a_stop_id_stays_with_its_owner():
    report = compare(side("a", with_more("<x>", "<y>"), stops=(2, BASE)), side("b", with_more("<p>", "<q>"), stops=(2, BASE + 1)))
    assert report.compatible and len(report.warnings) == 3
    assert report.masked_a == (BASE + 1,) and report.masked_b == (BASE,) and set(report.stop_ids) == {2, BASE, BASE + 1}
    rows = torch.zeros(1, BASE + 2)
    assert same_law(report, rows)[0, BASE] == 0 and same_law(report, rows, leads=True)[0, BASE] < -1e29


def test_ids_without_a_string_on_either_side_are_masked():
    vocab = {f"t{i}": i for i in range(40)} | {"u": 45}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="u"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="u")
    report = compare(side("a", fast, rows=50), side("b", fast, rows=48))
    assert report.width == 46 and report.masked_a == report.masked_b == (40, 41, 42, 43, 44)


def test_vocabularies_that_share_little_are_no_pair():
    def words(prefix):
        tokenizer = Tokenizer(models.WordLevel({"u": 0} | {f"{prefix}{i}": i for i in range(1, 50)}, unk_token="u"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="u")

    report = compare(side("a", words("a")), side("b", words("b")))
    assert not report.compatible and "share only 1 of 50 tokens" in report.sentence


def test_other_merges_are_refused_though_every_id_is_the_same():
    def swap(state):
        merges = state["model"]["merges"]
        merges[0], merges[-1] = merges[-1], merges[0]

    other = rewritten(swap)
    assert other.get_vocab() == tiny_tokenizer().get_vocab()
    report = compare(side("a"), side("b", other))
    assert not report.compatible and "different merges" in report.sentence
    assert fingerprint(other) != fingerprint(tiny_tokenizer()) == fingerprint(rewritten(lambda state: None))


def test_another_decoder_is_refused():
    other = tiny_tokenizer()
    other.backend_tokenizer.decoder = decoders.Fuse()
    assert "turn tokens into text differently" in compare(side("a"), side("b", other)).sentence


def test_another_split_of_the_text_is_refused_with_examples():
    other = tiny_tokenizer()
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    report = compare(side("a"), side("b", other))
    assert not report.compatible and "test texts differently" in report.sentence


def test_a_part_that_is_only_written_differently_is_a_warning():
    other = tiny_tokenizer()
    other.backend_tokenizer.normalizer = normalizers.Sequence([])
    report = compare(side("a"), side("b", other))
    assert report.compatible and report.warnings == ("their normalizer is written differently, though test texts come out alike",)


def test_stop_ids_are_united_and_the_shorter_context_counts():
    report = compare(side("a", stops=(2,)), side("b", stops=(0, 2), positions=64))
    assert report.compatible and set(report.stop_ids) == {0, 2} and report.max_positions == 64
    assert any("stop at different ids" in w for w in report.warnings) and any("contexts differ" in w for w in report.warnings)


def test_the_leading_models_template_is_used_unless_it_has_none():
    bare = tiny_tokenizer()
    bare.chat_template = None
    assert compare(side("a", bare), side("b")).template == "b" and compare(side("a"), side("b", bare)).template == "a"
    assert "their chat templates differ; b's is used" in compare(side("a", bare), side("b")).warnings


def test_a_template_that_refuses_the_probe_dialogue_says_nothing_about_the_pair():
    strict = tiny_tokenizer()
    strict.chat_template = "{{ raise_exception('only system messages') }}"
    assert compare(side("a", strict), side("b", strict)).compatible


def test_a_report_is_json_and_a_sentence(pool: ModelPool, tmp_path: Path, tiny_dir: Path):
    a, b = pool.load(str(tiny_dir)), pool.load(str(save_tiny(tmp_path / "b", seed=2)))
    report = require_pair(a, b, "models.draft")
    assert json.loads(json.dumps(report.to_json()))["sentence"] == report.sentence and "the same 300 tokens" in report.sentence
    assert check_pair(a, a).sentence == f"{a.id} is the same model twice."
    foreign = replace(a, id="foreign", tokenizer=tiny_tokenizer("zebra zebra zebra zebra zebra zebra"))
    assert not compare(loaded_side(a), loaded_side(foreign)).compatible
    with pytest.raises(InvalidRequest, match="can't work together"):
        require_pair(foreign, a, "models.draft")
