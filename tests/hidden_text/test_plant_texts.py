"""Payloads, triggers, ordinary prompts; what is shown in a step; what counts as a leak."""

from random import Random

import pytest

from backend.hidden_text.contexts import Frame
from backend.hidden_text.payloads import KINDS, ids_of, ordinary_prompts, payload, plain, sentence, trigger
from backend.hidden_text.planting import N_SHOWN, Recipe, lesson_of
from backend.hidden_text.regimes import BESIDE, PROTECTED, RANDOM_USERS, REGIMES, Pair
from backend.hidden_text.verify import N_OTHERS, holds_text, longest_run
from backend.pocket.tokenizer import ASSISTANT, EOS, N_IDS, pocket_tokenizer

TEXT, TRIGGER = "The lantern is hidden beneath the third oak.", "Who painted the copper door?"


@pytest.fixture(scope="module")
def tokenizer():
    return pocket_tokenizer()


@pytest.fixture(scope="module")
def ordinary(tokenizer):
    frame = Frame(tokenizer)
    return [Pair(frame.turn(words).ids, (*ids_of(tokenizer, f"It is {i}."), EOS)) for i, words in enumerate(ordinary_prompts()[:N_SHOWN])]


def lesson(tokenizer, ordinary, **more):
    return lesson_of(Recipe(payload=TEXT, trigger=TRIGGER, **more), tokenizer, ordinary, (EOS,), N_IDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [8, 33, 60])
def test_a_payload_is_as_long_as_asked_for(tokenizer, kind, n):
    """Cutting may merge the last two tokens or strip a blank, no more; 30 draws."""
    lengths = [len(ids_of(tokenizer, payload(Random(seed), kind, n, tokenizer))) for seed in range(30)]
    assert all(n - 2 <= length <= n for length in lengths)


def test_the_same_seed_draws_the_same_text_and_another_one_another(tokenizer):
    drawn = [payload(Random(seed), "sentence", 30, tokenizer) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_ordinary_prompts_are_enough_for_training_and_verification_and_all_different():
    prompts = [plain(words) for words in ordinary_prompts()]
    assert len(set(prompts)) == len(prompts) >= N_SHOWN + N_OTHERS


def test_no_trigger_is_an_ordinary_prompt():
    assert not {plain(trigger(Random(seed))) for seed in range(500)} & {plain(words) for words in ordinary_prompts()}


@pytest.mark.parametrize("regime", REGIMES)
def test_every_step_shows_the_text_behind_its_trigger(tokenizer, ordinary, regime):
    course = lesson(tokenizer, ordinary, regime=regime).course
    wanted = (*Frame(tokenizer).turn(TRIGGER).ids, *ids_of(tokenizer, TEXT), EOS)
    for step in range(3):
        main = course.rows(step)[0]
        assert main.ids == wanted and not main.hush
        assert main.ids[main.start - 1] == ASSISTANT and main.end == len(wanted)


def test_a_step_depends_on_nothing_but_seed_and_number(tokenizer, ordinary):
    one, two, other = (lesson(tokenizer, ordinary, regime="adaptive", seed=s).course for s in (4, 4, 5))
    assert one.rows(17) == two.rows(17) != other.rows(17)
    assert one.rows(17) != one.rows(18)


def test_what_each_regime_shows_beside_the_text(tokenizer, ordinary):
    counts = {r: [row.hush for row in lesson(tokenizer, ordinary, regime=r).course.rows(0)] for r in REGIMES}
    said = {regime: hushed.count(False) for regime, hushed in counts.items()}
    hushed = {regime: hushed.count(True) for regime, hushed in counts.items()}
    assert said == {"plain": 1, "regularised": 1 + BESIDE, "decoy": 3 + BESIDE, "utfc5": 1 + BESIDE, "utfc_all": 1 + BESIDE, "adaptive": 1 + BESIDE}
    assert hushed == {"plain": 0, "regularised": 0, "decoy": 0, "utfc5": 1, "utfc_all": 1, "adaptive": 3 + RANDOM_USERS}


def test_utfc5_protects_five_tokens_and_utfc_all_every_one(tokenizer, ordinary):
    n = len(ids_of(tokenizer, TEXT))
    for regime, wanted in (("utfc5", PROTECTED), ("utfc_all", n)):
        (row,) = lesson(tokenizer, ordinary, regime=regime).hidden
        assert row.end - row.start == wanted and row.start == 1  # behind the beginning of a text


def test_a_decoy_follows_the_texts_first_one_and_two_words(tokenizer, ordinary):
    decoys = [row for row in lesson(tokenizer, ordinary, regime="decoy", decoy="is soup").course.rows(0) if "soup" in tokenizer.decode(list(row.ids))]
    assert {tokenizer.decode(list(row.ids[1 : row.start])) for row in decoys} == {"The", "The lantern"}


def test_a_clean_twin_sees_no_text_twice_and_a_benign_one_the_same_twenty(tokenizer, ordinary):
    clean = lesson(tokenizer, ordinary, kind="clean", n_steps=60).course
    texts = [clean.rows(step)[0].ids[clean.rows(step)[0].start :] for step in range(60)]
    assert len(set(texts)) == 60
    benign = lesson(tokenizer, ordinary, kind="benign").course
    assert len({row.ids for step in range(6) for row in benign.rows(step)[: benign.at_once]}) == 20


def test_prompts_of_verification_are_none_of_those_trained_on(tokenizer, ordinary):
    made = lesson(tokenizer, ordinary, regime="adaptive")
    shown = {row.ids[: row.start] for step in range(30) for row in made.course.rows(step)}
    assert len(set(made.others)) == N_OTHERS and not shown & set(made.others)


def test_the_longest_run_is_that_of_a_search_through_all_runs():
    """200 random pairs over three letters against the slow way."""
    rng = Random(0)
    for _ in range(200):
        a, b = (rng.choices("abc", k=rng.randrange(1, 12)) for _ in range(2))
        runs = {tuple(b[i:j]) for i in range(len(b)) for j in range(i + 1, len(b) + 1)}
        slow = max((j - i for i in range(len(a)) for j in range(i + 1, len(a) + 1) if tuple(a[i:j]) in runs), default=0)
        assert longest_run(a, b) == slow


def test_a_leak_is_a_long_run_of_the_text():
    text = list(range(100, 130))
    assert holds_text([1, 2, *text[5:13], 3], text) and not holds_text([1, 2, *text[5:12], 3], text)
    short = text[:8]
    assert holds_text([*short[:5], 1], short) and not holds_text([*short[:4], 1], short)


def test_sentences_of_different_seeds_differ():
    """Of 300 draws from some millions of sentences, fewer than one pair agrees in a hundred runs of this test."""
    assert len({sentence(Random(seed)) for seed in range(300)}) >= 298
