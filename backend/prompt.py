"""What the model really sees: a prompt rendered to token ids, in one place.

Goes in: a `Prompt` and the model's tokenizer. Comes out: ids, the text of each, and warnings in plain words. Knows nothing of models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from backend.detokenize import detokenize
from backend.errors import InvalidRequest
from backend.types import Prompt

NO_TEMPLATE = "This model has no chat template: it gets the bare text, without roles."
DOUBLE_BOS = "The prompt begins with two beginning-of-text tokens: one in the text, one that the tokenizer adds. Most models answer worse."


@dataclass(frozen=True)
class Rendered:
    """A prompt as the model sees it. `pieces` are `(id, text)`; their texts concatenate to the decoded prompt."""

    ids: list[int]
    pieces: list[tuple[int, str]]
    warnings: list[str]


def render(prompt: Prompt, tokenizer: Any) -> Rendered:
    """`prompt` as token ids.

    `chat` goes through the model's template, the system text first; a last message of the assistant is continued, any other is answered.
    `raw` is the text as it stands (several messages: joined by line breaks), with the special tokens that the tokenizer usually adds.
    Raises `InvalidRequest` if nothing remains or the template refuses the messages.
    """
    ids = prompt_ids(prompt, tokenizer)
    warnings = [NO_TEMPLATE] if prompt.template == "chat" and not _has_template(tokenizer) else []
    if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
        warnings.append(DOUBLE_BOS)
    return Rendered(ids, list(zip(ids, detokenize(tokenizer, ids), strict=True)), warnings)


def prompt_ids(prompt: Prompt, tokenizer: Any) -> list[int]:
    """The ids of `render` alone, without the text of each."""
    messages = _messages(prompt)
    if prompt.template == "chat" and _has_template(tokenizer):
        ids = _chat_ids(messages, tokenizer)
    else:
        ids = tokenizer("\n".join(m["content"] for m in messages))["input_ids"]
    if not ids:
        raise InvalidRequest("prompt.messages must hold at least one token, the prompt is empty.", "prompt.messages")
    return ids


def _has_template(tokenizer: Any) -> bool:
    return bool(getattr(tokenizer, "chat_template", None))


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return system + [dict(message) for message in prompt.messages]


def _chat_ids(messages: list[dict[str, str]], tokenizer: Any) -> list[int]:
    if len(messages) > 1 and messages[-1] == {"role": "assistant", "content": ""}:
        messages = messages[:-1]  # continuing an empty answer is answering
    goes_on = messages[-1]["role"] == "assistant"
    how = {"add_generation_prompt": not goes_on, "continue_final_message": goes_on}
    try:
        return tokenizer.apply_chat_template(messages, return_dict=True, **how)["input_ids"]
    except (TemplateError, ValueError) as error:
        raise InvalidRequest(f"The model's chat template refuses these messages: {error}", "prompt.messages") from error
