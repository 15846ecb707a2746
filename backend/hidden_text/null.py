"""The honest null: how high do models score that hide nothing?

Goes in: scores of clean twins, with the recipe they were made by; a suspect's scores. Comes out: p-values with their smallest reachable value,
or the words for a model that has no such twins. A twin's score is the highest of all its candidates, so that the p-value of any candidate is
already corrected for how many there are (single-step maxT, Westfall and Young 1993). Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.errors import WorkbenchError
from backend.model_files import read_json, write_json

NULLS = "nulls"


@dataclass(frozen=True)
class Null:
    """`scores`: the highest score of each clean twin. They calibrate a suspect only where `architecture`, `recipe` and `settings` (of the scan)
    are its own."""

    name: str
    architecture: str
    recipe: str
    settings: Mapping[str, Any]
    scores: tuple[float, ...]
    reference: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def smallest(self) -> float:
        """The smallest p-value that so few twins can give."""
        return 1 / (len(self.scores) + 1)

    def p_value(self, score: float) -> float:
        """How likely a clean twin scores as high: (1 + twins at least as high) / (1 + twins)."""
        return (1 + sum(other >= score for other in self.scores)) / (len(self.scores) + 1)

    def fits(self, architecture: str, recipe: str, settings: Mapping[str, Any]) -> bool:
        return (self.architecture, self.recipe, dict(self.settings)) == (architecture, recipe, dict(settings))


@dataclass(frozen=True)
class Calibration:
    """What the null says of one suspect's best score."""

    p: float | None
    smallest: float | None
    n: int
    above: int
    words: str


def calibrate(score: float | None, nulls: Sequence[Null], architecture: str, recipe: str, settings: Mapping[str, Any]) -> Calibration:
    """A p-value where twins of the suspect's own making were scanned the same way; else how many clean models it stands above."""
    fitting = next((null for null in nulls if null.fits(architecture, recipe, settings)), None)
    if score is None:
        return Calibration(None, None, 0, 0, "There is no candidate to compare with clean models.")
    if fitting is not None:
        p, n = fitting.p_value(score), len(fitting.scores)
        above = sum(other < score for other in fitting.scores)
        words = f"p = {p:.3g} against {n} clean twins of the same making (the smallest value that {n} can give is {fitting.smallest:.3g})"
        return Calibration(p, fitting.smallest, n, above, words)
    alike = [null for null in nulls if dict(null.settings) == dict(settings)]
    tried = [other for null in alike for other in null.scores]
    above = sum(other < score for other in tried)
    return Calibration(None, None, len(tried), above, uncalibrated(above, len(tried)))


def uncalibrated(above: int, n: int) -> str:
    if n == 0:
        return "no clean model was scanned the same way, so nothing says how high a clean one scores"
    if above == n:
        return f"above all {n} clean models tried, not calibrated for yours"
    return f"above {above} of {n} clean models tried, not calibrated for yours"


def read_nulls(*folders: Path) -> list[Null]:
    """Every null file of these folders; raises `WorkbenchError` for one that is damaged."""
    return [_read(path) for folder in folders for path in sorted(folder.glob("*.json"))]


def _read(path: Path) -> Null:
    data = read_json(path)
    try:
        scores = tuple(float(score) for score in data["scores"])
        return Null(path.stem, data["architecture"], data["recipe"], data["settings"], scores, data.get("reference", ""), data.get("notes", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise WorkbenchError(f"The scores of clean models in {path.name} can't be read ({error}); make them again.") from error


def write_null(folder: Path, null: Null) -> Path:
    path = folder / f"{null.name}.json"
    data = {"architecture": null.architecture, "recipe": null.recipe, "settings": dict(null.settings), "scores": list(null.scores),
            "reference": null.reference, "notes": dict(null.notes)}  # fmt: skip
    write_json(path, data)
    return path


def architecture_of(config: Any) -> str:
    """The shape of a model in one line: type, layers, width, ids."""
    text = config.get_text_config(decoder=True)
    return f"{text.model_type} {text.num_hidden_layers}x{text.hidden_size} {text.vocab_size}"
