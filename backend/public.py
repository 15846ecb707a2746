"""What a visitor of a public instance may ask for.

Goes in: a request. Comes out: nothing, or an `InvalidRequest` that names the limit. Which models are allowed is the pool's to say.
"""

from __future__ import annotations

from backend.errors import InvalidRequest
from backend.types import RunRequest, check_number

MOST_NEW_TOKENS = 512
MOST_PROMPT_CHARS = 8_000
MOST_OPTION_CHARS = 50_000
MOST_JOBS = 1


def check_caps(request: RunRequest) -> None:
    """Raise unless tokens, prompt and options are within what one visitor may use of a shared machine."""
    check_number("sampling.max_new_tokens", request.sampling.max_new_tokens, 0, MOST_NEW_TOKENS, integer=True)
    check_number("answer_prefix, in tokens,", len(request.answer_prefix), 0, MOST_NEW_TOKENS, integer=True)
    n_chars = sum(len(message["content"]) for message in request.prompt.messages) + len(request.prompt.system or "")
    if n_chars > MOST_PROMPT_CHARS:
        raise InvalidRequest(f"The prompt may have at most {MOST_PROMPT_CHARS:,} characters here, it has {n_chars:,}.", "prompt")
    for name, value in request.options.items():
        if len(str(value)) > MOST_OPTION_CHARS:
            raise InvalidRequest(f"options.{name} may have at most {MOST_OPTION_CHARS:,} characters here.", f"options.{name}")


def check_jobs(n_open: int) -> None:
    """Raise if a visitor with `n_open` jobs may not start another."""
    if n_open >= MOST_JOBS:
        raise InvalidRequest("One job a visitor at a time here: wait for yours, or stop it.")
