"""The pool: gets, loads, keeps and frees models within a budget of memory.

Goes in: model ids by role. Comes out: `LoadedModel` handles, or a `ModelError` that names the model and the sum. Several roles are
reserved at once; what was used longest ago is freed first. Knows nothing of methods, runs or pages.
"""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from backend.errors import ModelError
from backend.fast_forward import group_query_heads, pack_weights, packs_weights
from backend.gguf_convert import quiet
from backend.memory import default_budget, default_device
from backend.model_dtype import choose_dtype
from backend.model_files import Report, cached_hash, ignore, stamp, weight_files
from backend.model_hub import download
from backend.model_source import get, list_models, resolve
from backend.passport import Passport, count_parameters, load_config, load_tokenizer, logit_width, make_passport, skeleton, stop_ids
from backend.resources import Resources


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with its tokenizer, in eval mode. `vocab_size` is the logit width; `resources` are closed when the model is freed."""

    id: str
    model: PreTrainedModel
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    hash: str
    origin: str
    stop_ids: tuple[int, ...]
    vocab_size: int
    passport: Passport
    resources: Resources = field(default_factory=Resources)

    def line(self) -> dict[str, str]:
        """What the `started` line says of it."""
        return {"id": self.id, "hash": self.hash, "dtype": _name(self.dtype), "device": str(self.device), "origin": self.origin}


@dataclass(frozen=True)
class Plan:
    """A load that is not done yet: dtype and bytes of the weights, known from the config alone."""

    id: str
    n_parameters: int
    dtype: torch.dtype
    packed: bool = False

    @property
    def bytes(self) -> int:
        """Weights, and as much again where the CPU's bf16 kernels get them laid out their way (`fast_forward.pack_weights`)."""
        return self.n_parameters * self.dtype.itemsize * (2 if self.packed else 1)

    def __str__(self) -> str:
        twice = ", laid out twice" if self.packed else ""
        return f"{self.id} {_size(self.bytes)} ({self.n_parameters:,} parameters in {_name(self.dtype)}{twice})"


@dataclass(frozen=True)
class _Entry:
    loaded: LoadedModel
    plan: Plan
    stamp: str


class ModelPool:
    """Loaded models, least recently used first. Loads happen one at a time; `loaded` may be asked from any thread."""

    def __init__(self, data_dir: Path, assets_dir: Path, memory_budget_bytes: int | None = None, progress: Report = ignore,
                 device: str | None = None, dtype: str | None = None) -> None:  # fmt: skip
        """`memory_budget_bytes` defaults to 60 % of the device's memory, `device` to CUDA where there is one."""
        self.data_dir, self.assets_dir = data_dir, assets_dir
        self.device = torch.device(device) if device else default_device()
        self.budget = default_budget(self.device) if memory_budget_bytes is None else memory_budget_bytes
        self._progress, self._dtype = progress, dtype
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    # Loading --------------------------------------------------------------------------------------------------------------------

    def load(self, model_id: str, progress: Report | None = None) -> LoadedModel:
        """The model, from the pool or from disk (or fetched first). Raises `ModelError`."""
        return self.load_all({"model": model_id}, progress)["model"]

    def load_all(self, models: Mapping[str, str], progress: Report | None = None) -> dict[str, LoadedModel]:
        """All roles at once, or none: the memory of all is reserved first. The same id under two roles is loaded once."""
        report = progress or self._progress
        ids = list(dict.fromkeys(models.values()))
        with self._lock:
            for model_id in ids:
                if model_id in self._entries and self._entries[model_id].stamp != self._stamp(model_id, report):
                    self._free(model_id)  # its files were replaced since
            plans = [self._entries[i].plan if i in self._entries else self._plan(i, report) for i in ids]
            self._check_budget(plans)
            self._make_room(plans)
            for plan in plans:
                if plan.id not in self._entries:
                    stamped = self._stamp(plan.id, report)
                    self._entries[plan.id] = _Entry(self._load(plan, report), plan, stamped)
                self._entries.move_to_end(plan.id)
            return {role: self._entries[model_id].loaded for role, model_id in models.items()}

    def cost(self, model_id: str, progress: Report | None = None) -> Plan:
        """What loading it would take, without loading it; may fetch a config (never weights) of the Hub."""
        return self._plan(model_id, progress or self._progress)

    def _plan(self, model_id: str, report: Report) -> Plan:
        folder = self._folder(model_id, report)
        n_parameters = count_parameters(skeleton(model_id, load_config(model_id, folder)))
        dtype = choose_dtype(self.device, n_parameters, self.data_dir, self._dtype)
        return Plan(model_id, n_parameters, dtype, packed=packs_weights(self.device, dtype))

    def _folder(self, model_id: str, report: Report) -> Path:
        """Where config and tokenizer lie; a model of the Hub brings no weights yet, so that one too large is refused first."""
        if resolve(model_id, self.data_dir, self.assets_dir).kind == "hub":
            return download(model_id, report, weights=False)
        return get(model_id, self.data_dir, self.assets_dir, report)

    def _stamp(self, model_id: str, report: Report) -> str:
        return stamp(weight_files(model_id, get(model_id, self.data_dir, self.assets_dir, report)))

    def _check_budget(self, plans: list[Plan]) -> None:
        wanted = {p.id for p in plans}
        held = [e.plan for i, e in self._entries.items() if i in self._held and i not in wanted]
        total = sum(p.bytes for p in [*plans, *held])
        if total > self.budget:
            parts = [str(p) for p in plans] + [f"{p} in use by a job" for p in held]
            terms = " + ".join(parts) + (f" = {_size(total)}" if len(parts) > 1 else "")
            limit = f"the budget is {_size(self.budget)} on {self.device}"
            raise ModelError(f"Too large for this machine: {terms}; {limit}. Choose a smaller model, or fewer at once.")

    def _make_room(self, plans: list[Plan]) -> None:
        wanted = {p.id for p in plans}
        need = sum(p.bytes for p in plans if p.id not in self._entries)
        for model_id in list(self._entries):
            if need + sum(e.plan.bytes for e in self._entries.values()) <= self.budget:
                return
            if model_id not in wanted and model_id not in self._held:
                self._free(model_id)

    def place(self, model_id: str) -> LoadedModel:
        """The model for as long as the process lives, loaded on the CPU and then moved: where a GPU is only lent, what lends it sees moves
        made by this thread, not the threads that load weights. It is not counted and never freed."""
        plan = replace(self._plan(model_id, self._progress), packed=False)
        loaded = self._load(plan, self._progress, torch.device("cpu"))
        return replace(loaded, model=loaded.model.to(self.device), device=self.device)

    def _load(self, plan: Plan, report: Report, device: torch.device | None = None) -> LoadedModel:
        report(0, 1, f"loading {plan.id}")
        source = resolve(plan.id, self.data_dir, self.assets_dir)
        folder = get(plan.id, self.data_dir, self.assets_dir, report)
        tokenizer = load_tokenizer(plan.id, folder)
        model = load_weights(plan, folder, device or self.device)
        if plan.packed:
            pack_weights(model)
            group_query_heads(model)
        width, digest = logit_width(model), cached_hash(weight_files(plan.id, folder), self.data_dir)
        report(1, 1, f"loading {plan.id}")
        return LoadedModel(
            id=plan.id,
            model=model,
            tokenizer=tokenizer,
            device=model.device,
            dtype=plan.dtype,
            hash=digest,
            origin=source.origin,
            stop_ids=stop_ids(folder, model.config, tokenizer, width),
            vocab_size=width,
            passport=make_passport(plan.id, source.origin, folder, digest, model, tokenizer),
        )

    # Keeping and freeing --------------------------------------------------------------------------------------------------------

    @contextmanager
    def holding(self, model_ids: list[str]) -> Iterator[None]:
        """While inside, these models are not freed to make room (a job that gave way still has them)."""
        for model_id in model_ids:
            self._held[model_id] = self._held.get(model_id, 0) + 1
        try:
            yield
        finally:
            for model_id in model_ids:
                self._held[model_id] -= 1
                if not self._held[model_id]:
                    del self._held[model_id]

    def loaded(self) -> list[LoadedModel]:
        """What is in memory, least recently used first."""
        return [entry.loaded for entry in list(self._entries.values())]

    def unload(self, model_id: str) -> None:
        """Free it; nothing happens if it is not loaded."""
        with self._lock:
            if model_id in self._entries:
                self._free(model_id)

    def close(self) -> None:
        """Free everything."""
        with self._lock:
            for model_id in list(self._entries):
                self._free(model_id)

    def _free(self, model_id: str) -> None:
        self._entries.pop(model_id).loaded.resources.close()
        gc.collect()  # modules and their hooks form cycles
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # Telling --------------------------------------------------------------------------------------------------------------------

    def describe(self, model_id: str) -> Passport:
        """The passport, without loading weights; of a model of the Hub that is not here, from its config alone."""
        entry = self._entries.get(model_id)
        return entry.loaded.passport if entry else describe(model_id, self.data_dir, self.assets_dir)

    def list(self) -> list[dict[str, Any]]:
        """`list_models`, with `loaded` added."""
        return [{**row, "loaded": row["id"] in self._entries} for row in list_models(self.data_dir, self.assets_dir)]


def load_weights(plan: Plan, folder: Path, device: torch.device) -> PreTrainedModel:
    """The model in eval mode on its device, from safetensors only; raises `ModelError` when weights lack, misfit or don't fit in memory.

    Must not run under `inference_mode`: gradient search needs the weights later."""
    assert not torch.is_inference_mode_enabled()
    try:
        with quiet():
            model, info = AutoModelForCausalLM.from_pretrained(
                folder, dtype=plan.dtype, device_map=placement(plan.bytes, device), use_safetensors=True, trust_remote_code=False,
                local_files_only=True, output_loading_info=True,
            )  # fmt: skip
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ModelError(f"{plan.id}: not enough memory on {device} for {plan}; free some, or choose a smaller model.") from error
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().split("\n")[0][:160]
        raise ModelError(f"{plan.id}: its weights can't be loaded ({first}); download the model again.") from error
    if info["missing_keys"]:
        lost = sorted(info["missing_keys"])
        raise ModelError(f"{plan.id}: its files lack {len(lost)} weight(s), the first is {lost[0]}; download the model again.")
    return model.eval()


def placement(n_bytes: int, device: torch.device) -> Any:
    """accelerate's `device_map`: one GPU if the weights fit beside what is on it, else spread over all; None on the CPU."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return {"": device} if n_bytes < free * 0.9 else "auto"


def describe(model_id: str, data_dir: Path, assets_dir: Path) -> Passport:
    """The passport of a model, loaded or not. A `.gguf` file is converted first, `smollm2` is fetched if it has to be."""
    source = resolve(model_id, data_dir, assets_dir)
    folder = download(model_id, ignore, weights=False) if source.kind == "hub" else get(model_id, data_dir, assets_dir)
    files = list(folder.glob("*.safetensors"))
    digest = cached_hash(weight_files(model_id, folder), data_dir) if files else None
    model = skeleton(model_id, load_config(model_id, folder))
    return make_passport(model_id, source.origin, folder, digest, model, load_tokenizer(model_id, folder))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
