"""How much memory the models may take.

Goes in: nothing but the machine. Comes out: a device and a budget in bytes. Knows nothing of models.
"""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

SHARE = 0.6  # of the device's memory; the rest is for caches, logits and everybody else
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def default_device() -> torch.device:
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def default_budget(device: torch.device) -> int:
    """60 % of the memory of all GPUs, or of this machine (of its container, where that has less)."""
    if device.type == "cuda":
        return int(SHARE * sum(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())))
    return int(SHARE * min([psutil.virtual_memory().total, *container_limits()]))


def container_limits(files: tuple[Path, ...] = CGROUP_LIMITS) -> list[int]:
    """What control groups allow, in bytes; empty outside a container or without a limit."""
    limits = []
    for file in files:
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):
            continue  # not there, or "max"
    return limits
