"""A trained router: from one step of the small model to the probability that its token would spoil the answer.

Goes in: a folder with `router.safetensors` and `card.json`. Comes out: `Router`, which scores steps of exactly the pair that it was made for.
The small model's embeddings are used where they lie, never copied. Knows nothing of how it was trained, of decoding or of runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from backend.errors import WorkbenchError
from backend.model_files import write_json
from backend.models import LoadedModel
from backend.pairs import fingerprint
from backend.routing.features import MORE, of_step
from backend.routing.fit import HEADS, Layers, apply

WEIGHTS, CARD = "router.safetensors", "card.json"
FORMAT = 1  # of the card; raised when an older one can no longer be read
STRATEGIES = ("neural", "entropy", "margin", "top1")  # whose thresholds a card knows
TYPICAL = 128


@dataclass(frozen=True)
class Member:
    """One model of the pair as the card names it."""

    id: str
    hash: str
    hidden_size: int
    fingerprint: str
    n_parameters: int

    @classmethod
    def of(cls, loaded: LoadedModel) -> Member:
        hidden = loaded.model.get_input_embeddings().weight.shape[1]
        return cls(loaded.id, loaded.hash, hidden, fingerprint(loaded.tokenizer), loaded.passport.n_parameters)


class Router:
    """Scores steps; `card` is everything that is known of it, `marks` are the problems that its labels came from."""

    def __init__(self, layers: Layers, card: Mapping[str, Any], marks: frozenset[int] = frozenset()) -> None:
        self.layers, self.card, self.marks = layers, card, marks
        self._k = int(card["top_k"])
        self._table: Tensor | None = None

    @classmethod
    def load(cls, folder: Path) -> Router:
        """Raises `WorkbenchError` for a folder without a router, or with one that is damaged."""
        card = read_card(folder)
        try:
            tensors = load_file(folder / WEIGHTS)
            layers = [(tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(int(card["depth"]) + 1)]
            router = cls(layers, card, frozenset(tensors["marks"].tolist()))
        except FileNotFoundError as error:
            raise WorkbenchError(f"{folder.name} has no {WEIGHTS}; train the router again.") from error
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise WorkbenchError(f"The router in {folder.name} is damaged ({_first_line(error)}); train it again.") from error
        router._check_shapes(folder.name)
        return router

    def save(self, folder: Path) -> None:
        tensors = {f"layers.{i}.{name}": t for i, pair in enumerate(self.layers) for name, t in zip(("weight", "bias"), pair, strict=True)}
        tensors["marks"] = torch.tensor(sorted(self.marks), dtype=torch.int64)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: t.contiguous().cpu() for name, t in tensors.items()}, folder / WEIGHTS)
        write_json(folder / CARD, self.card)

    @property
    def n_parameters(self) -> int:
        return sum(weight.numel() + bias.numel() for weight, bias in self.layers)

    def check_pair(self, small: LoadedModel, large: LoadedModel) -> None:
        """Make sure that this is the pair it was made for, and take up the small model's embeddings and device. `WorkbenchError` if not."""
        for role, loaded in (("small", small), ("large", large)):
            why = foreign(self.card["pair"][role], Member.of(loaded))
            if why:
                raise WorkbenchError(f"This router belongs to another pair: {role} must be {self.card['pair'][role]['id']}, {why}.", "options.router")
        self._table = small.model.get_input_embeddings().weight.detach()
        self.layers = [(weight.to(small.device), bias.to(small.device)) for weight, bias in self.layers]

    def score(self, logits: Tensor, hidden: Tensor, token_ids: Tensor) -> Tensor:
        """`(n,)` float32 probabilities for `logits` `(n, V)` float32, `hidden` `(n, d)` and the proposed `token_ids` `(n,)` int64, all on the small
        model's device. Raises `ValueError` before `check_pair`."""
        if self._table is None:
            raise ValueError("check_pair must come before score: the router uses the small model's embeddings.")
        with torch.inference_mode():
            return spoils(apply(self.layers, of_step(logits, hidden, token_ids, self._table, self._k)))

    def threshold(self, strategy: str, share: float) -> float:
        """The threshold of `strategy` (one of `STRATEGIES`) that sent `share` of the calibrate split's tokens to the large model."""
        table = self.card["thresholds"]
        return float(np.interp(share, table["share"], table[strategy]))

    def share(self, strategy: str, threshold: float) -> float:
        """The other way round: the share of large tokens that a threshold gave on the calibrate split."""
        table = self.card["thresholds"]
        return float(np.interp(threshold, table[strategy][::-1], table["share"][::-1]))

    def _check_shapes(self, name: str) -> None:
        width = self._k + MORE + 2 * int(self.card["pair"]["small"]["hidden_size"])
        for weight, bias in self.layers:
            if weight.ndim != 2 or weight.shape[0] != width or bias.shape != weight.shape[1:]:
                raise WorkbenchError(f"The router in {name} is damaged: its layers don't fit together; train it again.")
            if not (weight.isfinite().all() and bias.isfinite().all()):
                raise WorkbenchError(f"The router in {name} is damaged: it holds weights that are not numbers; train it again.")
            width = weight.shape[1]
        if width != HEADS:
            raise WorkbenchError(f"The router in {name} is damaged: it ends in {width} numbers instead of {HEADS}; train it again.")


def spoils(log_odds: Tensor) -> Tensor:
    """`(n,)`: the probability that the large model would differ and that it matters, from `(n, 2)` log-odds of both."""
    return torch.sigmoid(log_odds).prod(1)


def typical_scores(card: Mapping[str, Any], strategy: str) -> list[float]:
    """`TYPICAL` scores that lie as those of the calibrate split did, in an order without a drift; nothing for a strategy it has no table of."""
    table = card["thresholds"]
    if strategy not in table:
        return []
    scores = [float(np.interp((i + 0.5) / TYPICAL, table["share"], table[strategy])) for i in range(TYPICAL)]
    return scores[::2] + scores[1::2]


def read_card(folder: Path) -> dict[str, Any]:
    """The card; raises `WorkbenchError` when it is missing, no JSON, of another format, or lacks what loading needs."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WorkbenchError(f"{folder.name} holds no router: there is no {CARD}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WorkbenchError(f"The router's card in {folder.name} is damaged ({_first_line(error)}); train it again.") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise WorkbenchError(f"The router's card in {folder.name} has another format than this Loupe reads ({FORMAT}).")
    missing = [key for key in ("pair", "top_k", "depth", "thresholds") if key not in card]
    if missing:
        raise WorkbenchError(f"The router's card in {folder.name} is damaged: it lacks {', '.join(missing)}; train it again.")
    return card


def foreign(card: Mapping[str, Any], member: Member) -> str:
    """Why a model is not the one that the card names; empty when it is."""
    if card["fingerprint"] != member.fingerprint:
        return f"but {member.id} has other tokens"
    if card["hidden_size"] != member.hidden_size:
        return f"but {member.id} has hidden states of {member.hidden_size} numbers instead of {card['hidden_size']}"
    if card["hash"] != member.hash:
        return f"but the weights of {member.id} are others ({member.hash[:12]} instead of {str(card['hash'])[:12]})"
    return ""


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:120] or type(error).__name__
