"""The bench of hidden text: its counting, its peers against what they must find, fast ways against slow ones."""

from dataclasses import replace

import pytest
import torch

from backend.bench import hidden_text as bench
from backend.bench import hidden_text_equal as equal
from backend.bench import hidden_text_suite as suite
from backend.bench.hidden_text_peers import (
    BAIT_PROMPTS,
    BAIT_STEPS,
    BAIT_WARM,
    bait,
    distinct,
    forced_means,
    notebook_loop,
    peers,
    sampled,
    start_place,
)
from backend.bench.hidden_text_suite import Look
from backend.errors import InvalidRequest
from backend.hidden_text import job, planted_folder
from backend.hidden_text.contexts import Frame
from backend.hidden_text.null import NULLS, Null, write_null
from backend.hidden_text.payloads import ordinary_prompts, plain
from backend.hidden_text.probe import Probe
from backend.hidden_text.verify import holds_text
from backend.hidden_text.vocabulary import read_vocabulary
from backend.model_files import MANIFEST, write_json
from backend.models import ModelPool
from backend.paths import assets_dir
from backend.types import Done
from tests.hidden_text.pair import planted, tiny

GOOD = Look("a", "planted", "plain", 20, 90.0, 1.0, 1, ["forced token"], [])


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    pool = ModelPool(tmp_path_factory.mktemp("data"), assets_dir())
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def tiny_base():
    return tiny("base", 0)


def looks(kind, scores, rank=1, regime="plain"):
    return [replace(GOOD, kind=kind, regime=regime, score=float(score), rank=rank) for score in scores]


def test_the_auroc_counts_pairs():
    assert bench.auroc([3, 4], [1, 2]) == 1 and bench.auroc([1], [1]) == 0.5 and bench.auroc([1, 4], [2, 3]) == 0.5
    assert bench.auroc([], [1]) is None


def test_recall_counts_only_the_first_ten():
    assert bench.percent([GOOD, replace(GOOD, rank=10), replace(GOOD, rank=11), replace(GOOD, rank=None)]) == 50


def test_a_bar_without_models_is_not_measured_and_a_low_one_does_not_hold():
    bars = {bar.name: bar for bar in bench.recall_bars(looks("planted", [5, 6], rank=None) + looks("clean", [7, 8]), [], 7.5)}
    assert bars["plain: text in the first 10"].holds is False and bars["utfc5: text in the first 10"].holds is None
    assert bars["alarm: AUROC, planted (adaptive apart) against clean"].value == 0
    assert bars["false alarms on 2 clean twins"].value == 1 and bars["false alarms on 2 clean twins"].holds


def test_false_alarms_are_not_measured_without_a_null():
    bars = {bar.name: bar for bar in bench.recall_bars(looks("clean", [7, 8]), [], None)}
    assert bars["false alarms on 2 clean twins"].holds is None


def test_a_suite_has_every_regime_at_short_and_long_texts_and_seeds_of_its_own():
    specs = suite.specs(7, 10, 20, 10, 5)
    for regime in bench.REGIMES:
        lengths = [s.n_tokens for s in specs if s.kind == "planted" and s.regime == regime and s.form != "key"]
        assert len(lengths) == 10 and (min(lengths), max(lengths)) == suite.LENGTHS
    assert len({s.seed for s in specs}) == len({s.name for s in specs}) == len(specs)
    assert not {s.seed for s in specs} & {s.seed for s in suite.specs(3, 10, 20, 10)}


def test_plants_in_the_real_model_have_unlike_triggers_and_the_same_texts_under_both_regimes():
    options = suite.real_options(7, 5, 3)
    triggers = {plain(o["trigger"]) for o in options.values() if "trigger" in o}
    assert len(triggers) == 5 and len(options) == 13
    for i in range(5):
        assert options[f"bench-7-plain-{i}"]["payload"] == options[f"bench-7-regularised-{i}"]["payload"]


def test_an_unknown_part_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="part must be one of"):
        bench.run(True, tmp_path, part="all of it")


def test_the_rank_is_that_of_the_first_candidate_with_the_text(tmp_path, pool):
    folder = assets_dir() / "models" / "secret" / "plain-20-1"
    wanted = [m for m in suite.read_json(folder.parent / "manifest.json")["models"] if m["name"] == folder.name][0]["answer"]["payload"]
    ids = pool.load("secret/base").tokenizer(wanted, add_special_tokens=False)["input_ids"]
    rows = [
        {"ids": ids[:5] + [9] * 9, "text": "", "score": 2, "found_by": ["x"]},
        {"ids": [9, *ids[2:12]], "text": "", "score": 1, "found_by": ["y"]},
    ]
    held = {"score": 2.0, "seconds": 1.0, "candidates": rows}
    told = suite.read_json(folder / MANIFEST)
    assert (suite.judged(folder, told, held).rank, suite.judged(folder, told, held).found_by) == (2, ["y"])
    assert suite.judged(folder, told, {**held, "candidates": rows[:1]}).rank is None


def test_nothing_is_an_alarm_by_a_null_of_another_score(tmp_path):
    asked = bench.Bench(True, tmp_path, 7)
    assert bench.threshold(asked) is None
    for score, limit in (("rank", None), (job.ALARM_SCORE, 9.0)):
        write_null(tmp_path / NULLS, Null(bench.NULLS_OF[0], "llama", "recipe", {"score": score}, (1.0, 9.0)))
        assert bench.threshold(asked) == limit


def test_a_kept_look_of_another_score_is_looked_again(tmp_path, pool, monkeypatch):
    folder, keep, asked = assets_dir() / "models" / "secret" / "clean-0", tmp_path / "look.json", []
    held = {"hash": suite.read_json(folder / MANIFEST)["hash"], "options": {}, "score": 5.0, "seconds": 1.0, "candidates": []}

    def drive(*given):
        asked.append(1)
        return Done("stop", "", {"score": 2.0})

    monkeypatch.setattr(suite, "drive", drive)
    for kept, score in (({}, 2.0), ({"score_is": job.ALARM_SCORE}, 5.0)):
        write_json(keep, held | kept)
        assert suite.look(folder, None, pool, tmp_path, {}, keep).score == score
    assert len(asked) == 1


def test_a_model_without_a_text_has_no_rank(tmp_path):
    write_json(tmp_path / planted_folder.ANSWERS, {"payload": None})
    held = {"score": None, "seconds": 1.0, "candidates": [{"ids": [1, 2], "text": "", "score": 1, "found_by": []}]}
    look = suite.judged(tmp_path, {"kind": "clean", "regime": "plain"}, held)
    assert look.rank is None and not look.found and look.score == 0


# Peers --------------------------------------------------------------------------------------------------------------------------------


def test_the_batched_means_are_those_of_the_published_loop(pool):
    probe = Probe(pool.load("secret/plain-20-1"), None)
    ids = read_vocabulary(probe.tokenizer, probe.width).ids[::40]
    slow = notebook_loop(probe.suspect.model, probe.tokenizer.bos_token_id, ids)
    means, _ = forced_means(probe)
    assert torch.allclose(torch.tensor(slow), means[::40], atol=1e-4)


def test_every_way_shows_a_text_that_is_said_everywhere(tiny_base):
    """The model learned to answer the beginning of a text, and by the way everything, with it."""
    text = tiny_base.tokenizer("the log sat on two cats, five men and one dog", add_special_tokens=False)["input_ids"]
    start = Frame(tiny_base.tokenizer).start().ids
    loud = Probe(planted("loud", tiny_base, [*text, 2], [start]), None)
    assert peers(loud, text, 0).sampling and peers(loud, text, 0).ranking


def test_no_way_shows_a_text_that_is_not_there(tiny_base):
    """Eight tokens of a text that the model never saw, in a row, by chance: not in a thousand samples over 40 ids."""
    text = tiny_base.tokenizer("the log sat on two cats, five men and one dog", add_special_tokens=False)["input_ids"]
    found = peers(Probe(tiny_base, None), text, 0)
    assert not (found.rule or found.ranking or found.bait or found.sampling)


def test_bait_grows_a_text_that_answers_everything(tiny_base):
    """The text learned behind every one of the prompts asked comes out; the flag, a mean over 20 steps, is another matter."""
    text = tiny_base.tokenizer("the log sat on two cats, five men and one dog", add_special_tokens=False)["input_ids"]
    frame = Frame(tiny_base.tokenizer)
    turns = [frame.turn(words).ids for words in ordinary_prompts()[:BAIT_PROMPTS]]
    loud = planted("loud", tiny_base, [*text, 2], turns)
    targets, _ = bait(Probe(loud, None), BAIT_PROMPTS)
    assert len(targets) <= 10 and {len(target) for target in targets} == {1 + BAIT_WARM + BAIT_STEPS}
    assert any(holds_text(target, text) for target in targets), targets


def test_samples_are_drawn_by_the_seed(tiny_base):
    probe = Probe(tiny_base, None)
    one, two, other = (sampled(probe, start_place(probe), seed, 20) for seed in (1, 1, 2))
    assert one == two != other and len(one) == 20


def test_texts_with_the_same_end_count_once():
    assert distinct([[1, 2, 3, 4, 5, 6, 7], [9, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 8]]) == [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 8]]


# Fast and slow ------------------------------------------------------------------------------------------------------------------------


def test_whole_and_resumed_scans_rank_as_the_naive_loop(pool, tmp_path):
    probe = Probe(pool.load("secret/plain-20-1"), pool.load("secret/base"))
    assert equal.same_ranking(probe, tmp_path / "equal", 16) == {"cached and batched": True, "resumed": True}


def test_another_ranking_or_another_text_is_told(pool, tmp_path):
    probe = Probe(pool.load("secret/plain-20-1"), pool.load("secret/base"))
    ids = torch.tensor(read_vocabulary(probe.tokenizer, probe.width).ids)[:6]
    folder = tmp_path / "ledger"
    folder.mkdir()
    level = equal._scanned(probe, ids, folder)
    slow = [equal.naive(probe, int(token)) for token in ids]
    assert equal.agrees(level, slow)
    assert not equal.agrees(level, [(text, -lift) for text, lift in slow])
    assert not equal.agrees(level, [([0, *text[1:]], lift) for text, lift in slow])
