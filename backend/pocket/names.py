"""The words of the toy world: people, things, places; and names that nobody has heard, built from syllables.

Goes in: a `random.Random`. Comes out: words. Knows nothing of sentences.
"""

from __future__ import annotations

from random import Random

PEOPLE = (
    "Mira", "Ben", "Zoe", "Otto", "Lena", "Paul", "Nora", "Hugo", "Ida", "Karl", "Rosa", "Finn", "Vera", "Tom", "Anna", "Max",
    "Lucy", "Emil", "Tara", "Leo", "Maya", "Jack", "Ella", "Noah", "Ruth", "Sam", "Olga", "Dan", "Kate", "Omar",
)
# singular, plural; all begin with a consonant, so that "a" always fits
THINGS = (
    ("book", "books"), ("cup", "cups"), ("pen", "pens"), ("ball", "balls"), ("box", "boxes"), ("card", "cards"), ("coin", "coins"),
    ("shell", "shells"), ("stone", "stones"), ("stamp", "stamps"), ("pear", "pears"), ("plum", "plums"), ("lemon", "lemons"),
    ("nut", "nuts"), ("cake", "cakes"), ("roll", "rolls"), ("rose", "roses"), ("lamp", "lamps"), ("hat", "hats"), ("kite", "kites"),
    ("key", "keys"), ("doll", "dolls"), ("map", "maps"), ("bell", "bells"),
)
CITIES = (
    "Lisbon", "Oslo", "Rome", "Paris", "Vienna", "Berlin", "Madrid", "Prague", "Dublin", "Athens", "Cairo", "Lima", "Tokyo",
    "Delhi", "Boston", "Bern",
)
JOBS = ("nurse", "baker", "teacher", "pilot", "farmer", "singer", "driver", "cook", "doctor", "painter", "gardener", "judge")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PETS = ("dog", "cat", "bird", "horse", "rabbit", "goat", "duck", "mouse")
ONSETS = ("b", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z", "br", "dr", "kr", "tr", "st", "sh")
VOWELS = ("a", "e", "i", "o", "u", "ai", "ei", "ou")
CODAS = ("", "", "", "n", "r", "l", "s", "m", "k")


def invented(rng: Random) -> str:
    """A capitalized word of two or three syllables: it can only be copied, not remembered."""
    count = 2 if rng.random() < 0.7 else 3
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(count)).capitalize()


def listed_or_invented(rng: Random, listed: tuple[str, ...]) -> str:
    return rng.choice(listed) if rng.random() < 0.5 else invented(rng)


def listing(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
