"""The bench of the audit: its figures by hand, its bars on models whose truth is known, and the whole of it on a toy family."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from backend.bench import contamination as bench
from backend.bench import contamination_family
from backend.bench.contamination_family import Audited, audit_one, by_member
from backend.contamination import exam_items
from backend.contamination.exam_items import Member
from backend.errors import InvalidRequest
from backend.paths import assets_dir


def audited(name="some-64", seed=0, leaked=(1.0, 0.5), fresh=(0.5, 0.49), addition=(0.9, 0.89), random=(0.9, 0.94), true=0.5, exposures=64,
            state="contaminated", skill="some", base=0.2, auc=0.97):  # fmt: skip
    member = Member(name, skill, exposures, "base", "twin", {"role": "crossed"})
    sets = {"leaked": leaked, "fresh": fresh, "addition": addition}
    changes = [{"model": "suspect", "set": n, "before": {"value": b}, "after": {"value": a}, "delta": {"value": a - b}} for n, (b, a) in sets.items()]
    report = {
        "changes": changes, "controls": [{"name": f"random {i}", "set": "leaked", "value": v} for i, v in enumerate(random)],
        "constant": {"base": base}, "verdict": {"state": state, "cannot": []},
        "chosen": {"k": 8, "curve": [{"k": 0, "accuracy": {"leaked": 1.0}}, {"k": 8, "accuracy": {"leaked": leaked[1] - 0.02}}]},
        "indicators": [{"name": "min_k_pp", "subset": "base fails", "auc": {"value": auc}}],
    }  # fmt: skip
    return Audited(member, seed, "twin", report, true, true)


def test_an_audit_is_run_once_for_the_same_models_and_options(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(contamination_family, "_run", lambda request, models: ran.append(request.options["most"]) or audited().report)
    family = exam_items.load(assets_dir() / "models" / "exam")
    member, pool = family.members["some-64"], SimpleNamespace(load_all=lambda ids: {role: SimpleNamespace(hash=name) for role, name in ids.items()})
    for most in (40, 40, 30, 40):
        found = audit_one(family, member, 0, "twin", pool, most, tmp_path)
        assert found.report["verdict"]["state"] == "contaminated" and 0 < found.true < 1 and 0 < found.true_searched < 1
    assert ran == [40, 30]
    audit_one(family, family.members["some-16"], 0, "twin", pool, 40, tmp_path)
    assert ran == [40, 30, 40]


class Given:
    """A bench whose audits are given."""

    quick, seeds, most = True, (0,), 0

    def __init__(self, crossed):
        self._crossed = crossed

    def crossed(self):
        return self._crossed

    def heavy(self, source="twin"):
        return [a for a in self._crossed if a.member.exposures == 64]

    def named(self, *roles):
        return []

    def _kept(self, name, members, source):
        return []


def crossed(patch):
    """Twelve models; `patch(true, seen)` is the patched score of one whose leaked score is `seen`."""
    found = []
    for skill, true in (("none", 0.2), ("some", 0.35), ("much", 0.5)):
        for exposures, share in ((0, 0.0), (4, 0.2), (16, 0.7), (64, 1.0)):
            seen = true + share * (1 - true)
            leaked = (seen, patch(true, seen))
            state = "contaminated" if exposures == 64 else "no sign"
            some = audited(f"{skill}-{exposures}", 0, leaked, (true, true), true=true, exposures=exposures, skill=skill, state=state,
                           auc=0.98 if exposures else 0.51)  # fmt: skip
            found.append(some)
    return found


def bars(found):
    return {bar.name: bar for bar in found.bars}


def test_figures_are_read_off_the_report():
    one = audited()
    assert one.restoration == pytest.approx(0.0) and one.inflation == pytest.approx(0.5) and one.moved == pytest.approx(0.5)
    assert (
        one.halves_apart == pytest.approx(0.02)
        and one.random == pytest.approx(0.92)
        and one.searched == pytest.approx(0.48)
        and one.auc("min_k_pp", "base fails") == 0.97
    )
    assert bench.moved(one, "fresh") == pytest.approx(0.01) and bench.lost(one, "addition") == pytest.approx(0.01)
    assert bench.lost(one, "subtraction") == 0.0 and "some-64" in bench.line(one)


def test_the_worst_member_counts_and_of_each_the_mean_over_its_seeds():
    audits = [audited("a", 0, (1.0, 0.52)), audited("a", 1, (1.0, 0.50)), audited("b", 0, (1.0, 0.56)), audited("b", 1, (1.0, 0.54))]
    assert bench.worst(audits, lambda a: a.restoration) == pytest.approx(5.0)
    assert bench.lowest(audits, lambda a: a.restoration) == pytest.approx(1.0)
    assert bench.worst([], lambda a: a.restoration) is None and list(by_member(audits)) == ["a", "b"]


def test_a_perfect_patch_meets_every_bar_of_the_family():
    found = bars(bench.family_part(Given(crossed(lambda true, seen: true))))
    assert all(bar.holds for bar in found.values()), [bar for bar in found.values() if not bar.holds]


def test_reporting_the_base_for_everybody_fails_the_bars_that_ask_for_more():
    found = bars(bench.family_part(Given(crossed(lambda true, seen: 0.2))))
    assert found["error to true ability / constant base's error"].value == pytest.approx(1.0)
    assert not found["error to true ability / constant base's error"].holds and not found["Spearman(patched, true)"].holds


def test_a_patch_that_does_nothing_fails_order_and_dose():
    found = bars(bench.family_part(Given(crossed(lambda true, seen: seen))))
    assert not found["Spearman(patched, true)"].holds and not found["… less Spearman(unpatched, true)"].holds
    assert not found["Spearman(fall, exposures)"].holds


def test_the_leak_part_holds_for_a_clean_restoration_and_not_for_damage():
    good = bars(bench.leak_part(Given([audited(), audited("some-0", leaked=(0.5, 0.5), fresh=(0.5, 0.5), exposures=0)])))
    bad = bars(bench.leak_part(Given([audited(fresh=(0.5, 0.3), addition=(0.9, 0.4), random=(0.55, 0.6))])))
    assert good["heavy leak: patched leaked − own fresh"].holds and good["random neurons leave more of the leak by"].holds
    assert bad["heavy leak: patched leaked − own fresh"].holds and not bad["heavy leak: fresh items moved"].holds
    assert not bad["random neurons leave more of the leak by"].holds and not bad["heavy leak: learnt skill lost, twin as source"].holds
    assert good["GPT-2: patched leaked − own fresh"].holds is None  # no such model was given


def test_indicators_hold_on_leak_and_clean_alike():
    found = bars(bench.indicators_part(Given([audited(), audited("some-0", exposures=0, auc=0.52)])))
    assert all(bar.holds for bar in found.values())
    found = bars(bench.indicators_part(Given([audited(auc=0.7), audited("some-0", exposures=0, auc=0.6)])))
    assert not any(bar.holds for bar in found.values())


def test_a_part_that_there_is_none_of_is_refused(data_dir):
    with pytest.raises(InvalidRequest, match="part must be one or several of"):
        bench.run(True, data_dir, part="leak,taste")
