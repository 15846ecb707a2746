"""Token ids in, one at a time; text out, as soon as it can't change any more.

Goes in: a tokenizer and ids as they come. Comes out: pieces of text whose concatenation is what the tokenizer makes of all ids at once.
Knows nothing of models. Whatever is released stays: a character whose bytes are not complete is held back.
"""

from __future__ import annotations

import re
from typing import Any

REPLACEMENT = "\ufffd"  # stands at the end of a text whose last character lacks bytes
BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Detokenizer:
    """Streams the text of one sequence.

    It decodes a window: some released tokens as context (a decoder may drop a space before the very first token, so no other token
    may stand first), then the tokens whose text is not released. Tokens are released once the window ends on a complete character. A run of
    byte tokens (`<0xE4>`) is held to its end, because the decoder reads it as a whole and one wrong byte spoils all of them.
    """

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is one of the transformers library, fast or not."""
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._n_context = 0  # tokens of the window that are context
        self._released = 0  # characters of the window's text that are out

    def push(self, token_id: int) -> str:
        """Take one id; return the text that became certain with it, often one token's, sometimes none."""
        self._window.append(token_id)
        text = self._decode(self._window)
        if text.endswith(REPLACEMENT) or self._may_go_on(token_id):
            return ""
        piece, self._released = text[self._released :], len(text)
        self._move_window()
        return piece

    def flush(self) -> str:
        """The rest of the text, incomplete characters as U+FFFD; then start anew."""
        piece = self._decode(self._window)[self._released :]
        self._window, self._n_context, self._released = [], 0, 0
        return piece

    def _move_window(self) -> None:
        """Make the tokens just released the context of the next ones, if they have a text of their own to stand in front with."""
        fresh = self._window[self._n_context :]
        text = self._decode(fresh)
        if text and not text.startswith(REPLACEMENT):
            self._window, self._released = fresh, len(text)
        self._n_context = len(self._window)

    def _may_go_on(self, token_id: int) -> bool:
        """Whether a run of byte tokens may be open: after a byte token, and after an id that the tokenizer has no token for and skips."""
        token = self._tokenizer.convert_ids_to_tokens(token_id)
        return token is None or BYTE_TOKEN.fullmatch(token) is not None

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def detokenize(tokenizer: Any, ids: list[int]) -> list[str]:
    """The piece of text that each id released; the last one also brings what was held back."""
    stream = Detokenizer(tokenizer)
    pieces = [stream.push(token_id) for token_id in ids]
    return [*pieces[:-1], pieces[-1] + stream.flush()] if pieces else []
