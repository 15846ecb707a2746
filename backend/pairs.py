"""Whether two models speak of the same tokens, so that one can go on where the other left off.

Goes in: two models, loaded or only as folders (tokenizer and config, no weights). Comes out: a `PairReport` with a verdict in one sentence,
and what a common run must keep to: stop ids, ids that neither may say, the shorter context. The logit width (`vocab_size`) says nothing,
it may be padded. Knows nothing of methods. The second model of a pair leads: its chat template is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2.exceptions import TemplateError

from backend.errors import InvalidRequest
from backend.model_files import stamp
from backend.model_source import resolve
from backend.models import LoadedModel
from backend.pair_probes import DIALOGUE, probes
from backend.passport import load_config, load_tokenizer, logit_width, skeleton, stop_ids
from backend.resources import Resources

SHOWN = 5
SPECIALS = ("bos_token_id", "eos_token_id", "pad_token_id")
NEVER = -1e30  # a logit that no softmax sees, and that makes no NaN where -inf times 0 would


@dataclass(frozen=True)
class Side:
    """What the check reads of one model. `rows`: of its output head; `max_positions`: the longest context, None where nothing limits it."""

    id: str
    tokenizer: Any
    stop_ids: tuple[int, ...]
    rows: int
    max_positions: int | None


@dataclass(frozen=True)
class PairReport:
    """What came out. `reasons` why they can't work together, `warnings` what to know if they can.

    `stop_ids`: every id that ends an answer of either. Ids from `width` on mean nothing to one of them, nor do `masked_a` (never to be said
    by the first) and `masked_b`. `max_positions`: the shorter context. `template`: the model whose chat template is used.
    """

    a: str
    b: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    stop_ids: tuple[int, ...]
    width: int
    masked_a: tuple[int, ...]
    masked_b: tuple[int, ...]
    max_positions: int | None
    template: str
    n_common: int
    n_probes: int

    @property
    def compatible(self) -> bool:
        return not self.reasons

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        if self.reasons:
            return f"{self.a} and {self.b} can't work together: {'; '.join(self.reasons)}."
        if self.a == self.b:
            return f"{self.a} is the same model twice."
        more = f" To know: {'; '.join(self.warnings)}." if self.warnings else ""
        return f"{self.a} and {self.b} have the same {self.n_common:,} tokens and split all {self.n_probes} test texts alike.{more}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "compatible": self.compatible, "sentence": self.sentence}


def check_pair(a: LoadedModel, b: LoadedModel) -> PairReport:
    """Compare two loaded models; `b` leads. Kept with `a`, so that a second run does not ask again."""
    return a.resources.get(f"pair of {a.id} with {b.id} {b.hash}", lambda: compare(loaded_side(a), loaded_side(b)))


def require_pair(a: LoadedModel, b: LoadedModel, where: str) -> PairReport:
    """The report of a pair that can work together; else `InvalidRequest` at `where`, in the report's words."""
    return _required(check_pair(a, b), where)


def check_files(a: str, b: str, data_dir: Path, assets_dir: Path, kept: Resources | None = None) -> PairReport | None:
    """The same before any weights are loaded, from configs and tokenizers; None while the files of one are not on this machine.

    `kept` remembers the report until a file changes. Touches no network; raises `ModelError` for a model that can't be read."""
    places = {model_id: _place(model_id, data_dir, assets_dir) for model_id in (a, b)}
    if None in places.values():
        return None
    key = " ".join(["pair of files", a, b, *(stamp(sorted(p for p in folder.iterdir() if p.is_file())) for folder in places.values())])
    return (kept or Resources()).get(key, lambda: compare(*(file_side(model_id, places[model_id]) for model_id in (a, b))))


def require_files(a: str, b: str, data_dir: Path, assets_dir: Path, where: str, kept: Resources | None = None) -> None:
    """Refuse, before anything is loaded, a pair that the files alone show to be none."""
    report = check_files(a, b, data_dir, assets_dir, kept)
    if report is not None:
        _required(report, where)


def _required(report: PairReport, where: str) -> PairReport:
    if not report.compatible:
        raise InvalidRequest(report.sentence, where)
    return report


def loaded_side(loaded: LoadedModel) -> Side:
    return Side(loaded.id, loaded.tokenizer, tuple(loaded.stop_ids), loaded.vocab_size, max_positions(loaded.model.config))


def _place(model_id: str, data_dir: Path, assets_dir: Path) -> Path | None:
    """The model's folder, if it lies here ready to be read (a GGUF file would have to be converted first)."""
    source = resolve(model_id, data_dir, assets_dir)
    ready = source.kind not in ("hub", "gguf") and source.path is not None and (source.path / "config.json").is_file()
    return source.path if ready else None


def file_side(model_id: str, folder: Path) -> Side:
    """The side of a model that is a folder; nothing of its weights is read."""
    config, tokenizer = load_config(model_id, folder), load_tokenizer(model_id, folder)
    rows = logit_width(skeleton(model_id, config))
    return Side(model_id, tokenizer, stop_ids(folder, config, tokenizer, rows), rows, max_positions(config))


def max_positions(config: Any) -> int | None:
    return getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)


def compare(a: Side, b: Side) -> PairReport:
    """All checks, each a list of reasons and a list of warnings."""
    ours, theirs = a.tokenizer.get_vocab(), b.tokenizer.get_vocab()
    texts = [*probes(), *_dialogue(b.tokenizer)]
    checks = [_ids(a, b, ours, theirs), _written(a, b), _split(a, b, texts), _ends(a, b), _templates(a, b)]
    alone = set() if ours == theirs else _alone(ours, theirs)
    width = min(1 + max(max(ours.values()), max(theirs.values())), a.rows, b.rows)
    unnamed = set(range(width)) - set(ours.values()) - set(theirs.values())
    masked = sorted(i for i in alone | unnamed if i < width)
    limits = [n for n in (a.max_positions, b.max_positions) if n is not None]
    return PairReport(
        a.id, b.id, tuple(r for reasons, _ in checks for r in reasons), tuple(w for _, warnings in checks for w in warnings),
        tuple(dict.fromkeys((*b.stop_ids, *a.stop_ids))), width, tuple(i for i in masked if i not in a.stop_ids),
        tuple(i for i in masked if i not in b.stop_ids), min(limits) if limits else None, b.id if b.tokenizer.chat_template else a.id,
        sum(theirs.get(token) == i for token, i in ours.items()), len(texts),
    )  # fmt: skip


Check = tuple[list[str], list[str]]


def _alone(ours: Mapping[str, int], theirs: Mapping[str, int]) -> set[int]:
    """Ids of strings that only one of the two knows."""
    return {i for token, i in ours.items() if token not in theirs} | {i for token, i in theirs.items() if token not in ours}


def _ids(a: Side, b: Side, ours: Mapping[str, int], theirs: Mapping[str, int]) -> Check:
    """A string that both know must have one id; strings on one side only are told, and masked."""
    if ours == theirs:
        return [], []
    conflicts = sorted((token for token, i in ours.items() if theirs.get(token, i) != i), key=ours.__getitem__)
    if conflicts:
        shown = ", ".join(f"{token!r} is {ours[token]} and {theirs[token]}" for token in conflicts[:SHOWN])
        return [f"{len(conflicts):,} tokens have different ids: {shown}"], []
    common = sum(token in theirs for token in ours)
    if common * 2 < max(len(ours), len(theirs)):
        return [f"they share only {common:,} of {max(len(ours), len(theirs)):,} tokens"], []
    warnings = []
    for side, mine, other in ((a, ours, theirs), (b, theirs, ours)):
        extra = sorted((token for token in mine if token not in other), key=mine.__getitem__)
        if extra:
            shown = ", ".join(repr(token) for token in extra[:SHOWN]) + (", …" if len(extra) > SHOWN else "")
            warnings.append(f"{len(extra):,} tokens are known to {side.id} alone and are never chosen ({shown})")
    return [], warnings


def _written(a: Side, b: Side) -> Check:
    """Merges and decoder decide which ids a text can be: they must agree. How a text is prepared may be written in more than one way."""
    ours, theirs = parts(a.tokenizer), parts(b.tokenizer)
    if ours is None or theirs is None:
        return [], ["one tokenizer can't be read as a whole, only its answers were compared"]
    words = {"model": "build their tokens from different merges", "decoder": "turn tokens into text differently"}
    reasons = [f"they {told}" for name, told in words.items() if ours[name] != theirs[name]]
    loose = [name.replace("_", "-") for name in ("normalizer", "pre_tokenizer") if ours[name] != theirs[name]]
    verb = "is" if len(loose) == 1 else "are"
    return reasons, [f"their {' and '.join(loose)} {verb} written differently, though test texts come out alike"] if loose else []


def parts(tokenizer: Any) -> dict[str, str] | None:
    """What makes a fast tokenizer, part by part, as canonical JSON; None for a slow one. Added tokens and padding are left out, and so is
    the id map of the model, which is compared by itself (a file may list special tokens in it or beside it)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    whole = json.loads(backend.to_str())
    model = dict(whole["model"])
    if isinstance(model.get("vocab"), dict):
        del model["vocab"]
    whole["model"] = model
    return {name: json.dumps(whole[name], sort_keys=True) for name in ("normalizer", "pre_tokenizer", "model", "decoder")}


def fingerprint(tokenizer: Any) -> str:
    """A hash of everything that gives ids their meaning: the id map and, of a fast tokenizer, its parts. Two models with equal ones speak
    of the same tokens; what differs otherwise, `compare` says."""
    whole = [sorted(tokenizer.get_vocab().items()), parts(tokenizer)]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _split(a: Side, b: Side, texts: Sequence[str]) -> Check:
    """The same texts must become the same ids, and the ids the same text again."""
    ours, theirs = (side.tokenizer(list(texts), add_special_tokens=False)["input_ids"] for side in (a, b))
    wrong = [text for text, left, right in zip(texts, ours, theirs, strict=True) if left != right]
    if wrong:
        shown = ", ".join(repr(text[:40]) for text in wrong[:SHOWN])
        return [f"they split {len(wrong)} of {len(texts)} test texts differently: {shown}"], []
    unlike = [text for text, ids in zip(texts, ours, strict=True) if a.tokenizer.decode(ids) != b.tokenizer.decode(ids)]
    return [f"they write the tokens of {len(unlike)} test texts differently: {unlike[0][:40]!r}"] if unlike else [], []


def _dialogue(tokenizer: Any) -> list[str]:
    """Two turns through the leading model's chat template, as text."""
    if not getattr(tokenizer, "chat_template", None):
        return []
    turns = [dict(message) for message in DIALOGUE]
    try:
        return [tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)]
    except (TemplateError, ValueError):  # a template may refuse these roles; then it says nothing about the pair
        return []


def _ends(a: Side, b: Side) -> Check:
    """Special and stop ids: every stop id of either ends the answer."""
    warnings = []
    if set(a.stop_ids) != set(b.stop_ids):
        told = f"{a.id} at {sorted(a.stop_ids)}, {b.id} at {sorted(b.stop_ids)}"
        warnings.append(f"they stop at different ids ({told}); each of them ends the answer")
    for name in SPECIALS:
        ours, theirs = getattr(a.tokenizer, name, None), getattr(b.tokenizer, name, None)
        if ours != theirs:
            warnings.append(f"their {name.removesuffix('_token_id')} tokens differ ({ours} and {theirs}); {b.id}'s is used")
    if a.max_positions != b.max_positions:
        warnings.append(f"their contexts differ ({a.max_positions} and {b.max_positions} tokens); the shorter one counts")
    return [], warnings


def _templates(a: Side, b: Side) -> Check:
    ours, theirs = a.tokenizer.chat_template, b.tokenizer.chat_template
    if ours == theirs:
        return [], []
    used = b.id if theirs else a.id
    return [], [f"their chat templates differ; {used}'s is used"]


def same_law(report: PairReport, rows: torch.Tensor, leads: bool = False) -> torch.Tensor:
    """Logits `(n, V)` of one model (`leads`: the second one) over the ids that both mean alike, `(n, width)`; the others can't be chosen.

    Where both models have the very same tokens this costs nothing: a view, or the rows themselves."""
    rows = rows[:, : report.width]
    masked = report.masked_b if leads else report.masked_a
    return rows.index_fill(1, torch.tensor(masked, device=rows.device), NEVER) if masked else rows
