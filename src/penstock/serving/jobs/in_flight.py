"""How many jobs a process runs at once: of each model as many as it takes on, found by additive increase and
multiplicative decrease, as TCP finds what a network takes; and no more of one model or tenant than leaves room
for others.
"""

from collections import Counter

from penstock.serving.jobs.sharing import share_of

__all__ = ["InFlight", "Places"]

PAUSE_S = 0.5


class InFlight:
    """Starts at its most. Times are monotonic seconds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._resumes_s = float("-inf")

    @property
    def limit(self) -> int:
        return int(self._limit)

    def room(self, running: int, now_s: float) -> int:
        """How many more may be begun now, where so many run."""
        return 0 if now_s < self._resumes_s else max(0, self.limit - running)

    @property
    def untouched(self) -> bool:
        """Whether it knows no more than a new one."""
        return self._limit >= self._most

    def answered(self) -> None:
        """One was run. As many in a row as run at once, and there is room for one more."""
        self._limit = min(float(self._most), self._limit + 1.0 / self._limit)

    def refused(self, now_s: float) -> None:
        """One had no room. However many are refused together, they count once."""
        if now_s >= self._resumes_s:
            self._limit = max(1.0, self._limit / 2)
            self._resumes_s = now_s + PAUSE_S


class Places:
    """Those of a process, for the jobs of all models and tenants. Times are monotonic seconds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limits: dict[str, InFlight] = {}
        self._models: Counter[str] = Counter()
        self._tenants: Counter[str] = Counter()

    @property
    def free(self) -> int:
        return max(0, self._most - self._models.total())

    def began(self, model: str, tenant: str) -> None:
        self._models[model] += 1
        self._tenants[tenant] += 1

    def ended(self, model: str, tenant: str) -> None:
        for running, name in ((self._models, model), (self._tenants, tenant)):
            running[name] -= 1
            if not running[name]:
                del running[name]
        if model not in self._models and model in self._limits and self._limits[model].untouched:
            del self._limits[model]

    def answered(self, model: str) -> None:
        """One of this model was run."""
        if model in self._limits:
            self._limits[model].answered()

    def refused(self, model: str, now_s: float) -> None:
        """This model had no room for one."""
        self._limits.setdefault(model, InFlight(self._most)).refused(now_s)

    def of_models(self, now_s: float) -> dict[str, int]:
        """How many more jobs may be begun of the models that have some, or that had no room of late."""
        found = {model: share_of(self.free, running) for model, running in self._models.items()}
        for model, limit in self._limits.items():
            running = self._models[model]
            found[model] = min(share_of(self.free, running), limit.room(running, now_s))
        return found

    def of_tenants(self) -> dict[str, int]:
        """And of the tenants that have some."""
        return {tenant: share_of(self.free, running) for tenant, running in self._tenants.items()}
