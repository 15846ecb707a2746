"""Models of the Hugging Face hub: safetensors, tokenizer and config only.

Goes in: a hub id. Comes out: a folder of the hub's own cache (or a given one), or a `ModelError` that says whether the id is
unknown, gated, pickled, or the network is not there. Knows nothing of loading.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors
from tqdm.auto import tqdm

from backend.errors import ModelError
from backend.model_files import Report

CONFIGS = ("*.json", "*.model", "*.txt", "*.jinja", "README.md", "LICENSE*")
WEIGHTS = ("*.safetensors",)
SKIP = ("*/*",)  # other precisions, exports and adapters lie in folders of their own
TIMEOUT_S = 4.0
UNREACHABLE = (OSError, errors.HTTPError)  # connection, proxy, time-out, offline mode, server errors

def reach(model_id: str, repo: str) -> None:
    """Ask the hub about `repo` within seconds; raises `ModelError` unless it is there and has safetensors."""
    try:
        info = huggingface_hub.HfApi().model_info(repo, timeout=TIMEOUT_S)
    except (errors.HFValidationError, *UNREACHABLE) as error:
        raise explain(model_id, error) from error
    names = [s.rfilename for s in info.siblings or []]
    if not any(n.endswith(".safetensors") and "/" not in n for n in names):
        pickled = any(n.endswith((".bin", ".pt", ".pth")) for n in names)
        reason = "it has only pickled weights, which can run code when opened" if pickled else "it has no safetensors weights"
        raise ModelError(f"{model_id}: {reason}; choose a model with .safetensors files, or convert it.")


def download(model_id: str, progress: Report, weights: bool = True) -> Path:
    """The model's folder in the hub's cache; what is already there is used without asking the network.

    `weights=False` brings config and tokenizer only. An interrupted download goes on where it was."""
    patterns = [*CONFIGS, *WEIGHTS] if weights else list(CONFIGS)
    try:
        here = huggingface_hub.snapshot_download(model_id, local_files_only=True, allow_patterns=patterns, ignore_patterns=list(SKIP))
        folder = Path(here)
        if (folder / "config.json").is_file() and (not weights or any(folder.glob("*.safetensors"))):
            return folder
    except errors.LocalEntryNotFoundError:
        pass  # not here yet, or not all of it: ask the hub
    reach(model_id, model_id)
    return fetch(model_id, model_id, patterns, progress)


def fetch(model_id: str, repo: str, patterns: list[str], progress: Report, into: Path | None = None) -> Path:
    """`snapshot_download` of what matches, into the cache or the folder `into`; raises `ModelError`."""
    try:
        folder = huggingface_hub.snapshot_download(
            repo, allow_patterns=patterns, ignore_patterns=list(SKIP), local_dir=into, etag_timeout=TIMEOUT_S, tqdm_class=_bar(progress)
        )
    except (errors.HFValidationError, *UNREACHABLE) as error:
        raise explain(model_id, error) from error
    return Path(folder)


def explain(model_id: str, error: Exception) -> ModelError:
    """The hub's error in a sentence a person can act on."""
    if isinstance(error, errors.GatedRepoError):
        return ModelError(f"{model_id} is gated: accept its terms on its page at the Hub, log in with `hf auth login`, and try again.")
    if isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError)):
        return ModelError(f"{model_id} is not on the Hub, or it is private; check the spelling, or log in with `hf auth login`.")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ModelError(f"{model_id} is not on this machine and HF_HUB_OFFLINE is set; unset it, or choose a model that is here.")
    what = str(error).strip().split("\n")[0][:160] or type(error).__name__
    return ModelError(f"{model_id} can't be fetched, the Hub can't be reached ({what}); check the network, or choose a model that is here.")


def _bar(progress: Report) -> Any:
    """A progress bar class that draws nothing and reports bytes."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            self.bytes = kwargs.get("unit") == "B"
            self.count = 0.0
            super().__init__(*args, **{**kwargs, "disable": True})
            self.total = kwargs.get("total")

        def update(self, n: float | None = 1) -> None:
            self.count += n or 0
            if self.bytes:
                progress(self.count, self.total or None, "downloading from the Hub")

    return Bar
