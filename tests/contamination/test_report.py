"""The report: what was found, on which models, items and options."""

from __future__ import annotations

import json

import pytest

from backend.contamination import report, shipped
from backend.contamination.audit_request import prepare
from backend.contamination.indicators import ALL, FAILED, Reading
from backend.errors import InvalidRequest
from tests.contamination.test_audit import asked, models


def test_a_report_names_models_and_items_by_hash_and_copies_no_data(data_dir):
    audit = prepare(asked(corpus="a secret corpus"), models("base", "twin"), data_dir)
    text = json.dumps(report.build(audit, {"verdict": {"state": "no sign"}, "unknown": 1}))
    data = json.loads(text)
    assert {role: line["hash"] for role, line in data["models"].items()} == {"suspect": "hash1", "base": "hash2", "twin": "hash3"}
    assert all(len(facts["hash"]) == 16 for facts in data["items"].values()) and data["verdict"] == {"state": "no sign"}
    assert "secret corpus" not in text and "the cat sat" not in text and "unknown" not in data and "controls" not in data


def test_two_audits_of_the_same_things_have_the_same_head_and_other_items_another(data_dir):
    first, again, other = (report.build(prepare(asked(n=n), models("base", "twin"), data_dir), {}) for n in (8, 8, 10))
    assert first == again and first["items"] != other["items"]


def test_an_audit_that_did_not_end_has_no_report(data_dir):
    with pytest.raises(InvalidRequest, match="no report yet"):
        report.load(data_dir)


def test_the_readings_of_the_exam_models_stand_by_indicator_and_subset(data_dir):
    def reading(value, subset=ALL):
        return Reading("loss", "likelihood", subset, {"value": value, "low": value, "high": value} if value else None, 0, 0, 50, 50)

    assert shipped.shipped_readings(data_dir) == {}
    shipped.write(data_dir, [reading(0.9), reading(0.99, FAILED)], [reading(0.5), reading(None, FAILED)], {"heavy": "x"})
    table = shipped.shipped_readings(data_dir)["loss"]
    assert table[ALL]["heavy"]["value"] == 0.9 and table[ALL]["clean"]["value"] == 0.5 and list(table[FAILED]) == ["heavy"]
