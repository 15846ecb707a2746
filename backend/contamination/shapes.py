"""Whether models are of one family: same architecture, same shapes, same tokens, and not the same weights.

Goes in: two models, loaded or as ids. Comes out: nothing, or an `InvalidRequest` that says what differs. Knows nothing of methods.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backend.contamination.taps import sites_of
from backend.errors import InvalidRequest
from backend.model_source import resolve
from backend.pairs import require_files, require_pair
from backend.passport import load_config
from backend.paths import assets_dir
from backend.resources import Resources


def require_same_shape(suspect: Any, other: Any, where: str) -> None:
    """Raise `InvalidRequest` at `where` unless `other` can lend the suspect its activations."""
    if suspect.hash == other.hash:
        raise InvalidRequest(same_model(suspect.id, other.id), where)
    ours, theirs = _config(suspect.model.config), _config(other.model.config)
    _require_configs(suspect.id, other.id, ours, theirs, where)
    if sites_of(suspect) != sites_of(other):
        raise InvalidRequest(f"{suspect.id} and {other.id} keep their neurons in different places.", where)


def require_family(suspect: Any, other: Any, where: str) -> None:
    """The same, and that both speak of the same tokens."""
    require_same_shape(suspect, other, where)
    require_pair(suspect, other, where)


def require_family_files(suspect: str, other: str, data_dir: Path, where: str, kept: Resources | None = None) -> None:
    """The same before any weights are loaded, as far as files on this machine tell."""
    if suspect == other:
        raise InvalidRequest(same_model(suspect, other), where)
    configs = []
    for model_id in (suspect, other):
        source = resolve(model_id, data_dir, assets_dir())
        if source.path is None or not (source.path / "config.json").is_file():
            return
        configs.append(_config(load_config(model_id, source.path)))
    _require_configs(suspect, other, *configs, where)
    require_files(suspect, other, data_dir, assets_dir(), where, kept)


def same_model(suspect: str, other: str) -> str:
    told = f"{suspect} is suspect and comparison at once" if suspect == other else f"{suspect} and {other} have the same weights"
    return f"{told}: patching a model with itself changes nothing. Choose the model that it was made from, or a clean copy."


def _config(config: Any) -> dict[str, Any]:
    text = config.get_text_config(decoder=True)
    return {"architecture": text.model_type, "layers": text.num_hidden_layers, "hidden size": text.hidden_size}


def _require_configs(suspect: str, other: str, ours: dict[str, Any], theirs: dict[str, Any], where: str) -> None:
    unlike = [f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    if unlike:
        raise InvalidRequest(f"{suspect} and {other} are built differently ({'; '.join(unlike)}), so neurons can't be carried over.", where)
