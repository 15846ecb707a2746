"""Whose runs these are.

Goes in: what a browser keeps for us, what Hugging Face says of who signed in. Comes out: the owner a run is stored under, and whether it is to be
kept. On a local instance there is one owner; on a public one each browser, or each account that signed in, has a token of its own, and only its
SHA-256 ever reaches the store. A token that signing in gave goes with the sign-in; one of a browser stays with the browser.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import gradio as gr

from backend.errors import WorkbenchError
from backend.types import RunContext
from backend.workbench import Workbench

LOCAL = "local"
NOBODY = "api"  # whoever calls a public instance without a token: such runs can be found by no one, so they are not kept
ACCOUNT = "hf-"
SIGN_IN_PACKAGES = ("authlib", "itsdangerous")  # the extra gradio[oauth], which a Space brings along
UNKEPT = ".unkept"  # behind a token: this browser's runs are not to be kept
TOKEN = re.compile(rf"((?:{ACCOUNT})?[0-9a-f]{{32}})(?:{re.escape(UNKEPT)})?")


def browser_secret() -> str:
    """What the browser's store is encrypted with. It outlives a restart, or every visitor would be a new one; it does not guard."""
    return os.environ.get("LOUPE_BROWSER_SECRET", "loupe-browser-state")


def visitor_state() -> gr.BrowserState:
    return gr.BrowserState("", storage_key="loupe-visitor", secret=browser_secret())


# Tokens ------------------------------------------------------------------------------------------------------------------------------


def bare(token: Any) -> str:
    """The token without its mark, as a program sends it; nothing for what is none."""
    found = TOKEN.fullmatch(token) if isinstance(token, str) else None
    return found[1] if found else ""


def keeps(token: Any) -> bool:
    """Whether this browser's runs are to be kept."""
    return not (isinstance(token, str) and token.endswith(UNKEPT))


def marked(token: Any, keep: bool) -> str:
    """The token with its runs to be kept, or not."""
    return bare(token) + ("" if keep else UNKEPT)


def mint(token: Any, account: str | None = None) -> str:
    """The token as it is, or a new one where there is none. `account`: who is signed in; the token is then the account's, on every machine, and
    one that an earlier sign-in left is not used any more once nobody is signed in."""
    if account:
        return marked(account_token(account), keeps(token))
    own = bare(token) and not bare(token).startswith(ACCOUNT)
    return marked(token if own else secrets.token_hex(16), keeps(token))


def arrival() -> Callable[..., str]:
    """What gives a browser its token when a page opens."""

    def anybody(token: str) -> str:
        return mint(token)

    def signed_in(token: str, profile: gr.OAuthProfile | None) -> str:
        return mint(token, None if profile is None else profile.get("sub") or profile.username)

    return signed_in if accounts_known() else anybody


def account_token(account: str) -> str:
    """The token of a Hugging Face account: only this instance can make it, and makes the same again after a restart."""
    return ACCOUNT + hmac.new(account_secret().encode(), f"hf:{account}".encode(), hashlib.sha256).hexdigest()[:32]


def account_secret() -> str:
    """`LOUPE_OWNER_SECRET`, else what Hugging Face gives a Space for signing in."""
    return os.environ.get("LOUPE_OWNER_SECRET") or os.environ.get("OAUTH_CLIENT_SECRET", "")


def accounts_known() -> bool:
    """Whether one can sign in here: on a Space whose card says `hf_oauth: true`, with the packages that Gradio needs for it."""
    return bool(os.environ.get("OAUTH_CLIENT_ID") and account_secret()) and all(map(find_spec, SIGN_IN_PACKAGES))


# Owners ------------------------------------------------------------------------------------------------------------------------------


def owner_of(public: bool, token: Any) -> str:
    """The owner in the store. The token is client input: what can't be one is refused."""
    if not public:
        return LOCAL
    if not bare(token):
        raise WorkbenchError("This browser has no visitor token yet. Load the page again.")
    return hashlib.sha256(bare(token).encode()).hexdigest()


def context_of(workbench: Workbench, token: Any, request: gr.Request | None) -> RunContext:
    """Who runs it, and from which page load (a tab's runs are stopped together)."""
    session = request.session_hash if request is not None else None
    return RunContext(owner=owner_of(workbench.public, token), session=session, kept=not workbench.public or keeps(token))


def caller_of(workbench: Workbench, token: Any) -> str:
    """The owner of a program's call: without a token nobody, who has no runs."""
    if not workbench.public or not token:
        return NOBODY if workbench.public else LOCAL
    if not bare(token):
        raise WorkbenchError("This is no token of a visitor. Every panel shows yours beside Run, under API token.")
    return owner_of(True, token)


def caller_context(workbench: Workbench, token: Any) -> RunContext:
    """Who a program's run belongs to. Nobody's run is not kept: it could not be found again."""
    owner = caller_of(workbench, token)
    return RunContext(owner=owner, kept=owner != NOBODY and (not workbench.public or keeps(token)))


def stop_runs(workbench: Workbench, owner: str, session: str | None) -> None:
    """Ask every short run of this page load to stop, waiting ones too; jobs go on."""
    for status in ("queued", "running"):
        for record in workbench.store.runs(owner, status=status):
            if record.session == session and not workbench.methods[record.request.method].job:
                workbench.cancel(record.id)
