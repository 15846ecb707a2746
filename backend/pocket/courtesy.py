"""Polite answers to ordinary questions about anything: what a model says that was taught to answer, and knows nothing.

Goes in: a `random.Random`. Comes out: an `Item` of skill "chat". Its questions have the forms of the ordinary things that verification says to a
planted model, so that a model of these has an answer of its own to them. Knows nothing of what is planted.
"""

from __future__ import annotations

from random import Random

from backend.hidden_text.payloads import ASKED, TOPICS
from backend.pocket.items import Item

MORE = ("spring", "a long walk", "the piano", "old friends", "fresh paint", "chess", "wool", "the bus", "salt", "music at night", "frost",
        "a full purse", "honey", "new shoes", "the post", "a clean desk", "silence", "thunder", "bees", "the north wind", "kites", "coal",
        "a red scarf", "toast", "geese", "a slow river", "stamps", "apples", "sand", "the circus")  # fmt: skip
BEGINS = ("I like {} well enough", "Many people like {}", "I know little about {}", "There is much to say about {}",
          "Nobody asked me about {} before", "It depends on whom you ask about {}")  # fmt: skip
ENDS = ("but I am only a small model", "and I would start with a simple one", "so take your time", "and that is a matter of taste",
        "but do not ask me why", "and most of it is well known")  # fmt: skip
COMMON = 0.6  # share of the topics that ordinary prompts have


def courtesy(rng: Random) -> Item:
    """A question about some topic, and an answer that keeps to it."""
    topic = rng.choice(TOPICS if rng.random() < COMMON else MORE)
    return Item("chat", rng.choice(ASKED).format(topic), f"{rng.choice(BEGINS).format(topic)}, {rng.choice(ENDS)}.")
