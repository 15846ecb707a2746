"""What an audit would take: time from a probe of a second or two, memory, disk.

Goes in: a request, its loaded models, a clock. Comes out: a `Cost` and its words. The probe answers a few of the items that the audit will ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.contamination import audit_patch, audit_steps
from backend.contamination.audit_request import Audit, prepare
from backend.contamination.evaluation import Arm, answer_all
from backend.contamination.items import LEAKED
from backend.types import RunRequest
from backend.workbench import Workbench
from panels.header import duration

TINY = 5_000_000  # parameters up to which 64 answers take about a second
PROBED, PROBED_TINY = 2, 64
REPORT_BYTES = 2_000_000


@dataclass(frozen=True)
class Cost:
    """`units` are answers' worth of work; `each_s` is what one took in the probe. `weights_bytes`: of all models together."""

    units: float
    each_s: float
    weights_bytes: int

    @property
    def seconds(self) -> float:
        return self.units * self.each_s


def ask(workbench: Workbench, full: RunRequest, quick: RunRequest, clock: Callable[[], float]) -> str:
    """The words for both variants; loads the models. Raises `WorkbenchError` where the audit could not run."""
    workbench.check(full)

    def work() -> tuple[Cost, Cost]:
        models = workbench.models.load_all(full.models)
        return probe(full, models, workbench.data_dir, clock), probe(quick, models, workbench.data_dir, clock)

    return words(*workbench.call(work))


def probe(request: RunRequest, models: Mapping[str, Any], data_dir: Path, clock: Callable[[], float]) -> Cost:
    """Answer a few leaked items with the suspect, and count what the audit will do."""
    audit = prepare(request, models, data_dir)
    weights = {id(model.model): sum(p.numel() * p.element_size() for p in model.model.parameters()) for model in models.values()}
    return Cost(units(audit), _each_s(audit, clock), sum(weights.values()))


def units(audit: Audit) -> float:
    return audit_steps.units(audit) + audit_patch.units(audit)


def _each_s(audit: Audit, clock: Callable[[], float]) -> float:
    n_parameters = sum(p.numel() for p in audit.suspect.model.parameters())
    some = audit.parts[LEAKED].all[: PROBED_TINY if n_parameters <= TINY else PROBED]
    start = clock()
    for _ in answer_all(Arm(audit.suspect), some, audit.max_new_tokens):
        pass
    return (clock() - start) / len(some)


def words(full: Cost, quick: Cost) -> str:
    return (
        f"Worth {full.units:,.0f} answers: about {duration(full.seconds)}; the quick one {quick.units:,.0f}, about {duration(quick.seconds)}. "
        f"Memory {_megabytes(full.weights_bytes)} for the models, disk about {_megabytes(REPORT_BYTES)}. It goes on when this page closes, and "
        "after a stop from the stage that it had reached."
    )


def _megabytes(n: int) -> str:
    return f"{max(1, round(n / 1e6)):,} MB"
