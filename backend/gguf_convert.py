"""A GGUF file becomes a Hugging Face folder, once.

Goes in: a `.gguf` file and the folder to make. Comes out: that folder with config, bf16 safetensors, tokenizer and a manifest,
made beside its place and renamed at the end, or a `ModelError`. Knows nothing of where the file came from.
"""

from __future__ import annotations

import copy
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock

from backend.errors import ModelError
from backend.model_files import MANIFEST, read_json, sha256_file, weight_files, write_json


@contextmanager
def making(target: Path) -> Iterator[Path | None]:
    """A temporary folder beside `target` that takes its place when the block ends well; None when another process was first.

    One process at a time holds the lock file, so what a killed one left behind can be cleared by the next."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(target.parent / f".{target.name}.lock")):
        if (target / MANIFEST).is_file():
            yield None
            return
        part = target.parent / f".{target.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
            shutil.rmtree(target, ignore_errors=True)
            os.replace(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars from transformers: progress has its own way to the page."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def check_gguf(model_id: str, path: Path) -> None:
    """Raise `ModelError` unless `path` is a file that begins as GGUF does (magic, version 2 or 3)."""
    if not path.is_file():
        raise ModelError(f"{model_id}: there is no file {path}; check the path.")
    with path.open("rb") as file:
        start = file.read(8)
    if len(start) < 8 or start[:4] != b"GGUF" or struct.unpack("<I", start[4:])[0] not in (2, 3):
        raise ModelError(f"{model_id}: {path.name} is not a GGUF file (version 2 or 3); download it again.")


def convert(model_id: str, source: Path, folder: Path, extra_stop_ids: Sequence[int] = (), facts: dict[str, Any] | None = None) -> None:
    """Write `source` as a Hugging Face folder into the existing `folder`, weights in bf16, manifest last.

    `extra_stop_ids` join the end-of-text ids of the generation config; `facts` join the manifest. Raises `ModelError`."""
    check_gguf(model_id, source)
    with quiet():
        try:
            tokenizer, model = _read(source)
            mend_pre_tokenizer(tokenizer, pre_tokenizer_name(source))
        except (ValueError, KeyError, NotImplementedError, OSError, RuntimeError, IndexError, TypeError) as error:
            # transformers raises all of these for files that are cut off or of an architecture it can't map
            why = _first_line(error)
            raise ModelError(f"{model_id}: {source.name} can't be read as a language model ({why}); try another file.") from error
        n_parameters = _save(model, tokenizer, folder, extra_stop_ids)
    write_manifest(model_id, folder, {"origin": "gguf", "n_parameters": n_parameters, "gguf_sha256": sha256_file(source), **(facts or {})})


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:160] or type(error).__name__


def _read(source: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    return tokenizer, model


def pre_tokenizer_name(source: Path) -> str | None:
    """The file's `tokenizer.ggml.pre`: how text is cut into words before the merges."""
    from gguf import GGUFReader

    field = GGUFReader(source).get_field("tokenizer.ggml.pre")
    return None if field is None else str(field.contents())


def mend_pre_tokenizer(tokenizer: Any, name: str | None) -> None:
    """transformers takes GPT-2's way of cutting for all of these; `smollm` cuts out each digit first.

    Without it "  1" has other tokens than in training (indented lists and numbers)."""
    from tokenizers import pre_tokenizers

    if name == "smollm":
        digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])


def _save(model: Any, tokenizer: Any, folder: Path, extra_stop_ids: Sequence[int]) -> int:
    """Save through a fresh model: transformers refuses to save one that came from GGUF."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config._name_or_path = ""
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    fresh.load_state_dict(model.state_dict(), strict=True)
    eos = model.generation_config.eos_token_id
    eos = [eos] if isinstance(eos, int) else list(eos or [tokenizer.eos_token_id])
    stops = list(dict.fromkeys([*eos, *extra_stop_ids]))
    fresh.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=stops if len(stops) > 1 else stops[0],
        pad_token_id=tokenizer.pad_token_id,
    )
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _drop_invented_tokens(folder / "tokenizer.json", fresh.get_input_embeddings().weight.shape[0])
    return sum(p.numel() for p in fresh.parameters())


def _drop_invented_tokens(file: Path, width: int) -> None:
    """transformers adds <|endoftext|> to every BPE tokenizer; where the model has no row for it, its id would crash the model."""
    data = read_json(file)
    added = data.get("added_tokens", [])
    if any(token["id"] >= width for token in added):
        write_json(file, {**data, "added_tokens": [token for token in added if token["id"] < width]})


def write_manifest(model_id: str, folder: Path, facts: dict[str, Any]) -> None:
    """Write `loupe.json`: the sign that the folder is complete, and where it came from."""
    files = weight_files(model_id, folder)
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    sha256 = {f.name: sha256_file(f) for f in files}
    write_json(folder / MANIFEST, {"id": model_id, "sha256": sha256, "date": date, **facts})
