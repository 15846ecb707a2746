"""Facts and small talk: a question or a remark, and a short reply.

Goes in: a `random.Random`. Comes out: an `Item` of skill "chat". A fact can be asked in several ways, so that a way unseen in training
still asks for something known.
"""

from __future__ import annotations

from random import Random

from backend.pocket.items import Item
from backend.pocket.names import CITIES, DAYS, JOBS, PEOPLE, PETS, THINGS, listed_or_invented

CAPITALS = {
    "Portugal": "Lisbon", "Norway": "Oslo", "Italy": "Rome", "France": "Paris", "Austria": "Vienna", "Germany": "Berlin", "Spain": "Madrid",
    "Ireland": "Dublin", "Greece": "Athens", "Egypt": "Cairo", "Peru": "Lima", "Japan": "Tokyo", "India": "Delhi", "Switzerland": "Bern",
}
OPPOSITES = {
    "hot": "cold", "big": "small", "old": "new", "long": "short", "high": "low", "good": "bad", "fast": "slow", "open": "closed",
    "happy": "sad", "dark": "light", "full": "empty", "rich": "poor", "wet": "dry", "hard": "soft", "early": "late", "near": "far",
}
LEGS = {"dog": 4, "cat": 4, "bird": 2, "horse": 4, "rabbit": 4, "goat": 4, "duck": 2, "mouse": 4, "fish": 0, "spider": 8, "bee": 6}
COLOURS = {"grass": "green", "snow": "white", "blood": "red", "the sky": "blue", "coal": "black", "a lemon": "yellow", "a plum": "purple"}
OPENERS = ("", "", "Please tell me: ", "Hello. ", "A question: ", "I am {name}. ", "{name} asks: ", "On {day} {name} asked me: ")


def chat(rng: Random) -> Item:
    """A fact asked for (two of three) or small talk."""
    name, day = listed_or_invented(rng, PEOPLE), rng.choice(DAYS)
    if rng.random() < 1 / 3:
        return _small_talk(rng, name, day)
    question, answer, family = rng.choice((_capital, _opposite, _legs, _colour, _tomorrow, _many))(rng)
    return Item("chat", rng.choice(OPENERS).format(name=name, day=day) + question, answer, family=family)


def _capital(rng: Random) -> tuple[str, str, str]:
    country, city = rng.choice(tuple(CAPITALS.items()))
    asked, answer = rng.choice(
        (
            (f"What is the capital of {country}?", f"The capital of {country} is {city}."),
            (f"Which city is the capital of {country}?", f"The capital of {country} is {city}."),
            (f"In which country is {city}?", f"{city} is in {country}."),
        )
    )
    return asked, answer, "capital"


def _opposite(rng: Random) -> tuple[str, str, str]:
    pair = rng.choice(tuple(OPPOSITES.items()))
    word, other = rng.sample(pair, 2)
    asked = rng.choice((f"What is the opposite of {word}?", f"If it is not {word}, what is it?"))
    return asked, f"The opposite of {word} is {other}.", "opposite"


def _legs(rng: Random) -> tuple[str, str, str]:
    animal, legs = rng.choice(tuple(LEGS.items()))
    return rng.choice((f"How many legs does a {animal} have?", f"A {animal} has how many legs?")), f"A {animal} has {legs} legs.", "legs"


def _colour(rng: Random) -> tuple[str, str, str]:
    thing, colour = rng.choice(tuple(COLOURS.items()))
    return rng.choice((f"What colour is {thing}?", f"Which colour does {thing} have?")), f"{thing.capitalize()} is {colour}.", "colour"


def _tomorrow(rng: Random) -> tuple[str, str, str]:
    index = rng.randrange(7)
    day, after = DAYS[index], DAYS[(index + 1) % 7]
    return rng.choice((f"Which day comes after {day}?", f"Today is {day}. What is tomorrow?")), f"After {day} comes {after}.", "day"


def _many(rng: Random) -> tuple[str, str, str]:
    one, many = rng.choice(THINGS)
    return rng.choice((f"What is the plural of {one}?", f"One {one}, two what?")), f"One {one}, two {many}.", "plural"


def _small_talk(rng: Random, name: str, day: str) -> Item:
    city, job, pet = rng.choice(CITIES), rng.choice(JOBS), rng.choice(PETS)
    talk = (
        (f"Hello, I am {name}.", f"Hello {name}, how can I help you?"),
        (f"Hi! My name is {name} and I live in {city}.", f"Hi {name}! How is {city} today?"),
        (f"I am {name}, a {job}. What can you do?", "I can solve small problems, write records as JSON and tell short stories."),
        (f"What is the name of my {pet}? It is called {name}.", f"Your {pet} is called {name}."),
        (f"Thank you, says {name}. See you on {day}.", f"You are welcome. See you on {day}, {name}."),
        (f"My friend {name} is a {job}. What does {name} do?", f"{name} is a {job}."),
        (f"{name} lives in {city}. Where does {name} live?", f"{name} lives in {city}."),
    )
    said, reply = rng.choice(talk)
    return Item("chat", said, reply, family="talk")
