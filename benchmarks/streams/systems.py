"""What is compared on the pipeline: how each is run, and on how many events."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

__all__ = ["DENSE", "PENSTOCK", "SPARSE", "SYSTEMS", "Kind", "System"]

PEERS = Path(__file__).parent / "peers"
SPARSE, DENSE = "sparse", "dense"
ALL = 200_000


class Kind(Enum):
    SUBJECT = "subject"
    LIMIT = "limit"
    PEER = "peer"


@dataclass(frozen=True, kw_only=True)
class System:
    """`module` is one below `benchmarks.streams`, run in `environment` (None: the one of the benchmark).

    It is given frames of `frame` events where it takes frames, `events` of them in a full run and
    `quick_events` in a short one; 0 leaves it out. Slow systems get fewer, and are compared by events/s.
    """

    name: str
    title: str
    module: str
    kind: Kind = Kind.PEER
    environment: str | None = None
    packages: tuple[str, ...] = ()
    frame: int = 500
    events: int = ALL
    quick_events: int = 100_000
    warm: int = 20_000
    densities: tuple[str, ...] = (SPARSE, DENSE)
    quick_dense: bool = False
    """Whether it is among the few that a short run takes with dense windows."""

    @property
    def requirements(self) -> Path | None:
        return PEERS / f"requirements-{self.environment}.txt" if self.environment else None


OURS = ("penstock", "polars", "msgspec", "numpy", "onnxruntime")
LOOP = ("msgspec", "numpy", "onnxruntime")
BYTEWAX = ("bytewax", *LOOP)
FLINK = ("apache-flink", "pemja", *LOOP)
PATHWAY = ("pathway", *LOOP)

PENSTOCK = ("penstock_500", "penstock_10000")
"""Of these the slower one counts."""

SYSTEMS = (
    System(name="penstock_500", title="Penstock, frames of 500", module="subjects.frames", kind=Kind.SUBJECT,
           packages=OURS, quick_dense=True),
    System(name="penstock_10000", title="Penstock, frames of 10,000", module="subjects.frames",
           kind=Kind.SUBJECT, packages=OURS, frame=10_000, quick_dense=True),
    System(name="floor_500", title="limit: decoding and model, frames of 500", module="peers.floor",
           kind=Kind.LIMIT, packages=LOOP),
    System(name="floor_10000", title="limit: decoding and model, frames of 10,000", module="peers.floor",
           kind=Kind.LIMIT, packages=LOOP, frame=10_000),
    System(name="plain_loop", title="Python loop with deques", module="peers.plain_loop", packages=LOOP,
           quick_dense=True),
    System(name="tuned_loop", title="Python loop, windows tuned by hand", module="peers.tuned_loop",
           packages=LOOP),
    System(name="polars_history", title="Polars, all history at once", module="peers.polars_history",
           packages=("polars", *LOOP)),
    System(name="bytewax_custom", title="Bytewax, stateful operator with deques",
           module="peers.bytewax_custom", environment="bytewax", packages=BYTEWAX, quick_dense=True),
    System(name="bytewax_tuned", title="Bytewax, stateful operator tuned by hand",
           module="peers.bytewax_tuned", environment="bytewax", packages=BYTEWAX),
    System(name="bytewax_window", title="Bytewax, its sliding windows", module="peers.bytewax_window",
           environment="bytewax", packages=BYTEWAX, events=40_000, quick_events=10_000, warm=2_000),
    System(name="flink_state", title="PyFlink, ValueState", module="peers.flink_state", environment="flink",
           packages=FLINK, events=80_000, quick_events=0, warm=0, densities=(SPARSE,)),
    System(name="flink_window", title="PyFlink, its sliding windows", module="peers.flink_window",
           environment="flink", packages=FLINK, events=40_000, quick_events=0, warm=0, densities=(SPARSE,)),
    System(name="pathway_state", title="Pathway, stateful reducer", module="peers.pathway_state",
           environment="pathway", packages=PATHWAY, frame=10_000, warm=2_000),
    System(name="pathway_window", title="Pathway, its sliding windows", module="peers.pathway_window",
           environment="pathway", packages=PATHWAY, frame=10_000, events=20_000, quick_events=5_000, warm=500,
           densities=(SPARSE,)),
)  # fmt: skip
