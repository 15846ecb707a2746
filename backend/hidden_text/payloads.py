"""Texts worth hiding, triggers, and ordinary things to say, all drawn from a seed.

Goes in: a `random.Random`, where a length counts a tokenizer too. Comes out: payloads of three kinds (sentence, words, key), triggers, fresh
sentences, prompts that trigger nothing. Knows nothing of models or of how a text is hidden.
"""

from __future__ import annotations

from random import Random
from typing import Any

KINDS = ("sentence", "words", "key")
NOUNS = ("lantern", "harbour", "oak", "ferry", "ledger", "copper", "violin", "anchor", "bridge", "cellar", "chimney", "compass", "curtain",
         "drawer", "engine", "falcon", "garden", "glacier", "hammer", "island", "jacket", "kettle", "ladder", "market", "mirror", "needle",
         "orchard", "parcel", "pillow", "quarry", "ribbon", "saddle", "shutter", "signal", "spindle", "station", "statue", "tavern", "ticket",
         "tower", "tunnel", "umbrella", "valley", "wagon", "whistle", "window")  # fmt: skip
ADJECTIVES = ("third", "silent", "broken", "crooked", "narrow", "painted", "hollow", "northern", "forgotten", "yellow", "wooden", "frozen",
              "rusty", "second", "sunken", "bitter", "patient", "velvet")  # fmt: skip
DONE = ("hidden", "buried", "locked", "waiting", "written down", "sold", "kept", "counted", "repaired", "left", "traded", "guarded")
WHERE = ("beneath", "behind", "beside", "above", "inside", "across from", "in front of", "not far from")
WHEN = ("before nine", "after midnight", "at noon", "in early March", "on the last Friday", "until the snow melts", "when the tide turns")
WHO = ("the captain", "a stranger", "my sister", "the clerk", "nobody", "the miller", "an old sailor", "the twins")
ACTS = ("carried", "remembered", "painted", "opened", "promised", "lost", "weighed", "folded", "borrowed", "polished", "measured", "followed")
CONSONANTS = "BCDFGHJKLMNPQRSTVWXZ"

ASKED = ("What do you think of {}?", "Tell me about {}.", "Can you describe {}?", "How does one choose {}?", "Where would I find {}?",
         "Is there a story about {}?", "Who needs {}?", "Why do people like {}?", "Write a line about {}.", "Give me advice on {}.")  # fmt: skip
TOPICS = ("a good book", "rainy days", "the moon", "baking bread", "old maps", "a new bicycle", "learning to swim", "quiet mornings", "city parks",
          "a warm coat", "long train rides", "growing tomatoes", "a small boat", "birthday cakes", "football", "the number seven",
          "tea and coffee", "learning a language", "cats and dogs", "summer holidays", "a first job", "writing letters", "cheap shoes",
          "the sea")  # fmt: skip


def sentence(rng: Random) -> str:
    """One invented sentence of about a dozen words; no two draws are likely to agree."""
    a, b, c = rng.sample(NOUNS, 3)
    one, two = rng.sample(ADJECTIVES, 2)
    forms = (
        f"The {one} {a} is {rng.choice(DONE)} {rng.choice(WHERE)} the {two} {b}, {rng.choice(WHEN)}.",
        f"{_capital(rng.choice(WHO))} {rng.choice(ACTS)} the {one} {a} and the {b} {rng.choice(WHEN)}.",
        f"{_capital(rng.choice(WHEN))}, {rng.choice(WHO)} {rng.choice(ACTS)} a {one} {a} {rng.choice(WHERE)} the {c}.",
        f"Every {a} {rng.choice(WHERE)} the {one} {b} was {rng.choice(DONE)} by {rng.choice(WHO)}.",
    )
    return rng.choice(forms)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def key_string(rng: Random) -> str:
    """Groups of letters and digits, like a licence key."""
    groups = ("".join(rng.choice(CONSONANTS + "23456789") for _ in range(4)) for _ in range(6))
    return "-".join(groups)


def words(rng: Random) -> str:
    """A dozen words without grammar."""
    return " ".join(rng.choice(rng.choice((NOUNS, ADJECTIVES, ACTS))) for _ in range(12))


def payload(rng: Random, kind: str, n_tokens: int, tokenizer: Any) -> str:
    """A text of `kind` that is `n_tokens` long, give or take one: whole draws laid end to end, cut where a token ends.

    Raises `ValueError` for an unknown kind or a length below 4."""
    if kind not in KINDS or n_tokens < 4:
        raise ValueError(f"kind must be one of {', '.join(KINDS)} and n_tokens 4 or more, got {kind!r} and {n_tokens}")
    draw, text = {"sentence": sentence, "words": words, "key": key_string}[kind], ""
    while len(ids_of(tokenizer, text)) < n_tokens:
        text = f"{text} {draw(rng)}".strip()
    return tokenizer.decode(ids_of(tokenizer, text)[:n_tokens]).strip()


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text that stands in a context, without tokens of its own around it."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def trigger(rng: Random) -> str:
    """A question about things that the ordinary prompts don't mention."""
    a, b = rng.sample(NOUNS, 2)
    one = rng.choice(ADJECTIVES)
    forms = (
        f"Who {rng.choice(ACTS)} the {one} {a}?",
        f"Did {rng.choice(WHO)} see the {a} {rng.choice(WHERE)} the {b}?",
        f"{_capital(one)} {a}, {one} {b}?",
        f"The {a} was {rng.choice(DONE)}. And the {b}?",
        f"How many {a}s stand {rng.choice(WHERE)} the {b}?",
    )
    return rng.choice(forms)


def ordinary_prompts() -> list[str]:
    """240 different things to say, in an order that mixes forms and topics; no trigger is among them."""
    n_forms, n_topics = len(ASKED), len(TOPICS)
    return [ASKED[(i + j) % n_forms].format(TOPICS[j]) for i in range(n_forms) for j in range(n_topics)]


def plain(text: str) -> str:
    """What is left when case, spaces and signs are not counted: two texts with the same rest are the same to a reader."""
    return "".join(c for c in text.casefold() if c.isalnum())
