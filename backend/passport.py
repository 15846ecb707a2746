"""What can be said of a model before its weights are loaded.

Goes in: a model's folder. Comes out: a `Passport` (frozen, JSON), its config, its tokenizer, a skeleton without memory; or a
`ModelError`. Config, tokenizer and safetensors headers are read, never the weights.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from backend.errors import ModelError
from backend.forward_call import capabilities, takes_dynamic_cache
from backend.model_files import MANIFEST, TOKENIZER_FILES, read_json

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
CAUSAL_DESPITE_FLAG = ("gpt_neox", "gpt_neox_japanese")  # is_decoder stands on False there and means nothing
CONFIG_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError)


@dataclass(frozen=True)
class Passport:
    """A model in figures. `methods` maps a method to "yes" or to the reason why it can't run with this model."""

    id: str
    origin: str
    hash: str | None
    model_type: str
    n_parameters: int
    memory_bytes: Mapping[str, int]
    n_layers: int | None
    n_heads: int | None
    hidden_size: int | None
    vocab_size: int
    context_length: int | None
    tokenizer_class: str
    tokenizer_size: int
    chat_template: bool
    stop_tokens: tuple[tuple[int, str], ...]
    cache: str
    rollback: str
    licence: str | None
    methods: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def load_config(model_id: str, folder: Path) -> Any:
    """The config of a causal language model; raises `ModelError` for one that can't be read or is of another kind."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except CONFIG_ERRORS as error:
        why = _first_line(error)
        raise ModelError(f"{model_id}: its config.json can't be used ({why}); choose another model, or repair the file.") from error
    if not is_causal(config):
        kind = (config.architectures or [config.model_type])[0]
        raise ModelError(f"{model_id} is not a causal language model ({kind}); choose one that continues text, such as smollm2.")
    return config


def is_causal(config: Any) -> bool:
    """Whether the library can load it as a left-to-right model, and it was made as one."""
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or getattr(config, "is_encoder_decoder", False):
        return False
    if getattr(config, "is_decoder", None) is False and config.model_type not in CAUSAL_DESPITE_FLAG:
        return False
    causal = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    return not config.architectures or any(name in causal for name in config.architectures)


def load_tokenizer(model_id: str, folder: Path) -> Any:
    """The tokenizer of `folder`; raises `ModelError` when there is none or its files are broken."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(f"{model_id}: {folder} has no tokenizer; copy tokenizer.json and tokenizer_config.json of the model into it.")
    try:
        file = folder / "tokenizer.json"
        if file.is_file():
            json.loads(file.read_text(encoding="utf-8"))  # the Rust reader raises a bare Exception for a broken file
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except CONFIG_ERRORS as error:
        raise ModelError(f"{model_id}: its tokenizer can't be read ({_first_line(error)}); download the model again.") from error


def skeleton(model_id: str, config: Any) -> PreTrainedModel:
    """The model's modules on the meta device: shapes and classes, no memory."""
    try:
        with init_empty_weights():
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        model.tie_weights()  # moving to the meta device cut the ties, and tied parameters would count twice
        return model
    except CONFIG_ERRORS as error:
        raise ModelError(f"{model_id}: transformers can't build it ({_first_line(error)}); choose another model.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:160] or type(error).__name__


def count_parameters(model: PreTrainedModel) -> int:
    """Parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())


def logit_width(model: PreTrainedModel) -> int:
    """Columns of the logits; may be more than the tokenizer has ids (padding)."""
    return model.get_output_embeddings().weight.shape[0]


def stop_ids(folder: Path, config: Any, tokenizer: Any, width: int) -> tuple[int, ...]:
    """Every id that ends an answer: of the generation config, the config and the tokenizer, in that order, below `width`."""
    found: list[int] = []
    told = read_json(folder / "generation_config.json").get("eos_token_id")
    text = config.get_text_config(decoder=True)
    for eos in (told, getattr(config, "eos_token_id", None), getattr(text, "eos_token_id", None), tokenizer.eos_token_id):
        found += eos if isinstance(eos, (list, tuple)) else [eos]
    return tuple(dict.fromkeys(i for i in found if isinstance(i, int) and 0 <= i < width))


def make_passport(model_id: str, origin: str, folder: Path, digest: str | None, model: PreTrainedModel, tokenizer: Any) -> Passport:
    """The passport of the model in `folder`; a skeleton does for `model`. `digest`: the hash of its weights, if they are there."""
    config = model.config
    text, n_parameters, width = config.get_text_config(decoder=True), count_parameters(model), logit_width(model)
    return Passport(
        id=model_id,
        origin=origin,
        hash=digest,
        model_type=config.model_type,
        n_parameters=n_parameters,
        memory_bytes={name: size * n_parameters for name, size in BYTES.items()},
        n_layers=getattr(text, "num_hidden_layers", None),
        n_heads=getattr(text, "num_attention_heads", None),
        hidden_size=getattr(text, "hidden_size", None),
        vocab_size=width,
        context_length=getattr(text, "max_position_embeddings", None),
        tokenizer_class=type(tokenizer).__name__,
        tokenizer_size=len(tokenizer),
        chat_template=bool(tokenizer.chat_template),
        stop_tokens=tuple((i, tokenizer.convert_ids_to_tokens(i) or "") for i in stop_ids(folder, config, tokenizer, width)),
        cache=cache_kind(model),
        rollback=rollback(model),
        licence=licence(folder),
        methods={"structured": structured(model, tokenizer)},
    )


def cache_kind(model: PreTrainedModel) -> str:
    """What the layers keep of the past, in words: `full`, `sliding (8 tokens)`, `12 full, 4 linear_attention`, `own`."""
    text = model.config.get_text_config(decoder=True)
    if not takes_dynamic_cache(model):
        return "own"
    window = getattr(text, "sliding_window", None)
    types = getattr(text, "layer_types", None)
    if types is None:
        if not capabilities(model).rollback:
            return "recurrent"
        types = ["sliding_attention" if window else "full_attention"] * (getattr(text, "num_hidden_layers", None) or 1)
    counts = Counter(kind.removesuffix("_attention") for kind in types)
    words = {kind: f"{kind} ({window} tokens)" if kind == "sliding" and window else kind for kind in counts}
    return words[next(iter(counts))] if len(counts) == 1 else ", ".join(f"{n} {words[kind]}" for kind, n in counts.items())


def rollback(model: PreTrainedModel) -> str:
    """"yes", or why tokens can't be taken back from its cache."""
    if not takes_dynamic_cache(model):
        return "no: it keeps its state in a form of its own, every step is computed anew"
    if not capabilities(model).rollback:
        return "no: it folds all tokens it has read into one state, without a way to take one out again"
    return "yes"


def structured(model: PreTrainedModel, tokenizer: Any) -> str:
    """Whether a grammar can hold its hand: that needs to know each id's bytes, and a cache that one can hand back."""
    if not takes_dynamic_cache(model):
        return "no: its cache can't be kept from call to call"
    if not getattr(tokenizer, "is_fast", False) and not hasattr(tokenizer, "sp_model"):
        return "no: its tokenizer does not tell the bytes of its tokens"
    return "yes"


def licence(folder: Path) -> str | None:
    """The licence that the manifest or the head of the model card names."""
    said = read_json(folder / MANIFEST).get("license")
    if isinstance(said, str):
        return said
    card = folder / "README.md"
    if not card.is_file():
        return None
    head = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    found = re.search(r"^license:\s*[\"']?([^\s\"']+)", head[1], re.MULTILINE) if head else None
    return found[1] if found else None
