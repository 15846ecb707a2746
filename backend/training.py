"""The one training loop of the house.

Goes in: a model (`model(ids, shapes, dtype)` gives logits), documents from any position on, a plan, a folder. Comes out: reports; the
trained weights are in the model and in the folder's checkpoint. A run that was killed goes on from its checkpoint with the same documents
in the same order. Knows nothing of what is learned, of tokenizers or of export formats.

A step's shards are worked on at once by one thread each, with one kernel thread: on two shared cores that gave 7,000 to 8,700 tokens a
second; two kernel threads for one batch fell to 800 when another process wanted a core, because at each of some thousand kernels a step
the one thread waits for the other.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backend.errors import WorkbenchError
from backend.packing import Document, Packer, Shard

Documents = Callable[[int], Iterator[Document]]
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Plan:
    """Rates and their schedule: warm-up over `warmup_steps`, constant, then linear to zero over the last `decay_share`.

    How far the run is counts in `seconds` of wall time or in `steps`, whichever is given. `dtype` is that of the matrix products. Without
    a rate for Muon all weights go to AdamW."""

    muon_lr: float | None
    adamw_lr: float
    decay_share: float
    seconds: float | None = None
    steps: int | None = None
    warmup_steps: int = 40
    shards: int = 2
    slots: int = 2048
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None) or (self.seconds or self.steps or 0) <= 0:
            raise ValueError(f"a plan has seconds or steps, more than 0, got seconds={self.seconds}, steps={self.steps}")
        if not 0 < self.decay_share <= 1:
            raise ValueError(f"decay_share must be above 0 and at most 1, got {self.decay_share}")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be float32 or bfloat16, got {self.dtype!r}")

    def share(self, step: int, elapsed_s: float) -> float:
        """How much of the run is over, 0 to 1."""
        return min(1.0, elapsed_s / self.seconds if self.seconds else step / self.steps)

    def factor(self, step: int, elapsed_s: float) -> float:
        """What the rates are multiplied by in this step."""
        left = 1 - self.share(step, elapsed_s)
        return min(1.0, (step + 1) / self.warmup_steps, left / self.decay_share)


@dataclass(frozen=True)
class Report:
    """How far a run is. Losses (nats a token, by loss weight) are means since the report before; `tokens` counts no padding."""

    step: int
    elapsed_s: float
    left_s: float
    tokens: int
    tokens_per_s: float
    loss: float
    losses: dict[str, float] = field(default_factory=dict)
    finished: bool = False

    def text(self) -> str:
        skills = ", ".join(f"{skill} {loss:.3f}" for skill, loss in sorted(self.losses.items()))
        speed = f"{self.tokens / 1e6:.2f} M tokens at {self.tokens_per_s:,.0f}/s"
        return f"step {self.step}: loss {self.loss:.3f} ({skills}); {speed}, {self.left_s / 60:.1f} min left"


@dataclass
class Progress:
    """What changes during a run and is in its checkpoint beside weights and optimizers."""

    step: int = 0
    elapsed_s: float = 0.0
    tokens: int = 0
    position: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def train(model: nn.Module, documents: Documents, plan: Plan, folder: Path, *, clock: Callable[[], float] = time.perf_counter,
          report_s: float = 10.0, checkpoint_s: float = 60.0) -> Iterator[Report]:  # fmt: skip
    """Train until the plan is over, reporting now and then; goes on from the folder's checkpoint, if one is there.

    A run may go on under a longer or a shorter plan; raises `WorkbenchError` when anything else in it differs. Close the generator to stop
    early: what came after the last checkpoint is lost."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(_workers(model, plan), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            torch.set_num_threads(1)
            yield from _Run(model, documents, plan, folder, pool).steps(clock, report_s, checkpoint_s)
        finally:
            torch.set_num_threads(threads)


class _Run:
    """One run in progress: the model, its optimizers, the packer and how far they are."""

    def __init__(self, model: nn.Module, documents: Documents, plan: Plan, folder: Path, pool: ThreadPoolExecutor) -> None:
        self.model, self.plan, self.file, self.pool = model, plan, folder / CHECKPOINT, pool
        self.parameters, self.device = list(model.parameters()), next(model.parameters()).device
        self.optimizers = make_optimizers(model, plan)
        self.progress = Progress()
        if self.file.exists():
            self._restore(read_checkpoint(folder, self.device))
        self.packer = Packer(documents, self.progress.position, plan.slots)
        self._sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def steps(self, clock: Callable[[], float], report_s: float, checkpoint_s: float) -> Iterator[Report]:
        progress, before = self.progress, self.progress.elapsed_s
        start, told, saved, tokens_told = clock(), before, before, progress.tokens
        while self.plan.share(progress.step, progress.elapsed_s) < 1:
            self.step()
            progress.elapsed_s = before + clock() - start
            over = self.plan.share(progress.step, progress.elapsed_s) >= 1
            if over or progress.elapsed_s - told >= report_s:
                report = self._report(progress.elapsed_s - told, progress.tokens - tokens_told, over)
                progress.history.append(asdict(report))
                told, tokens_told = progress.elapsed_s, progress.tokens
            else:
                report = None
            if over or progress.elapsed_s - saved >= checkpoint_s:
                self.save()
                saved = progress.elapsed_s
            if report is not None:
                yield report

    def step(self) -> None:
        """One update of all weights from `plan.shards` shards."""
        shards = [self.packer.next() for _ in range(self.plan.shards)]
        total = sum(shard.weights.sum().item() for shard in shards)
        factor = self.plan.factor(self.progress.step, self.progress.elapsed_s)
        results = list(self.pool.map(lambda shard: self._gradients(shard.to(self.device), total), shards))
        for parameter, *gradients in zip(self.parameters, *(r[0] for r in results), strict=True):
            parameter.grad = sum(gradients[1:], gradients[0])
        list(self.pool.map(lambda optimizer: _update(optimizer, factor), self.optimizers))
        for _, by_skill in results:
            for skill, index in self.packer.skills.items():
                self._sums[skill][0] += by_skill[0][index]
                self._sums[skill][1] += by_skill[1][index]
        self.progress.step += 1
        self.progress.tokens += sum(shard.n_tokens for shard in shards)
        self.progress.position = self.packer.position

    def _gradients(self, shard: Shard, total: float) -> tuple[tuple[Tensor, ...], list[list[float]]]:
        """The share of a shard in the step's gradient, and its weighted losses and weights by skill."""
        losses = weighted_losses(self.model, shard, getattr(torch, self.plan.dtype))
        gradients = torch.autograd.grad(losses.sum() / total, self.parameters)
        sums = torch.zeros(2, len(self.packer.skills), device=self.device)
        sums.index_add_(1, shard.skills, torch.stack([losses.detach(), shard.weights]))
        return gradients, sums.tolist()

    def _report(self, seconds: float, tokens: int, over: bool) -> Report:
        progress, sums = self.progress, {skill: pair for skill, pair in self._sums.items() if pair[1]}
        self._sums.clear()
        share = self.plan.share(progress.step, progress.elapsed_s)
        return Report(
            step=progress.step,
            elapsed_s=progress.elapsed_s,
            left_s=progress.elapsed_s * (1 - share) / share if share else 0.0,
            tokens=progress.tokens,
            tokens_per_s=tokens / seconds if seconds else 0.0,
            loss=sum(loss for loss, _ in sums.values()) / sum(weight for _, weight in sums.values()),
            losses={skill: loss / weight for skill, (loss, weight) in sums.items()},
            finished=over,
        )

    def save(self) -> None:
        """Write the checkpoint beside the last one, then take its place: a kill leaves the one or the other."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        optimizers = [o.state_dict() for o in self.optimizers]
        state = {"plan": asdict(self.plan), "progress": asdict(self.progress), "model": self.model.state_dict(), "optimizers": optimizers}
        part = self.file.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.file)

    def _restore(self, state: dict[str, Any]) -> None:
        wanted = asdict(self.plan)
        changed = [name for name in wanted if name not in ("seconds", "steps") and state["plan"].get(name) != wanted[name]]
        if changed:
            raise WorkbenchError(f"{self.file.parent} holds a run with another {', '.join(changed)}; choose another folder, or remove it.")
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.progress = Progress(**state["progress"])


def weighted_losses(model: nn.Module, shard: Shard, dtype: torch.dtype) -> Tensor:
    """Cross-entropy of each target times its weight, `(slots,)` float32; nothing is summed."""
    logits = model(shard.ids, shard.shapes, dtype)
    return F.cross_entropy(logits.float(), shard.targets, reduction="none") * shard.weights


def make_optimizers(model: nn.Module, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, dealt out to `plan.shards` optimizers that step at once; AdamW for embeddings and norms.

    Muon: Jordan et al. 2024; a step of it costs a fifth of the gradient of 4,096 tokens at width 160, on one core."""
    tables = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    blocks = [p for p in model.parameters() if plan.muon_lr is not None and p.ndim == 2 and id(p) not in tables]
    others = [p for p in model.parameters() if not any(p is block for block in blocks)]
    hands = [blocks[i :: plan.shards] for i in range(plan.shards)]
    muons = [torch.optim.Muon(hand, lr=plan.muon_lr, momentum=0.95, weight_decay=0.01) for hand in hands if hand]
    return [*muons, torch.optim.AdamW(others, lr=plan.adamw_lr, betas=(0.9, 0.95), weight_decay=0.01)]


def _update(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """One step at `factor` times the optimizer's own rate."""
    for group in optimizer.param_groups:
        group["lr"] = optimizer.defaults["lr"] * factor
    optimizer.step()


def read_checkpoint(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The state of a run; raises `WorkbenchError` when the folder has none."""
    file = folder / CHECKPOINT
    if not file.exists():
        raise WorkbenchError(f"{folder} holds no checkpoint; train first.")
    return torch.load(file, map_location=device, weights_only=True)


def fastest_dtype(model: nn.Module, documents: Documents, plan: Plan, clock: Callable[[], float] = time.perf_counter) -> str:
    """`bfloat16` where it makes a gradient cheaper than `float32` on this machine, measured on one shard (second pass of two)."""
    device = next(model.parameters()).device
    shard, took = Packer(documents, 0, plan.slots).next().to(device), {}
    for name in ("float32", "bfloat16"):
        for _ in range(2):
            start = clock()
            losses = weighted_losses(model, shard, getattr(torch, name))
            sum(g.sum() for g in torch.autograd.grad(losses.sum(), list(model.parameters()))).item()  # waits for a GPU
            took[name] = clock() - start
    return min(took, key=took.__getitem__)


def _workers(model: nn.Module, plan: Plan) -> int:
    """One a shard, as far as there are cores; a GPU is fed by one."""
    if next(model.parameters()).device.type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(plan.shards, cores))
