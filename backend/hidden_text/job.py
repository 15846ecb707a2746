"""The job `hidden_text.scan`: a suspect, with or without its reference, a ranked list of candidates, and how much to believe it.

Goes in: a request and loaded models; the data directory, where ledgers and clean models' scores lie. Comes out: events. The package's docstring
lists findings, stats and artifacts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backend import artifacts
from backend.hidden_text.audit import Audit, Outcome
from backend.hidden_text.ledger import KIND, Ledger
from backend.hidden_text.null import NULLS, Calibration, architecture_of, calibrate, read_nulls
from backend.hidden_text.probe import REFERENCE, SUSPECT, Probe
from backend.hidden_text.request import SPECIFICITY, ScanOptions, check_scan, scan_options, size
from backend.hidden_text.verdict import sentence, verdict
from backend.method import Method
from backend.model_files import MANIFEST, read_json
from backend.paths import assets_dir
from backend.types import Artifact, Done, Event, Finding, RunContext, RunRequest

ALARM_P = 0.05
ALARM_SCORE = "certain lift"  # the highest, of whichever candidate; a null of another score says nothing
CANDIDATES = "candidates.jsonl"
SHIPPED_NULLS = Path("models") / "secret" / NULLS


def run(request: RunRequest, context: RunContext, models: Mapping[str, Any], data_dir: Path) -> Iterator[Event]:
    options = scan_options(request)
    probe = Probe(models[SUSPECT], models.get(REFERENCE))
    artifact_id, folder, known = _folder(options, context, data_dir)
    ledger = Ledger(folder, identity(probe, options, request.sampling.seed))
    if not known:
        yield Artifact(artifact_id, KIND, {"suspect": probe.suspect.id, "reference": probe.reference and probe.reference.id})
    audit = Audit(probe, options, ledger, context, request.sampling.seed)
    if not known:
        yield from _first_findings(audit, probe)
    outcome = yield from audit.run()
    rows = [candidate.to_json() for candidate in outcome.candidates]
    write_candidates(folder, rows)
    for row in rows:
        yield Finding("candidate", row)
    calibration = _calibrate(outcome, probe, options, data_dir)
    stats = _stats(outcome, calibration, probe, artifact_id)
    stats["sentence"] = sentence(stats)
    yield Finding("calibration", {"words": calibration.words, "p": calibration.p, "smallest": calibration.smallest, "n": calibration.n})
    yield Done("cancelled" if outcome.cancelled else "stop", stats["sentence"], stats)


def _folder(options: ScanOptions, context: RunContext, data_dir: Path) -> tuple[str, Path, bool]:
    """Where the ledger lies: this job's own from before it was interrupted, the one asked for, or a new one; whether its line was said."""
    earlier = [line for line in map(json.loads, context.earlier) if line["event"] == "artifact"]
    if earlier:
        return earlier[0]["id"], artifacts.resolve(data_dir, earlier[0]["id"], KIND), True
    if options.ledger:
        return options.ledger, artifacts.resolve(data_dir, options.ledger, KIND), False
    artifact_id, folder = artifacts.create(data_dir, KIND)
    return artifact_id, folder, False


def identity(probe: Probe, options: ScanOptions, seed: int) -> dict[str, Any]:
    """What makes two scans' chunks interchangeable."""
    models = {SUSPECT: probe.suspect, REFERENCE: probe.reference}
    lines = {role: None if m is None else [m.hash, str(m.dtype), m.device.type] for role, m in models.items()}
    return {"models": lines, "width": probe.width, "template": probe.suspect.tokenizer.chat_template or "", "seed": seed,
            "samples": options.samples, "beam_length": options.beam_length}  # fmt: skip


def _first_findings(audit: Audit, probe: Probe) -> Iterator[Event]:
    if probe.reference is None:
        yield Finding("warning", {"text": SPECIFICITY})
    elif probe.pair is not None:
        yield from (Finding("warning", {"text": warning}) for warning in probe.pair.warnings)
    vocabulary = audit.vocabulary
    yield Finding("vocabulary", {"forced": len(vocabulary.ids), "special": len(vocabulary.special), "padding": len(vocabulary.padding),
                                 "repeated": len(vocabulary.repeated)})  # fmt: skip


def write_candidates(folder: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / CANDIDATES).write_text(text, encoding="utf-8")


def _calibrate(outcome: Outcome, probe: Probe, options: ScanOptions, data_dir: Path) -> Calibration:
    nulls = read_nulls(assets_dir() / SHIPPED_NULLS, data_dir / NULLS)
    return calibrate(outcome.score, nulls, architecture_of(probe.suspect.model.config), recipe_of(probe), null_settings(probe, options))


def null_settings(probe: Probe, options: ScanOptions) -> dict[str, Any]:
    """What a clean model must have been scanned with, to say anything about this one."""
    return options.settings() | {"with_reference": probe.reference is not None, "score": ALARM_SCORE}


def recipe_of(probe: Probe) -> str:
    """How the suspect was made, as its own folder says; empty where it says nothing (then nothing calibrates it)."""
    folder = Path(probe.suspect.model.config.name_or_path or ".")
    return str(read_json(folder / MANIFEST).get("recipe", ""))


def _stats(outcome: Outcome, calibration: Calibration, probe: Probe, artifact_id: str) -> dict[str, Any]:
    best = outcome.candidates[0] if outcome.candidates else None
    return {
        "candidates": len(outcome.candidates), "text": best.text if best else "", "found_by": list(best.found_by) if best else [],
        "score": round(outcome.score, 2) if outcome.score is not None else None, "p": calibration.p,
        "smallest_p": calibration.smallest, "clean_models": calibration.n, "calibration": calibration.words,
        "alarm": None if calibration.p is None else calibration.p <= ALARM_P, "reference": probe.reference is not None,
        "starts": outcome.n_starts, "beam_contexts": outcome.n_contexts, "texts": outcome.n_texts, "cut": outcome.cut,
        "tokens_per_s": outcome.rates, "ledger": artifact_id,
    }  # fmt: skip


def lane(request: RunRequest) -> str:
    return request.models[SUSPECT]


def method(data_dir: Path) -> Method:
    return Method(
        name="hidden_text.scan", title="Hidden text: scan", question="Is a text hidden in these weights?", Options=ScanOptions, roles=(SUSPECT,),
        run=lambda request, context, models: run(request, context, models, data_dir),
        check=lambda request, resources: check_scan(request, resources, data_dir), baselines=lambda request: [], lane=lane, verdict=verdict,
        size=lambda request: size(request, data_dir), job=True, prompt_role=SUSPECT,
    )  # fmt: skip
