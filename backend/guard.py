"""What a public instance asks of every request before it runs, and the room it makes for it.

Goes in: requests and owners. Comes out: nothing, or an `InvalidRequest`: a model that is not on the list, a size above a limit, something that is
another visitor's. The limits are `public`'s, whose a thing is says `owned`, what goes when it is full `eviction`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.errors import InvalidRequest
from backend.eviction import entries, make_room
from backend.owned import MINE, Owned, remove
from backend.public import Limits, check_jobs, check_request
from backend.types import RunRequest

if TYPE_CHECKING:
    from backend.workbench import Workbench


class Guard:
    """Bound to one workbench."""

    def __init__(self, workbench: Workbench, limits: Limits) -> None:
        self._workbench, self.limits, self.owned = workbench, limits, Owned(workbench.store)

    def check(self, request: RunRequest, owner: str | None) -> None:
        """Raise unless models, sizes and what the request names are this visitor's to use. Without an owner nothing made here is."""
        method = self._workbench.method(request.method)
        for role, model_id in request.models.items():
            self._check_model(role, model_id, owner)
        check_request(self.limits, request, method.job, method.size(request) if method.size is not None else {})
        if owner is not None:
            self.owned.check(request, owner)
        for part in method.parts(request) if method.parts is not None else ():
            if self._workbench.method(part.method).job:
                raise InvalidRequest(f"{part.method} is a job; a job can't hold another.", "options")
            self.check(part, owner)

    def _check_model(self, role: str, model_id: str, owner: str | None) -> None:
        own = owner is not None and model_id.startswith(MINE) and self.owned.owner_of(model_id) == owner
        if not own and not self.limits.allows_model(model_id):
            allowed = ", ".join(self.limits.public_models)
            raise InvalidRequest(f"models.{role} must be one of this instance's models ({allowed}), got {model_id!r}.", f"models.{role}")

    def check_jobs(self, owner: str) -> None:
        """Raise if the owner may not start another job."""
        jobs = self._workbench.jobs()
        check_jobs(self.limits, sum(job.owner == owner for job in jobs), len(jobs))

    def make_room(self, owner: str) -> None:
        """Let old entries go until one more fits, with what they made; raises `InvalidRequest` where nothing may go."""
        make_room(self._workbench.store, owner, self.limits.max_runs, self.limits.database_bytes, self.remove_made)

    def remove_made(self, run_ids: list[str]) -> None:
        """The folders of what these runs made; called while the store still knows."""
        remove(self._workbench.data_dir, self.owned.of_runs(run_ids))

    def kept(self, owner: str) -> tuple[int, int]:
        """How many entries the owner has, and how many there may be."""
        return entries(self._workbench.store, owner), self.limits.max_runs
