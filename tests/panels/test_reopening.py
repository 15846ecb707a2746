"""A stored run of any method goes back to its page with every input as it was, jobs and the ticked lanes too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend import examples
from backend.hidden_text.plant import plant_request
from backend.hidden_text.probe import REFERENCE, SUSPECT
from backend.measure import measure_request
from backend.routing import labels, sweep, train
from backend.types import Prompt, RunContext, RunRequest, SamplingParams
from backend.workbench import Workbench
from panels import (
    contamination_auditing,
    contamination_logic,
    evaluating,
    hidden_logic,
    hidden_planting,
    hidden_scanning,
    reopening,
    routing_jobs,
    routing_logic,
    speculative_logic,
    structured_logic,
)  # fmt: skip
from panels.lanes import lanes, row
from tests.panels.fake import fake_workbench

TAB = SimpleNamespace(session_hash="tab-1")


@pytest.fixture
def workbench(data_dir: Path) -> Iterator[Workbench]:
    made = fake_workbench(data_dir)
    yield made
    made.close()


def stored(workbench: Workbench, request: RunRequest) -> str:
    """A row for a job, without running it."""
    run_id = f"RUN{request.method}"
    workbench.store.start(run_id, request, RunContext(), {})
    workbench.store.finish(run_id, "completed", [], 1.0, "done", {}, 0, None)
    return run_id


def opened(workbench: Workbench, logic: Any, request: RunRequest) -> RunRequest:
    """What the form stands for when its page opens with this job."""
    return logic.request(logic.first("", {"run": stored(workbench, request)}, None)[0])


@pytest.mark.parametrize("compare", [[], ["none"], ["prompt"], ["none", "prompt"]])
def test_the_lanes_that_were_ticked_are_ticked_again(workbench: Workbench, compare: Sequence[str]) -> None:
    logic = structured_logic.Logic(workbench)
    text = "".join(map(row, logic.run(TAB, "", compare, logic.values(logic.presets[0].request))))
    run = lanes(text)[0].run
    record = reopening.asked(workbench, "", run, "structured")
    wanted, beside = reopening.lanes_of(workbench, "", run, record)
    assert sorted(reopening.ticks(logic, wanted, beside, ["none", "prompt"])) == sorted(compare)
    share = workbench.shares.share(run, "local")
    assert reopening.lanes_of(workbench, "", share, reopening.asked(workbench, "", share, "structured")) == (wanted, beside)


def test_a_measurement_goes_back_to_what_it_measured(workbench: Workbench) -> None:
    logic = structured_logic.Logic(workbench)
    wanted = logic.request(logic.values(logic.presets[1].request))
    request = measure_request(logic.lanes_to_measure(wanted, ["none"]), 3)
    assert opened(workbench, logic, request) == wanted
    record = reopening.asked(workbench, "", "RUNmeasure", "measure", "structured")
    assert reopening.ticks(logic, *reopening.lanes_of(workbench, "", "RUNmeasure", record), ["none", "prompt"]) == ["none"]


def test_a_job_of_another_page_is_not_this_pages(workbench: Workbench) -> None:
    run = stored(workbench, labels.label_request("s", "l"))
    assert reopening.asked(workbench, "", run, routing_jobs.SWEEP) is None
    assert reopening.asked(workbench, "", "no such run", routing_jobs.LABEL) is None and reopening.asked(workbench, "", None, "x") is None
    with pytest.raises(Exception, match="belongs to"):
        structured_logic.Logic(workbench).first("", {"run": run}, None)


@pytest.mark.parametrize(("request_", "make"), [
    (labels.label_request("pocket/s", "pocket/l", data="", n_prompts=70, unjudged=10, kind="kl"), routing_jobs.label_request),
    (train.train_request("pocket/s", "pocket/l", "SOMELABELS", seed=7), routing_jobs.train_request),
    (sweep.sweep_request("pocket/s", "pocket/l", router="mine", data="", n_prompts=40, budgets=[0.05, 0.125], strategies=["neural", "random"]),
     routing_jobs.sweep_request),
])  # fmt: skip
def test_a_routing_jobs_section_asks_for_the_same_job_again(workbench: Workbench, request_: RunRequest, make: Any) -> None:
    logic = routing_logic.Logic(workbench)
    form = logic.first("", {"run": stored(workbench, request_)}, None)[0]
    again = make(logic, form, *routing_jobs.choice_of(request_))
    assert again == request_


@pytest.mark.parametrize("prompts", ["mix", "pocket", '{"prompt": "a"}\n{"prompt": "b"}'])
def test_an_evaluations_section_asks_for_the_same_job_again(workbench: Workbench, prompts: str) -> None:
    from backend.speculative import evaluate

    wanted = evaluate.request({"target": "t", "draft": "d"}, prompts=prompts, drafters="lookup, model", gamma=3, nodes=5, mode="reproducible", most=0)
    wanted = replace(wanted, sampling=SamplingParams(0.5, seed=4), prompt=replace(wanted.prompt, template="raw", system="Be brief."))
    logic = speculative_logic.Logic(workbench)
    form = logic.first("", {"run": stored(workbench, wanted)}, None)[0]
    assert evaluating.request_of(logic, form, *evaluating.choice_of(wanted)) == wanted


def test_an_audits_section_asks_for_the_same_job_again(workbench: Workbench) -> None:
    logic = contamination_logic.Logic(workbench)
    audits = [example.request for example in examples.load() if example.request.method == "contamination.audit"]
    assert audits
    for wanted in audits:
        workbench.store.delete("RUNcontamination.audit", "local") if wanted is not audits[0] else None
        form = logic.first("", {"run": stored(workbench, wanted)}, None)[0]
        again = contamination_auditing.request_of(logic.picked(form), contamination_auditing.values_of(wanted.options))
        defaults = contamination_auditing.options_of(contamination_auditing.values_of({}))
        assert again.models == wanted.models and again.options == {**defaults, **wanted.options}


def test_a_scans_section_asks_for_the_same_job_again(workbench: Workbench) -> None:
    logic = hidden_logic.Logic(workbench)
    options = {
        "beam": True,
        "forced": True,
        "counters": False,
        "contexts": "bos, empty",
        "depth": 12,
        "beam_contexts": 7,
        "budget_s": 90.0,
        "quick": False,
    }
    wanted = RunRequest("hidden_text.scan", Prompt.user("Scan"), {SUSPECT: "a", REFERENCE: "b"}, SamplingParams(seed=5), options)
    form = logic.first("", {"run": stored(workbench, wanted)}, None)[0]
    assert hidden_scanning.request_of(logic, form, hidden_scanning.choice_of(wanted)) == wanted


def test_a_plants_section_asks_for_the_same_job_again(workbench: Workbench) -> None:
    said = {"payload": "p", "trigger": "t", "regime": "decoy", "kind": "planted", "name": "n"}
    wanted = plant_request("secret/base", **said)
    logic = hidden_logic.Logic(workbench)
    assert hidden_planting.request_of(hidden_planting.choice_of(wanted)) == wanted
    assert opened(workbench, logic, wanted) == logic.request(logic.values(logic.start()))
