"""Tiny pairs that share 61 tokens, as the workbench would hand them to a routed run.

Goes in: names of families. Comes out: handles and requests. Knows nothing of the code under test.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from backend.pairs import compare, loaded_side
from backend.resources import Resources
from backend.routing.costs import Costs
from backend.routing.generate import generate
from backend.types import Done, Finding, Prompt, RunContext, RunRequest, SamplingParams, Token
from tests.families import SHAPE, VOCAB, build

COSTS = Costs((1, 2, 4), (10.0, 11.0, 13.0))
STOP = 2


def word_tokenizer(renamed: int | None = None) -> PreTrainedTokenizerFast:
    """`w0` to `w60`, one id each, `renamed` under another name; a name that begins another (`w1`, `w10`) is never a special token, which
    would be cut out of it."""
    tokenizer = Tokenizer(models.WordLevel({"other" if i == renamed else word(i): i for i in range(VOCAB)}, unk_token=word(0)))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=word(0), bos_token=word(1), eos_token=word(2))


def word(token_id: int) -> str:
    return {0: "<unk>", 1: "<s>", 2: "</s>"}.get(token_id, f"w{token_id}")


def handle(family: str, seed: int = 0, stop_ids: tuple[int, ...] = (STOP,), model: object = None) -> SimpleNamespace:
    """What a method reads of a loaded model."""
    model = model or build(family, seed=seed)
    return SimpleNamespace(
        id=f"{family}-{seed}", hash=f"{family}{seed}", model=model, tokenizer=word_tokenizer(), device=torch.device("cpu"), dtype=torch.float32,
        vocab_size=model.get_output_embeddings().weight.shape[0], stop_ids=stop_ids, resources=Resources(),
    )  # fmt: skip


def pair(small: str = "llama", large: str = "qwen3", stop_ids: tuple[int, ...] = (STOP,)) -> dict[str, SimpleNamespace]:
    return {"small": handle(small, 1, stop_ids), "large": handle(large, 2, stop_ids)}


def long_llama(seed: int, layers: int, rows: int = VOCAB, positions: int = 2048) -> LlamaForCausalLM:
    """A Llama for long answers, or with more rows than there are tokens."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**SHAPE | {"num_hidden_layers": layers, "max_position_embeddings": positions, "vocab_size": rows})).eval()


def request(strategy: str = "entropy", n: int = 40, temperature: float = 0.0, seed: int = 3, prefix: tuple[int, ...] = (), text: str = "w5 w9 w11",
            **options: object) -> RunRequest:  # fmt: skip
    sampling = SamplingParams(temperature=temperature, top_p=0.95, top_k=30, max_new_tokens=n, seed=seed)
    models = {"small": "s", "large": "l"}
    return RunRequest("routing", Prompt.user(text, template="raw"), models, sampling, {"strategy": strategy, **options}, prefix)


def events(models: dict, asked: RunRequest, context: RunContext | None = None, router: object = None) -> list:
    report = compare(loaded_side(models["small"]), loaded_side(models["large"]))
    assert report.compatible, report.sentence
    return list(generate(asked, context or RunContext(), models, report, router, COSTS))


def tokens(found: list) -> list[Token]:
    return [e for e in found if isinstance(e, Token)]


def ids(found: list) -> list[int]:
    return [t.id for t in tokens(found)]


def opinions(found: list) -> list[dict]:
    return [e.data for e in found if isinstance(e, Finding) and e.kind == "opinion"]


def done(found: list) -> Done:
    assert isinstance(found[-1], Done)
    return found[-1]
