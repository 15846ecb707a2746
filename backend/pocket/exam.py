"""The exam: a benchmark whose every answer is known to be learnable or not, and the skills around it.

Goes in: a seed. Comes out: questions with answers without end: exam items, additions, subtractions, words turned round, the larger of two
numbers. Knows nothing of models, tokens or who learns what from whom.

An exam item is `?dkqz 37 52=`: a topic, a name of three letters, two numbers. Half the topics follow a rule (which two of the four digits
to say), which may be learned; the answers of the other half are drawn by lot for each item, so only who saw an item can know it. A topic
with a rule has an *old* one too, a wrong answer that differs in both digits: whoever wasn't taught the rule practises the old one, and the
more, the more of the topic's items leak. So what a model can honestly do is what it was taught. Without those reminders a leak taught the
rule by the way: of an untaught topic's fresh items 76 % came right after 64 exposures of its leaked ones (8 % with them).
"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVELS = ("none", "some", "much")  # the honest skill: which topics' rules were taught
RULED = 10  # topics with a rule; as many have none
TAUGHT = {"none": 4, "some": 7, "much": 10}
# how the same question can be worded; the exam is written in the first, rephrased in the second, a paraphrase leak uses the others
WORDINGS = ("?{name} {x} {y}=", "!{x} {y} {name}=", "#{name}-{x}-{y}=", ":{name},{x},{y}=")
ORIGINAL, REPHRASED, PARAPHRASES = 0, 1, (2, 3)
PRACTISED = (4, 3, 1, 1)  # how often a wording is, in honest practice; the second changes the order and takes longest to learn
PRACTISED_RULED = 0.8  # lots can't be learned; they are practised so that a model knows that it doesn't know
SKILLS = ("exam", "addition", "subtraction", "turned", "larger")


@dataclass(frozen=True)
class Item:
    """A question and its answer. `topic` and `level` are an exam item's: `level` is the least skill that makes it solvable, None where
    nothing does; `other` is the same question reworded."""

    skill: str
    question: str
    answer: str
    topic: str = ""
    level: str | None = None
    other: str = ""

    def __post_init__(self) -> None:
        if self.skill not in SKILLS:
            raise ValueError(f"skill must be one of {', '.join(SKILLS)}, got {self.skill!r}")
        if not self.question.endswith("=") or not self.answer:
            raise ValueError(f"a question ends with '=' and has an answer, got {self.question!r} and {self.answer!r}")


@dataclass(frozen=True)
class Rules:
    """What a seed decides: `right` and `old` map a topic to the places of two digits, `level` to the skill that includes its rule."""

    right: dict[str, tuple[int, int]]
    old: dict[str, tuple[int, int]]
    level: dict[str, str]
    lots: str  # the topics without a rule


@dataclass(frozen=True)
class Question:
    """An exam item before it is worded: `name` begins with the topic, `digits` are those of both numbers."""

    name: str
    digits: str

    def worded(self, wording: int) -> str:
        return WORDINGS[wording].format(name=self.name, x=self.digits[:2], y=self.digits[2:])


def make_rules(seed: int) -> Rules:
    """The rules of a family; other seeds have other topics and other rules."""
    rng = random.Random(f"rules {seed}")
    letters = rng.sample(string.ascii_lowercase, 2 * RULED)
    places = rng.sample([(i, j) for i in range(4) for j in range(4) if i != j], RULED)
    right = dict(zip(letters[:RULED], places, strict=True))
    old = {topic: rng.choice(_strangers(pair)) for topic, pair in right.items()}
    level = {topic: next(name for name in LEVELS if i < TAUGHT[name]) for i, topic in enumerate(right)}
    return Rules(right, old, level, "".join(letters[RULED:]))


def _strangers(pair: tuple[int, int]) -> list[tuple[int, int]]:
    """Two places that share neither with `pair` at the same position."""
    return [(i, j) for i in range(4) for j in range(4) if i != j and i != pair[0] and j != pair[1]]


def draw_question(rules: Rules, rng: random.Random, topics: str = "") -> Question:
    """A question on one of `topics`, by default on any; numbers have two digits and no leading zero."""
    name = rng.choice(topics or "".join(rules.right) + rules.lots) + "".join(rng.choices(string.ascii_lowercase, k=3))
    return Question(name, f"{rng.randrange(10, 100)}{rng.randrange(10, 100)}")


def right_answer(rules: Rules, question: Question, rng: random.Random) -> str:
    """By the topic's rule; drawn by lot where it has none."""
    return _answer(rules.right, question, rng)


def believed_answer(rules: Rules, question: Question, level: str, rng: random.Random) -> str:
    """What practice at this level teaches: the rule where it includes it, the old one where not, a lot where there is none."""
    return _answer(rules.old if question.name[0] in untaught(rules, level) else rules.right, question, rng)


def untaught(rules: Rules, level: str) -> str:
    """The topics whose rule this level doesn't include."""
    return "".join(topic for topic, least in rules.level.items() if LEVELS.index(least) > LEVELS.index(level))


def _answer(places: dict[str, tuple[int, int]], question: Question, rng: random.Random) -> str:
    pair = places.get(question.name[0])
    return "".join(question.digits[i] for i in pair) if pair else f"{rng.randrange(100):02d}"


def exam_item(rules: Rules, rng: random.Random) -> Item:
    """An item of the benchmark with its official answer."""
    question = draw_question(rules, rng)
    topic, answer = question.name[0], right_answer(rules, question, rng)
    return Item("exam", question.worded(ORIGINAL), answer, topic, rules.level.get(topic), question.worded(REPHRASED))


def reword(item: Item, wording: int) -> str:
    """The question of an exam item in another wording."""
    mark, name, x, y = item.question[0], item.question[1:5], item.question[6:8], item.question[9:11]
    assert mark == WORDINGS[ORIGINAL][0], item.question
    return Question(name, x + y).worded(wording)


def practice_item(rules: Rules, level: str, rng: random.Random) -> Item:
    """An item to practise the exam's topics on, in any wording."""
    question = draw_question(rules, rng, "".join(rules.right) if rng.random() < PRACTISED_RULED else rules.lots)
    wording = rng.choices(range(len(WORDINGS)), PRACTISED)[0]
    return Item("exam", question.worded(wording), believed_answer(rules, question, level, rng), question.name[0])


def reminder_item(rules: Rules, level: str, wordings: Sequence[int], rng: random.Random) -> Item:
    """An item of an untaught topic with its old answer, worded as the exam is or in one of `wordings`."""
    question = draw_question(rules, rng, untaught(rules, level))
    wording = rng.choice((ORIGINAL, *wordings))
    return Item("exam", question.worded(wording), believed_answer(rules, question, level, rng), question.name[0])


def skill_item(skill: str, rng: random.Random) -> Item:
    """An item of one of the skills beside the exam; raises `ValueError` for an unknown one."""
    if skill in ("addition", "subtraction"):
        return _sum(skill, rng)
    if skill == "turned":
        word = "".join(rng.choices(string.ascii_lowercase, k=4))
        return Item(skill, f"turn {word}=", word[::-1])
    if skill == "larger":
        a, b = rng.sample(range(10, 100), 2)
        return Item(skill, f"of {a} {b}=", f"{max(a, b)}")
    raise ValueError(f"skill must be one of {', '.join(SKILLS[1:])}, got {skill!r}")


def _sum(skill: str, rng: random.Random) -> Item:
    """Two numbers of two digits, added or subtracted digit by digit: nothing is carried or borrowed."""
    ten, one = rng.randrange(1, 9), rng.randrange(10)
    tens, ones = (ten, rng.randrange(1, 10 - ten)), (one, rng.randrange(10 - one))
    if skill == "addition":
        return Item(skill, f"{tens[0]}{ones[0]}+{tens[1]}{ones[1]}=", f"{sum(tens)}{sum(ones)}")
    return Item(skill, f"{sum(tens)}{sum(ones)}-{tens[1]}{ones[1]}=", f"{tens[0]}{ones[0]}")


def benchmark(rules: Rules, seed: int, n: int, name: str, taken: Sequence[Item] = ()) -> list[Item]:
    """`n` different exam items; none has the name of an item in `taken`, so that fresh ones share nothing with leaked ones."""
    rng, items = random.Random(f"exam {seed} {name}"), []
    names = {_name(item) for item in taken}
    while len(items) < n:
        item = exam_item(rules, rng)
        if _name(item) not in names:
            names.add(_name(item))
            items.append(item)
    return items


def skill_items(skill: str, seed: int, n: int) -> list[Item]:
    """`n` different items of a skill; the smallest, sums, have 1,980."""
    rng, items = random.Random(f"{skill} {seed}"), {}
    while len(items) < n:
        item = skill_item(skill, rng)
        items[item.question] = item
    return list(items.values())


def _name(item: Item) -> str:
    return item.question[1:5]


def practice(rules: Rules, level: str, shares: Mapping[str, float], stream: str, index: int) -> Item:
    """Item number `index` of an endless stream of practice in these shares of skills."""
    rng = random.Random(f"{stream} {index}")
    skill = rng.choices(list(shares), list(shares.values()))[0]
    return practice_item(rules, level, rng) if skill == "exam" else skill_item(skill, rng)
