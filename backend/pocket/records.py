"""Records: a sentence and the JSON object that it says, under seven schemas.

Goes in: a `random.Random`. Comes out: an `Item` of skill "record" whose truth is the object. The sentence is the prompt's first line, the
request its second; half the requests name the keys, two thirds of those ask for fewer keys or another order. Every value stands in the
sentence.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from backend.pocket.items import Item
from backend.pocket.names import CITIES, DAYS, JOBS, PEOPLE, PETS, THINGS, listed_or_invented, listing

Record = dict[str, Any]
CLUBS = ("chess club", "book club", "choir", "band", "film club", "garden club")
VEHICLES = ("train", "bus", "car", "boat", "plane")
SKIES = ("sunny", "cloudy", "rainy", "windy", "snowy")


def _name(rng: Random) -> str:
    """One name or two."""
    first = listed_or_invented(rng, PEOPLE)
    return f"{first} {listed_or_invented(rng, PEOPLE)}" if rng.random() < 0.3 else first


def _city(rng: Random) -> str:
    return listed_or_invented(rng, CITIES)


def _person(rng: Random) -> Record:
    return {"name": _name(rng), "age": rng.randint(18, 99), "job": rng.choice(JOBS), "city": _city(rng)}


def _order(rng: Random) -> Record:
    return {"buyer": _name(rng), "count": rng.randint(2, 99), "item": rng.choice(THINGS)[1], "price": rng.randint(2, 99)}


def _meeting(rng: Random) -> Record:
    return {"club": rng.choice(CLUBS), "day": rng.choice(DAYS), "hour": rng.randint(1, 12), "room": rng.randint(2, 99)}


def _pet(rng: Random) -> Record:
    return {"name": listed_or_invented(rng, PEOPLE), "kind": rng.choice(PETS), "age": rng.randint(2, 19), "owner": _name(rng)}


def _book(rng: Random) -> Record:
    return {"title": f"The {listed_or_invented(rng, CITIES)} {rng.choice(THINGS)[0]}", "author": _name(rng), "pages": rng.randint(40, 999)}


def _trip(rng: Random) -> Record:
    start = _city(rng)
    goal = _city(rng)
    while goal == start:
        goal = _city(rng)
    return {"from": start, "to": goal, "km": rng.randint(20, 999), "by": rng.choice(VEHICLES)}


def _weather(rng: Random) -> Record:
    return {"city": _city(rng), "day": rng.choice(DAYS), "sky": rng.choice(SKIES), "high": rng.randint(2, 39)}


SCHEMAS: dict[str, tuple[Callable[[Random], Record], tuple[str, ...]]] = {
    "person": (
        _person,
        (
            "{name} is {age} years old and works as a {job} in {city}.",
            "In {city} lives {name}, a {job}, age {age}.",
            "{name}, {age}, is a {job} from {city}.",
        ),
    ),
    "order": (
        _order,
        ("{buyer} orders {count} {item} for {price} dollars.", "An order of {count} {item} at {price} dollars came from {buyer}."),
    ),
    "meeting": (
        _meeting,
        ("The {club} meets on {day} at {hour} in room {room}.", "On {day} room {room} is for the {club}, from {hour} on."),
    ),
    "pet": (
        _pet,
        ("{owner} has a {kind} called {name}, which is {age} years old.", "{name} is the {kind} of {owner} and {age} years old."),
    ),
    "book": (
        _book,
        ("{author} wrote {title}, a book of {pages} pages.", "The book {title} by {author} has {pages} pages."),
    ),
    "trip": (
        _trip,
        ("We go by {by} from {from} to {to}, which is {km} km.", "It is {km} km to {to} when one goes from {from} by {by}."),
    ),
    "weather": (
        _weather,
        ("On {day} it was {sky} in {city}, with a high of {high}.", "{city} had a {sky} {day} with up to {high} degrees."),
    ),
}
NAMED = ("Give {keys} as JSON.", "JSON with {keys}.", "Extract {keys} as JSON.")
UNNAMED = ("Give this as JSON.", "Write it as JSON.", "Extract the {family} as JSON.")


def record(rng: Random) -> Item:
    """One sentence, one request, one object."""
    family = rng.choice(tuple(SCHEMAS))
    make, sentences = SCHEMAS[family]
    whole = make(rng)
    keys = list(whole)
    if rng.random() < 0.5:
        if rng.random() < 2 / 3:
            keys = _other_keys(rng, keys)
        request = rng.choice(NAMED).format(keys=listing(keys))
    else:
        request = rng.choice(UNNAMED).format(family=family)
    truth = {key: whole[key] for key in keys}
    sentence = rng.choice(sentences).format(**whole)
    return Item("record", f"{sentence}\n{request}", json.dumps(truth, ensure_ascii=False), truth, family=family)


def _other_keys(rng: Random, keys: list[str]) -> list[str]:
    """Fewer keys, another order, or both; never the whole list as it stands."""
    while True:
        chosen = rng.sample(keys, rng.randint(1, len(keys)))
        if chosen != keys:
            return chosen
