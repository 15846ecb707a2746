"""The job `contamination.audit`: indicators, search, k curve, patched evaluation, verdict, one after the other, to be stopped and resumed.

Goes in: a suspect and, where there are, its base and a clean twin; items. Comes out: findings as they are made, a list of neurons and a report as
artifacts, a verdict. Each stage's result is a file in the report's folder.

`finding` kinds, in this order:
`set` {name, n, search, report, hash}; `power` {text}; `warning` {text};
`identity` (see the package);
`accuracy` {model, set, patched, value, low, high, n} (all items of a set, or the reported half where `patched`: the name of the arm);
`indicator` {name, family, subset, auc, leaked, fresh, n_leaked, n_fresh, shipped}; `gap` {own, base, net, reworded};
`curve` {k, accuracy} (search halves; k 0 is unpatched); `chosen` {k, why, distance};
`neurons` {id, hash, k, layers, rows} (rows: the first with their scores);
`change` {model, set, n, before, after, delta, p}; `suppression` {under, unsolvable, over, solvable, known};
`control` {name, k, value, low, high}; `constant` {base, patched, fresh} (what "report the base's score" would have said);
`diff` {set, question, answer, before, after, before_right, after_right, solvable};
`vote` {family, says, why}; `verdict` {state, sentence, cannot, holds}.
`stats`: `report`, `neurons` (artifact ids), `k`, `state`, `holds`, `cannot`, `seconds`, `generated_tokens` (of the search).
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from backend import artifacts
from backend.contamination import audit_patch, audit_steps, neurons
from backend.contamination.audit_request import METHOD, Audit, Options, check, prepare, size
from backend.contamination.report import FILE, KIND, build
from backend.contamination.stages import Stages, Stopped, earlier
from backend.method import Method
from backend.model_files import write_json
from backend.types import Artifact, Done, Event, Finding, RunContext, RunRecord, RunRequest, Verdict


def run(request: RunRequest, context: RunContext, models: Mapping[str, Any], data_dir: Path) -> Iterator[Event]:
    start, audit = context.clock(), prepare(request, models, data_dir)
    begun = next(earlier(context, "artifact", KIND), None)
    report_id, folder = (begun["id"], artifacts.resolve(data_dir, begun["id"], KIND)) if begun else artifacts.create(data_dir, KIND)
    if not begun:
        yield Artifact(report_id, KIND, {"state": "begun", "suspect": audit.suspect.id})
    stages = Stages(context, folder, audit_steps.units(audit) + audit_patch.units(audit))
    try:
        found = yield from _untold(context, work(audit, stages, folder, data_dir))
    except Stopped:
        yield Done("cancelled", "Stopped; the stages that are done stay, and the job goes on from there.", {"report": report_id})
        return
    conclusion = found["verdict"]
    write_json(folder / FILE, build(audit, found))
    chosen = found.get("neurons", {})
    if chosen:
        yield Artifact(chosen["id"], neurons.KIND, {"k": chosen["k"], "hash": chosen["hash"], "suspect": audit.suspect.id})
    yield Artifact(report_id, KIND, {"state": conclusion["state"], "suspect": audit.suspect.id})
    stats = {
        "report": report_id, "neurons": chosen.get("id"), "k": chosen.get("k"), "state": conclusion["state"], "holds": conclusion["holds"],
        "cannot": conclusion["cannot"], "seconds": round(context.clock() - start, 2), "generated_tokens": found.get("generated_tokens", 0),
    }  # fmt: skip
    yield Done("stop", conclusion["sentence"], {name: value for name, value in stats.items() if value is not None})


def work(audit: Audit, stages: Stages, folder: Path, data_dir: Path) -> Generator[Event, None, dict[str, Any]]:
    """The stages in order; returns all that they found, as JSON."""
    found: dict[str, Any] = {}
    yield from audit_steps.tell_sets(audit)
    if audit.source is not None:
        found["identity"] = yield from audit_steps.identity(audit, stages)
    said = yield from audit_steps.answers(audit, stages)
    facts = yield from audit_steps.facts(audit, stages, said)
    readings, gap = yield from audit_steps.indicators(audit, facts)
    found |= {"accuracy": audit_steps.accuracies(audit, said), "indicators": [reading.to_json() for reading in readings], "gap": gap.to_json()}
    patch = None
    if audit.source is not None:
        ranked = yield from audit_patch.searched(audit, stages, folder)
        chosen = yield from audit_patch.chosen_k(audit, stages, ranked, said)
        listed = yield from audit_patch.neuron_list(audit, stages, ranked, chosen["k"], data_dir)
        patch, more = yield from audit_patch.patched(audit, stages, ranked, chosen["k"], said)
        found |= {"chosen": chosen, "neurons": listed, "generated_tokens": ranked.generated_tokens, "search": ranked.made, **more}
    found["verdict"] = yield from audit_steps.verdict(audit, readings, gap, patch)
    return found


def _untold(context: RunContext, events: Generator[Event, None, dict[str, Any]]) -> Generator[Event, None, dict[str, Any]]:
    """The same events without the findings that a resumed job has told before (stages give the same ones again)."""
    told = {_key(line["kind"], line["data"]) for line in map(json.loads, context.earlier) if line["event"] == "finding"}
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return end.value
        if not isinstance(event, Finding) or _key(event.kind, event.data) not in told:
            yield event


def _key(kind: str, data: Mapping[str, Any]) -> str:
    return json.dumps([kind, data], sort_keys=True, ensure_ascii=False)


def verdict(records: Sequence[RunRecord]) -> Verdict:
    record = records[0]
    return Verdict(record.text or str(record.error or ""), record.stats, record.stats.get("holds"))


def method(data_dir: Path) -> Method:
    """The job; artifacts lie in `data_dir`."""
    return Method(
        name=METHOD, title="Contamination audit", question="How much of this benchmark score is memory, and which neurons hold it?", Options=Options,
        roles=("suspect",), run=partial(run, data_dir=data_dir), check=partial(check, data_dir=data_dir), baselines=lambda request: [],
        lane=lambda request: "audit", verdict=verdict, size=partial(size, data_dir=data_dir), job=True,
    )  # fmt: skip
