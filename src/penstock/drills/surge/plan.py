"""What the generators are told: all that one of them needs, ready to be sent, in one value."""

import msgspec

from penstock.core.errors import InvalidInput
from penstock.drills.surge.mix import Kind
from penstock.drills.surge.retrying import RetryModel
from penstock.drills.surge.shapes import Shape

__all__ = ["Body", "Load", "Plan", "Target", "request_heads", "request_tails"]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where the requests go."""

    host: str
    port: int
    path: str


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A request's body. `json_bytes` is the length of the JSON before tensors in binary; None without any."""

    content: bytes
    json_bytes: int | None = None


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the server."""

    shape: Shape
    mix: tuple[Kind, ...]
    retry: RetryModel = RetryModel()
    seed: int = 1
    requests_max: int = 10_000_000
    objective_s: float = 0.1
    timeout_s: float = 1.0
    """How long a client waits for an answer, from the intended time; then it closes the connection."""

    def __post_init__(self) -> None:
        if not 0 < self.objective_s <= self.timeout_s <= 600:
            raise InvalidInput(
                f"an objective of {self.objective_s * 1e3:g} ms and a timeout of {self.timeout_s * 1e3:g} ms "
                "do not go together",
                hint="0 < objective <= timeout <= 600,000 ms",
            )


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A load, and the means for it."""

    target: Target
    load: Load
    heads: tuple[tuple[bytes, ...], ...]
    """By kind and attempt: a request up to what depends on its body."""
    tails: tuple[bytes, ...]
    """By body: the rest of the head, and the body."""
    processes: int = 1
    connections: int = 256
    """Of all processes together."""
    closed_loop: int = 0
    """So many requests always in flight, instead of the shape: to measure what the server can do."""


def request_heads(
    target: Target, mix: tuple[Kind, ...], *, deadline_s: float, attempts: int
) -> tuple[tuple[bytes, ...], ...]:
    """By kind and attempt. The deadline is sent in whole milliseconds."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    found = []
    for kind in mix:
        lines = [
            f"POST {target.path} HTTP/1.1",
            f"host: {host}:{target.port}",
            f"x-request-timeout-ms: {max(round(deadline_s * 1e3), 1)}",
            f"x-criticality: {kind.criticality}",
        ]
        if kind.tenant:
            lines.append(f"x-api-key: {kind.api_key}")
        further = [[f"x-retry-attempt: {attempt}"] if attempt else [] for attempt in range(attempts)]
        found.append(
            tuple("".join(f"{line}\r\n" for line in lines + more).encode("latin-1") for more in further)
        )
    return tuple(found)


def request_tails(bodies: tuple[Body, ...]) -> tuple[bytes, ...]:
    """By body."""
    tails = []
    for body in bodies:
        kind = "application/json" if body.json_bytes is None else "application/octet-stream"
        binary = "" if body.json_bytes is None else f"inference-header-content-length: {body.json_bytes}\r\n"
        head = f"content-type: {kind}\r\n{binary}content-length: {len(body.content)}\r\n\r\n"
        tails.append(head.encode("ascii") + body.content)
    return tuple(tails)
