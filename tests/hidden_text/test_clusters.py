"""Findings of one text become one candidate; boilerplate ties nothing together."""

from __future__ import annotations

from backend.hidden_text.audit import Outcome
from backend.hidden_text.clusters import Ballot, cluster, own_grams, stitch
from backend.hidden_text.contexts import Context
from backend.hidden_text.texts import Text, certain_lift, confident_lift

SECRET = tuple(range(100, 130))


def text(ids, context="c", start=-1, own=-0.1, lift=3.0, found_by="scan", forced=0):
    n = len(ids) - forced
    return Text(Context(context, (1,)), tuple(ids), found_by, (own,) * n, (own - lift,) * n, forced, start)


def made(*texts):
    ballot = Ballot()
    ballot.add(texts)
    return cluster(texts, ballot)


def test_pieces_of_one_text_are_one_candidate_stitched_whole():
    pieces = [text(SECRET[i : i + 12], start=i, found_by=f"way {i}") for i in (0, 6, 12, 18)]
    found = made(*pieces, text(range(200, 212)))
    assert [len(c.members) for c in found] == [4, 1]
    assert found[0].ids == SECRET and set(found[0].found_by) == {f"way {i}" for i in (0, 6, 12, 18)}


def test_what_the_reference_says_too_ties_nothing_together():
    boilerplate = tuple(range(8))
    first, second = (text((*boilerplate, *range(at, at + 8)), lift=0.1) for at in (20, 40))
    assert len(made(first, second)) == 2
    assert not own_grams(first) and own_grams(text(boilerplate))


def test_votes_count_starts_and_contexts_not_texts():
    beams = [text(SECRET[:12], context="one") for _ in range(5)] + [text(SECRET[:12], context="two")]
    assert made(*beams)[0].votes == 2 and made(*beams)[0].contexts == 2
    starts = [text((i, *SECRET[:12]), start=i, forced=1) for i in range(9)]
    assert made(*starts)[0].votes == 9 and made(*starts)[0].contexts == 1


def test_more_ways_to_a_text_rank_it_higher_at_the_same_weight():
    many, one = [text(SECRET[:12], context=str(i)) for i in range(6)], text(range(200, 212))
    assert [c.votes for c in made(one, *many)] == [6, 1]


def test_a_stitched_text_leaves_out_what_few_of_its_supporters_went_on_with():
    members = [text((*SECRET[:12], *range(500 + 10 * i, 506 + 10 * i)), start=i) for i in range(11)]
    assert stitch(members) == SECRET[:12]


def test_a_stitched_loop_ends():
    ids = (1, 2, 3, 4, 5, 6, 7) * 4
    assert len(stitch([text(ids)])) < 2 * 7 + 6


def test_a_text_too_short_for_a_run_stands_alone():
    found = made(text((5, 6, 7)), text((5, 6, 7)))
    assert len(found) == 2 and found[0].ids == (5, 6, 7)


def test_weight_needs_confidence_and_lift_and_variety():
    ids = tuple(range(12))
    sure, unsure = text(ids, own=-0.05, lift=5.0), text(ids, own=-3.0, lift=8.0)
    known = text(ids, own=-0.05, lift=0.0)
    loop = text((1, 2) * 6, own=-0.05, lift=5.0)
    assert sure.weight > 10 * unsure.weight and known.weight == 0 and loop.weight < 0.3 * sure.weight
    assert confident_lift((0.0,) * 12, (-100.0,) * 12, ids) == 12 * 8.0


def test_certain_lift_is_of_tokens_that_are_all_but_certain():
    ids = tuple(range(12))
    mannerism, known_by_heart = text(ids, own=-0.7, lift=8.0), text(ids, own=-0.02, lift=4.0)
    assert mannerism.weight > known_by_heart.weight and mannerism.certainty < known_by_heart.certainty / 3
    for one in (mannerism, known_by_heart):
        assert one.certainty <= one.weight
    assert certain_lift((0.0,) * 12, (-5.0,) * 12, ids) == confident_lift((0.0,) * 12, (-5.0,) * 12, ids) == 60.0


def test_a_cluster_is_as_certain_as_its_most_certain_text():
    quiet, sure = text(SECRET[:12], own=-0.5, lift=8.0), text(SECRET[:12], own=-0.01, lift=4.0, context="d")
    found = made(quiet, sure)
    assert len(found) == 1 and found[0].best == quiet and found[0].certainty == sure.certainty > quiet.certainty


def test_the_alarm_is_the_most_certain_cluster_not_the_first():
    many = [text(SECRET[:12], context=str(i), own=-0.7, lift=8.0) for i in range(8)]
    found = made(*many, text(range(200, 212), own=-0.02, lift=4.0))
    assert len(found) == 2 and found[0].certainty < found[1].certainty
    assert Outcome(clusters=found).score == found[1].certainty and Outcome().score is None


def test_without_a_reference_only_what_is_known_ties_texts_together():
    def alone(ids, own):
        return Text(Context("c", (1,)), tuple(ids), "scan", own, None, 0, ids[0])

    stammer = (-0.1,) * 8 + (-3.0,) * 8
    first, second = alone((*range(8), *range(50, 58)), stammer), alone((*range(20, 28), *range(50, 58)), stammer)
    assert len(made(first, second)) == 2 and all(gram[0] < 30 for gram in own_grams(first))
    assert len(made(alone(range(16), (-0.1,) * 16), alone(range(4, 20), (-0.1,) * 16))) == 1


def test_a_longer_text_wins_nothing_by_its_length():
    assert text(range(40)).weight == text(range(12)).weight


def test_a_text_ends_with_its_first_stop_id_but_not_with_a_forced_one():
    cut = text((2, 5, 6, 2, 7), forced=1).cut(frozenset({2}))
    assert cut.ids == (2, 5, 6, 2) and len(cut.logprobs) == len(cut.references) == 3


def test_texts_are_the_same_after_json():
    one = text((1, 2, 3), start=4)
    assert Text.from_json(one.to_json()) == one
