"""What is counted of the versions being served: small records that add up over processes."""

from collections.abc import Iterable

import msgspec

__all__ = ["BatchSize", "DeploymentStatistics", "Durations", "merge_statistics"]


class Durations(msgspec.Struct, frozen=True):
    """How often something happened, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def plus(self, other: "Durations") -> "Durations":
        return Durations(self.count + other.count, self.seconds + other.seconds)


class BatchSize(msgspec.Struct, frozen=True):
    """The runs with so many rows."""

    rows: int
    runs: Durations


class DeploymentStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one version has done since its first process began to serve it.

    `success` and `failure` are requests, from arrival to answer; `queue` is what the requests that ran had
    waited for their run. `last_inference_s` is the time of the last answer in seconds since 1970, 0 for none.
    """

    model: str
    version: str
    last_inference_s: float = 0.0
    rows: int = 0
    success: Durations = Durations()
    failure: Durations = Durations()
    queue: Durations = Durations()
    batches: tuple[BatchSize, ...] = ()

    @property
    def runs(self) -> Durations:
        """All runs of the runtime."""
        total = Durations()
        for size in self.batches:
            total = total.plus(size.runs)
        return total

    def plus(self, other: "DeploymentStatistics") -> "DeploymentStatistics":
        """Both together; they are of the same version."""
        assert (self.model, self.version) == (other.model, other.version), "statistics of different versions"
        sizes = {size.rows: size.runs for size in self.batches}
        for size in other.batches:
            sizes[size.rows] = sizes.get(size.rows, Durations()).plus(size.runs)
        return DeploymentStatistics(
            model=self.model,
            version=self.version,
            last_inference_s=max(self.last_inference_s, other.last_inference_s),
            rows=self.rows + other.rows,
            success=self.success.plus(other.success),
            failure=self.failure.plus(other.failure),
            queue=self.queue.plus(other.queue),
            batches=tuple(BatchSize(rows, sizes[rows]) for rows in sorted(sizes)),
        )


def merge_statistics(parts: Iterable[DeploymentStatistics]) -> tuple[DeploymentStatistics, ...]:
    """One record a version, in the order in which versions first appear."""
    merged: dict[tuple[str, str], DeploymentStatistics] = {}
    for part in parts:
        key = (part.model, part.version)
        merged[key] = merged[key].plus(part) if key in merged else part
    return tuple(merged.values())
