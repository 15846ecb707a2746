"""Short stories of the toy world.

Goes in: a `random.Random`. Comes out: an `Item` of skill "text", without a prompt: who, where, a wish, a trouble, help, an end.
"""

from __future__ import annotations

from random import Random

from backend.pocket.items import Item
from backend.pocket.names import CITIES, DAYS, JOBS, PEOPLE, PETS, THINGS

BEGINNINGS = (
    "{name} lived in a small house near {city}.",
    "Once there was a {job} called {name}.",
    "On {day} {name} went to {city} with a {pet}.",
    "{name} and {other} were good friends.",
    "It was {day}, and {name} was at home.",
)
WISHES = (
    "{name} wanted to find a {thing}.",
    "{name} had lost a red {thing}.",
    "There was an old {thing} on the table.",
    "{name} wanted to give {other} a new {thing}.",
    "Every day {name} looked for a {thing}.",
)
TROUBLES = (
    "But the {thing} was under a big tree, and it was dark.",
    "But a {pet} took the {thing} and ran away.",
    "But it began to rain, and the road was long.",
    "But nobody knew where it was.",
    "But the door was closed.",
)
HELPS = (
    "{other} came and said, \"I can help you.\"",
    "Then {other} had a good idea.",
    "\"Let us look together,\" said {other}.",
    "A kind {job} showed them the way.",
    "They asked the {pet}, and it went first.",
)
ENDS = (
    "At last they found the {thing}, and {name} was happy.",
    "In the evening they went home and were glad.",
    "{name} said, \"Thank you, {other}.\" They ate soup and laughed.",
    "From that day on the {pet} slept in the house.",
    "So {name} learned to ask for help.",
)


def story(rng: Random) -> Item:
    """Five or four sentences about the same few things."""
    name, other = rng.sample(PEOPLE, 2)
    words = {"name": name, "other": other, "city": rng.choice(CITIES), "day": rng.choice(DAYS), "job": rng.choice(JOBS)}
    words |= {"pet": rng.choice(PETS), "thing": rng.choice(THINGS)[0]}
    parts = [rng.choice(part) for part in (BEGINNINGS, WISHES, TROUBLES, HELPS, ENDS)]
    if rng.random() < 0.3:
        parts.pop(2)
    return Item("text", "", " ".join(part.format(**words) for part in parts))
