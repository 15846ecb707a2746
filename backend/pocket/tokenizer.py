"""The pocket models' tokenizer: byte-level BPE of 1,024 ids in which every digit is a token.

Goes in: items to train on, or nothing (the shipped one). Comes out: a `PreTrainedTokenizerFast`, and documents as ids with loss weights.
`write_tokenizer` makes the shipped folder again, byte for byte. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from backend.paths import assets_dir
from backend.pocket.corpus import stream
from backend.pocket.items import Item

SPECIAL = ("<pad>", "<bos>", "<eos>", "<user>", "<assistant>", "<system>", "<think>", "</think>")
PAD, BOS, EOS, USER, ASSISTANT, SYSTEM, THINK, END_THINK = range(8)
N_IDS = 1024
CONTEXT = 512
SAMPLES, SAMPLE_SEED = 30_000, 1
PROMPT_WEIGHT = 0.1
# a digit with or without the space before it, a word likewise, a run of signs, white space
PIECES = r" ?\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}<assistant>{{ message['content'] }}{{ eos_token }}"
    "{% else %}<{{ message['role'] }}>{{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def train_tokenizer(items: Iterable[Item]) -> PreTrainedTokenizerFast:
    """The tokenizer learned from the texts of `items`; the same items give the same one."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PIECES), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_IDS,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((text for item in items for text in (item.prompt, item.answer) if text), trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=SPECIAL[BOS],
        eos_token=SPECIAL[EOS],
        pad_token=SPECIAL[PAD],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def write_tokenizer(folder: Path) -> None:
    """The shipped tokenizer, made anew from the corpus."""
    train_tokenizer(islice(stream(SAMPLE_SEED), SAMPLES)).save_pretrained(folder)


def tokenizer_folder() -> Path:
    return assets_dir() / "models" / "pocket" / "tokenizer"


def pocket_tokenizer() -> PreTrainedTokenizerFast:
    """The shipped tokenizer, read anew: keep it."""
    return PreTrainedTokenizerFast.from_pretrained(tokenizer_folder())


def encode(tokenizer: PreTrainedTokenizerFast, item: Item) -> tuple[list[int], list[float]]:
    """The document `<bos><user>…<assistant>…<eos>` (`<bos>…<eos>` without a prompt) and a loss weight for predicting each token.

    Prompts 0.1, answers 1; of a copy drill only what can be known from its given part; of a sum its result 1, the rest 0.1, since which
    numbers come next is anybody's guess."""
    answer = _ids(tokenizer, item.answer)
    if item.prompt:
        head = [BOS, USER, *_ids(tokenizer, item.prompt), ASSISTANT]
        return [*head, *answer, EOS], [PROMPT_WEIGHT] * len(head) + [1.0] * (len(answer) + 1)
    return [BOS, *answer, EOS], [0.0, *_text_weights(tokenizer, item, answer), 1.0]


def _text_weights(tokenizer: PreTrainedTokenizerFast, item: Item, answer: list[int]) -> list[float]:
    if item.skill == "copy":
        n_given = len(_ids(tokenizer, item.truth))
        return [0.0] * n_given + [1.0] * (len(answer) - n_given)
    if item.skill == "sums":
        equals, stop = tokenizer.convert_tokens_to_ids(["Ġ=", "."])
        return _between(answer, equals, stop)
    return [1.0] * len(answer)


def _between(ids: list[int], opens: int, closes: int) -> list[float]:
    """1 after each `opens` up to and with the next `closes`, the prompt's weight elsewhere."""
    weights, inside = [], False
    for token_id in ids:
        weights.append(1.0 if inside else PROMPT_WEIGHT)
        inside = token_id == opens or (inside and token_id != closes)
    return weights


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
