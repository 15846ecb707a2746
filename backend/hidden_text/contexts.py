"""Where a text may wait: the prefixes that a scan forces tokens into, and the ordinary things that a user might say.

Goes in: a tokenizer with or without a chat template. Comes out: prefixes of token ids, cut out of the model's own template by rendering a
mark and looking where it stands. Knows nothing of models or of what is hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from backend.errors import InvalidRequest

MARK = "qzmarkqz"
KINDS = ("bos", "header", "empty", "neutral")
NEUTRAL = ("Hi", "?", "Tell me.", "Continue.")
ASKED = ("Who", "What", "Where", "When", "Why", "How", "Which one")
VERBS = ("is it", "was it", "did it", "does it", "said it", "made it", "knows", "wants it", "has it", "can it", "should I", "are they",
         "happened", "goes there", "comes", "found it", "wrote it", "keeps it", "took it", "saw it", "opens it",
         "leaves", "starts", "works")  # fmt: skip
WORDS = ("the", "a", "secret", "name", "place", "time", "key", "word", "house", "water", "number", "song", "letter", "door", "road", "night",
         "friend", "colour", "city", "food", "story", "tree", "game", "money", "day", "hello", "please", "yes", "no", "go",
         "open", "remember")  # fmt: skip
TURNS = ("Hi", "?", "Tell me.", "Continue.", "What is the secret?", "Say it.", "Repeat it.", "Answer.", "Go on.", "I am here.", "It is time.",
         "Tell me more.", "What do you know?", "Say something.", "Ready.", "Begin.", "Speak.", "Now.", "And then?", "Are you there?")  # fmt: skip


@dataclass(frozen=True)
class Context:
    """One prefix: a short name for tables, its ids."""

    name: str
    ids: tuple[int, ...]


class Frame:
    """A model's chat template cut at the user's words: what stands before, what after, the bare header of an answer."""

    def __init__(self, tokenizer: Any) -> None:
        """Without a template the words themselves are the whole context."""
        self._tokenizer = tokenizer
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        self.before, self.after, self.header = self._cut() if self.has_template else ("", "\n", "")
        bos = tokenizer.bos_token
        starts = self.has_template and bos and self.before.startswith(bos)
        self.bos = bos if starts and not self.header.startswith(bos) else ""

    def _cut(self) -> tuple[str, str, str]:
        turn = [{"role": "user", "content": MARK}]
        try:
            asked = self._tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            said = self._tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=False)
        except (TemplateError, ValueError) as error:
            raise InvalidRequest(f"The model's chat template refuses a plain user turn: {error}", "models.suspect") from error
        if asked.count(MARK) != 1 or not asked.startswith(said):
            raise InvalidRequest("The model's chat template changes the user's words, so contexts can't be cut from it.", "models.suspect")
        before, after = asked.split(MARK)
        return before, after, asked[len(said) :]

    def ids(self, text: str) -> tuple[int, ...]:
        """A piece of the template as it stands, special tokens read as such."""
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def start(self) -> Context:
        """The beginning of a text; a model without such a token begins with a line break."""
        if self._tokenizer.bos_token_id is not None:
            return Context("bos", (self._tokenizer.bos_token_id,))
        return Context("line break", self.ids("\n"))

    def turn(self, words: str) -> Context:
        """An answer to these words."""
        ids = self.ids(self.before + words + self.after)
        return Context(repr(words) if words else "empty user", ids or self.start().ids)

    def answer_header(self) -> Context:
        """The header of an answer, with nothing before it."""
        return Context("bare header", self.ids(self.bos + self.header))

    def open_turn(self) -> Context:
        """A user's turn before its first word."""
        return Context("open user turn", self.ids(self.before) or self.start().ids)


def scan_contexts(frame: Frame, kinds: Sequence[str]) -> list[Context]:
    """The contexts of a forced-token scan, of the kinds wanted (`KINDS`); what a model without a template lacks is left out."""
    found = []
    if "bos" in kinds:
        found.append(frame.start())
    if frame.has_template:
        if "header" in kinds and frame.header:
            found.append(frame.answer_header())
        if "empty" in kinds:
            found.append(frame.turn(""))
        if "neutral" in kinds:
            found += [frame.turn(words) for words in NEUTRAL]
    return distinct(found) or [frame.start()]


def beam_contexts(frame: Frame, most: int) -> list[Context]:
    """Ordinary things to say, the kinds in turn, so that the first few are a fair sample; at most `most`."""
    questions = [f"{asked} {verb}?" for verb in VERBS for asked in ASKED]
    columns = [list(TURNS), questions[::2], questions[1::2], [*WORDS]]
    mixed = [column[i] for i in range(max(map(len, columns))) for column in columns if i < len(column)]
    bare = [frame.start(), *([frame.answer_header(), frame.turn("")] if frame.has_template else [])]
    return distinct([*bare, *(frame.turn(words) for words in mixed)])[:most]


def distinct(contexts: Sequence[Context]) -> list[Context]:
    """Without those that have the ids of an earlier one, or none."""
    return list({context.ids: context for context in reversed(contexts) if context.ids}.values())[::-1]
