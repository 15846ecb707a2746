"""Which number format a model is loaded in, by device and size.

Goes in: a device, a parameter count, what the user asked for. Comes out: a torch dtype. On a processor the answer for larger models
is measured once a machine and remembered; knows nothing of models.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import torch

from backend.errors import ModelError
from backend.model_files import read_json, write_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALL = 50_000_000  # parameters; below it fp32 costs nothing and is exact
WIDTHS = (1, 8)  # one token, and a verification of eight
MARGIN = 1.05  # a tie goes to bf16, which takes half the memory


def choose_dtype(device: torch.device, n_parameters: int, data_dir: Path, wanted: str | None = None) -> torch.dtype:
    """The dtype for a model of this size: `wanted`, else `LOUPE_DTYPE`, else by device. Raises `ModelError` for an unknown name."""
    wanted = wanted or os.environ.get("LOUPE_DTYPE")
    if wanted:
        if wanted not in DTYPES:
            raise ModelError(f"dtype must be one of {', '.join(DTYPES)}, got {wanted!r}; correct it, or unset LOUPE_DTYPE.")
        return DTYPES[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if n_parameters < SMALL:
        return torch.float32
    return torch.bfloat16 if bf16_pays(data_dir) else torch.float32


def bf16_pays(data_dir: Path) -> bool:
    """Whether this processor has bf16 instructions and they were measured to be no slower than fp32; measured once a machine."""
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # torch of before: fp32 is always right
    if not (able.get("amx_bf16") or able.get("avx512_bf16")):
        return False
    machine = json.dumps({**able, "torch": torch.__version__, "threads": torch.get_num_threads()}, sort_keys=True, default=str)
    key, cache = hashlib.sha256(machine.encode()).hexdigest()[:16], data_dir / "cache" / "dtype.json"
    known = read_json(cache).get(key)
    if not isinstance(known, dict):
        known = {str(d).removeprefix("torch."): seconds(d) for d in (torch.float32, torch.bfloat16)}
        write_json(cache, {**read_json(cache), key: known})
    return known["bfloat16"] <= known["float32"] * MARGIN


def seconds(dtype: torch.dtype, size: int = 1536, rounds: int = 7) -> float:
    """Best time of a layer-like product at one and at eight rows, over weights too large for the caches to hold them all."""
    weights = [torch.full((size, size), 0.5, dtype=dtype) for _ in range(8)]  # 75 MB in fp32
    total = 0.0
    for width in WIDTHS:
        hidden = torch.full((width, size), 0.5, dtype=dtype)
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            with torch.inference_mode():
                for weight in weights:
                    torch.nn.functional.linear(hidden, weight)
            times.append(time.perf_counter() - start)
        total += min(times)
    return total
