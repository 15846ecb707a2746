"""The page of contamination without a browser: the real methods on tiny models, tables and charts against the findings they are made of."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend import examples, measure
from backend.contamination import audit
from backend.contamination import method as contamination
from backend.errors import InvalidRequest, WorkbenchError
from backend.model_service import ModelService
from backend.models import ModelPool
from backend.paths import assets_dir
from backend.store import Store
from backend.types import Event, Finding, RunContext, RunRequest
from backend.workbench import Workbench
from panels import contamination_auditing as auditing
from panels import contamination_charts as charts
from panels import contamination_cost as costs
from panels import contamination_tables as tables
from panels import snippets
from panels.contamination_evidence import CHARTS, TABLES, values
from panels.contamination_logic import Logic, run_models
from panels.lanes import lanes
from panels.records import row_of
from panels.visitor import mint
from tests.contamination.cases import items
from tests.panels.fake import fake_workbench
from tests.tiny_models import save_tiny

TAB = SimpleNamespace(session_hash="tab-1")
SETS = ("leaked", "fresh", "unrelated")
DATA = "\n".join(json.dumps({"question": i.question, "answer": i.answer, "set": name}) for name in SETS for i in items(8, name))
SMALL = {"data": DATA, "template": "raw", "grader": "exact", "max_new_tokens": 4, "curve": [4, 16], "draws": 2}


@dataclass
class Gate:
    """The audit's own run, held after its first finding of a kind until the gate opens or somebody stops it."""

    run: Any
    hold_at: str = ""
    opened: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)

    def __call__(self, request: RunRequest, context: RunContext, models: Mapping[str, Any]) -> Iterator[Event]:
        for event in self.run(request, context, models):
            yield event
            if isinstance(event, Finding) and event.kind == self.hold_at and not self.held.is_set():
                self.held.set()
                while not self.opened.wait(0.01) and not context.cancelled():
                    pass


@dataclass(frozen=True)
class House:
    """A workbench with the real methods, and three tiny models that are one family."""

    workbench: Workbench
    gate: Gate
    models: Mapping[str, str]

    @property
    def logic(self) -> Logic:
        return Logic(self.workbench)

    def audit(self, **options: Any) -> str:
        """The strip's text of an audit that has ended."""
        wanted = auditing.request_of(self.models, auditing.values_of({**SMALL, **options}))
        return self.text(auditing.start(self.workbench, TAB, "", wanted))

    def text(self, run: str) -> str:
        return "".join(f"{line}\n" for line in auditing.follow(self.workbench, run))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    place = tmp_path_factory.mktemp("contamination")
    models = {role: str(save_tiny(place / role, seed)) for seed, role in enumerate(("suspect", "base", "twin"))}
    single, job = contamination.method(place), audit.method(place)
    gate = Gate(job.run)
    methods = {single.name: single, job.name: replace(job, run=gate), "measure": measure.method({single.name: single})}
    made = Workbench(place, methods, ModelService(ModelPool(place, assets_dir())), Store(place))
    yield House(made, gate, models)
    made.close()


@pytest.fixture(scope="module")
def whole(house: House) -> str:
    """The text of one audit with everything there is."""
    return house.audit()


def form(house: House, twin: str | None = "twin", base: str | None = "base", prompt: str = "the cat sat", **options: Any) -> list[Any]:
    said = house.logic.values(house.logic.start().with_options(**options))
    said[0], said[1], said[2], said[7] = house.models["suspect"], prompt, "raw", 4
    said[9], said[10] = (house.models[name] if name else "none" for name in (twin, base))
    return said


# One answer -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("twin", "base", "source"), [("twin", "base", "twin"), ("twin", None, "twin"), (None, "base", "base")])
def test_a_patched_run_takes_from_the_twin_else_from_the_base_and_survives_the_form(house: House, twin: Any, base: Any, source: str) -> None:
    request = house.logic.request(form(house, twin, base, patch="patched"))
    assert request.models["suspect"] == house.models["suspect"] and request.models["source"] == house.models[source]
    assert ("base" in request.models) == (base is not None)
    assert house.logic.request(house.logic.values(request)) == request


def test_without_twin_and_base_the_line_says_what_to_choose(house: House) -> None:
    assert house.logic.lint(form(house, None, None)).startswith("! Choose a clean twin or a base")
    assert "the clean twin" in house.logic.lint(form(house)) and "from the base" in house.logic.lint(form(house, None))
    assert "same model" in house.logic.lint(form(house, "suspect")) or "at once" in house.logic.lint(form(house, "suspect"))
    with pytest.raises(InvalidRequest, match="clean twin or a base"):
        run_models({"suspect": "x"})


def test_an_answer_is_patched_beside_its_baselines_and_its_neurons_random_twins(house: House, whole: str) -> None:
    listed = tables.found_in(whole).stats["neurons"]
    text = "".join(f"{line}\n" for line in house.logic.run(TAB, "", ["unpatched", "source alone", "random"], form(house, neurons=listed, k=3)))
    assert [lane.name for lane in lanes(text)] == ["patched, best 3 neurons", "patched, 3 random neurons", "unpatched", "source alone"]
    first = lanes(text)[0]
    assert first.tokens and {"source_top", "kl", "logprobs"} <= set(first.tokens[0]["detail"])
    assert all(token["source"] in ("model", "patched") for token in first.tokens)
    assert row_of(house.workbench.store.get(first.run, "local"), {})["page"] == "contamination"
    said, again = house.logic.first("", {"run": first.run}, None)
    assert house.logic.request(said).options["neurons"] == listed and len(lanes(again)) == 4


def test_all_neurons_have_no_random_lane_beside_them(house: House) -> None:
    wanted = house.logic.request(form(house))
    assert [house.workbench.lane(lane) for lane in house.logic.lanes(wanted, ["random", "unpatched"])] == ["patched, all neurons", "unpatched"]


def test_code_to_copy_calls_the_endpoint_with_its_own_parameters(house: House) -> None:
    request = house.logic.request(form(house))
    assert list(snippets.parameters(request)) == list(house.logic.endpoint().__annotations__)[:-1]
    assert snippets.parameters(request)["source"] == house.models["twin"]


# What is asked ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [e for e in examples.load() if e.panel == "contamination.audit"], ids=lambda e: e.name)
def test_a_preset_survives_the_widgets(preset: examples.Example) -> None:
    made = auditing.request_of(preset.request.models, auditing.values_of(preset.request.options))
    assert made.models == preset.request.models and audit.Options(**made.options) == audit.Options(**preset.request.options)


def test_own_items_survive_the_widgets_with_their_columns_and_search() -> None:
    options = {**SMALL, "columns": {"question": "problem"}, "search": {"tokens": "completion", "skip_top": 3}, "corpus": "the cat sat"}
    made = auditing.options_of(auditing.values_of(options))
    assert audit.Options(**made) == audit.Options(**options)


def test_the_quick_variant_takes_few_items_and_never_more_than_the_form_says() -> None:
    for most, taken in ((0, auditing.QUICK), (400, auditing.QUICK), (7, 7)):
        assert auditing.request_of({"suspect": "x"}, auditing.values_of({"most": most}), quick=True).options["most"] == taken


@pytest.mark.parametrize("text", ["4, x", "-1", "1.5"])
def test_a_k_that_is_no_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="options.curve must be whole numbers"):
        auditing.numbers(text)
    assert auditing.numbers("4, 8 16,") == [4, 8, 16] and auditing.numbers(None) == []


def test_a_preview_counts_the_sets_grades_five_rows_and_says_what_so_many_can_show(house: House) -> None:
    seen = auditing.look(house.workbench, house.models, auditing.values_of(SMALL))
    assert seen.words.startswith("8 leaked, 8 fresh, 8 unrelated items") and len(seen.rows) == 5
    assert all(row["its own answer passes"] and not row["an empty answer passes"] for row in seen.rows)
    assert seen.power == "With 4 items to report no drop can be told from chance: at least 6 must change."


@pytest.mark.parametrize(("text", "words"), [
    ("", "empty"), ('{"question": "a", "answer": "b"}\nnonsense', "Line 2 of the dataset is not JSON"), ("a,b\n1,2", "has no column 'question'"),
    ('{"question": "a", "answer": "b", "set": "old"}', "there are leaked, fresh, unrelated"),
])  # fmt: skip
def test_items_that_can_not_be_read_say_the_line_and_why(house: House, text: str, words: str) -> None:
    seen = auditing.look(house.workbench, house.models, auditing.values_of({**SMALL, "data": text or " "}))
    assert seen.words.startswith("! ") and words in seen.words and not seen.rows


def test_fresh_items_that_are_made_are_said_to_be(house: House) -> None:
    sums = "\n".join(json.dumps({"question": f"What is {n} + {n + 7}?", "answer": f"{n} + {n + 7} = {2 * n + 7}"}) for n in range(11, 19))
    seen = auditing.look(house.workbench, house.models, auditing.values_of({**SMALL, "data": sums, "grader": "number"}))
    assert "fresh ones were made from leaked ones with other numbers" in seen.words
    seen = auditing.look(house.workbench, house.models, auditing.values_of({**SMALL, "data": sums, "grader": "number", "make_fresh": False}))
    assert "Without fresh items" in seen.words and "no gap can" in seen.power or "no drop" in seen.power


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfquestion,answer\n1,2\n")
    assert auditing.text_of_file(tmp_path / "a").startswith("question")
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WorkbenchError, match="no UTF-8 text"):
        auditing.text_of_file(tmp_path / "b")


def test_the_cost_counts_the_work_and_times_it_by_a_probe(house: House) -> None:
    """A clock that goes on by 2 s a look: 8 leaked items are answered between two looks, a quarter of a second each."""
    full, quick = (auditing.request_of(house.models, auditing.values_of({**SMALL, "most": n})) for n in (0, 4))
    looks = iter(range(0, 1000, 2))
    models = house.workbench.models.load_all(full.models)
    found = costs.probe(full, models, house.workbench.data_dir, lambda: next(looks))
    assert found.each_s == 0.25 and found.seconds == found.units / 4
    assert costs.probe(quick, models, house.workbench.data_dir, lambda: 0.0).units < found.units
    assert "goes on when this page closes" in costs.ask(house.workbench, full, quick, lambda: 0.0)


# Its course -------------------------------------------------------------------------------------------------------------------------------


def test_an_audit_is_found_again_with_its_report(house: House, whole: str) -> None:
    found = tables.found_in(whole)
    assert tables.found_in(house.text(found.run)) == found
    report = json.loads(auditing.report_text(house.workbench, "", found.run))
    assert report["verdict"]["sentence"] == lanes(whole)[-1].end["text"] and report["neurons"]["hash"] == found.one("neurons")["hash"]
    assert auditing.report_text(house.workbench, "", "01NOTHING") == ""


def test_a_stopped_audit_goes_on_and_concludes_the_same(house: House, whole: str) -> None:
    house.gate.hold_at = "curve"
    run = auditing.start(house.workbench, TAB, "", auditing.request_of(house.models, auditing.values_of(SMALL)))
    assert house.gate.held.wait(60)
    with pytest.raises(WorkbenchError, match="no stopped audit"):
        auditing.go_on(house.workbench, TAB, "", run)
    auditing.stop(house.workbench, "", run)
    stopped = lanes(house.text(run))[-1]
    assert stopped.end["finish_reason"] == "cancelled" and auditing.latest(house.workbench, "") == run
    again = house.text(auditing.go_on(house.workbench, TAB, "", run))
    assert lanes(again)[-1].end["text"] == lanes(whole)[-1].end["text"]
    both = [{kind: rows for kind, rows in tables.found_in(text).kinds.items() if kind != "neurons"} for text in (again, whole)]
    assert both[0] == both[1], "the finished stages are told again in the run that goes on"
    with pytest.raises(WorkbenchError, match="complete"):
        auditing.go_on(house.workbench, TAB, "", tables.found_in(again).run)


def test_nobody_goes_on_with_anothers_audit_or_reads_its_report(tmp_path: Path) -> None:
    workbench = fake_workbench(tmp_path, public=True)
    ann, ben = mint(""), mint("")
    try:
        run = auditing.start(workbench, TAB, ann, auditing.request_of({"suspect": "smollm2"}, auditing.values_of(SMALL)))
        list(auditing.follow(workbench, run))
        assert auditing.latest(workbench, ann) == run and auditing.latest(workbench, ben) == ""
        assert auditing.report_text(workbench, ben, run) == ""
        with pytest.raises(WorkbenchError, match="no run"):
            auditing.go_on(workbench, TAB, ben, run)
    finally:
        workbench.close()


# What it shows ----------------------------------------------------------------------------------------------------------------------------


def test_tables_say_what_the_findings_say(whole: str) -> None:
    found = tables.found_in(whole)
    rows = tables.effects(found)
    assert len(rows) == len(found.of("accuracy")) == 9
    for change in found.of("change"):
        row = next(row for row in rows if (row["model"], row["set"]) == (change["model"], change["set"]))
        assert row["patched"].startswith(f"{100 * change['after']['value']:.1f} %") and row["change"].startswith(
            f"{100 * change['delta']['value']:+.1f}"
        )
    assert len(tables.indicators(found)) == len(found.of("indicator")) and len(tables.votes(found)) == 3
    controls = [row["control"] for row in tables.controls(found)]
    assert controls[:3] == ["random 1", "random 2", "magnitude-matched"] and controls[-1] == "report the base's score"
    assert {"suspect", "base", "twin", "neurons", "identity check"} <= set(tables.basis(found))


def test_every_table_and_chart_is_empty_without_an_audit(house: House) -> None:
    for text in ("", "nonsense\n", '{"event":"started","run":"x","method":"structured"}\n'):
        found = tables.found_in(text)
        assert not any(make(found) for _, make in TABLES.values()) and not any(draw(found) for _, draw in CHARTS.values())
        filled = values(house.workbench, "", text)
        assert filled[: len(TABLES)] == ['""'] * len(TABLES)
        assert not any(title.visible for title in filled[len(TABLES) : 2 * len(TABLES)])


def test_the_curve_has_a_step_a_k_and_the_band_of_the_random_draws(whole: str) -> None:
    found = tables.found_in(whole)
    figure = charts.k_curve(found)
    band, leaked = figure.data[0], figure.data[1]
    points = sorted(found.of("curve"), key=lambda point: point["k"])
    assert list(leaked.y) == [point["accuracy"]["leaked"] for point in points] and list(figure.layout.xaxis.ticktext) == ["0", "4", "16"]
    assert list(band.y[:2]) == [min(point["random"]) for point in points[1:]] and list(band.y[2:]) == [max(p["random"]) for p in reversed(points[1:])]


def test_the_map_fills_the_patched_neurons_and_no_others(whole: str) -> None:
    found = tables.found_in(whole)
    others, patched = charts.neuron_map(found).data
    listed = found.one("neurons")
    assert len(patched.x) == listed["k"] and len(patched.x) + len(others.x) == len(listed["rows"])
    assert sorted(set(patched.y)) == sorted(int(layer) for layer in listed["layers"]) and others.marker.symbol.endswith("-open")


def test_names_of_sets_are_inert_in_charts() -> None:
    hostile = {"<b>x</b>": 0.5}
    kinds = {"curve": [{"k": 0, "accuracy": hostile, "random": []}, {"k": 4, "accuracy": hostile, "random": [0.5]}]}
    assert "<b>" not in str(charts.k_curve(tables.Found(kinds=kinds)))
