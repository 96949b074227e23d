"""A stream worker without its supervisor: `python stream_process.py NUMBER` in the folder of an app.py, until
SIGTERM.
"""

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from penstock.app.loading import load_app
from penstock.core.clock import SystemClock
from penstock.core.failpoints import FAILPOINT_VARIABLE, failpoints_of
from penstock.core.rng import unique_token
from penstock.features.embedded import EmbeddedOnlineStore
from penstock.log.embedded.limits import LogLimits
from penstock.log.opening import open_log
from penstock.streams.batch_size import BatchSizeConfig
from penstock.streams.lease import lease_for
from penstock.streams.topology import topology
from penstock.streams.worker import StreamWorker
from penstock.streams.worker_config import WorkerConfig


def main() -> None:
    logging.basicConfig(level="INFO", format="%(process)d %(levelname)s %(message)s")
    app, _ = load_app("app.py")
    home = Path(".penstock")
    timeout_s = float(os.environ.get("HANG_S", "30"))
    least_s = float(os.environ.get("LEASE_LEAST_S", "10"))
    lease_s = float(os.environ.get("LEASE_S", lease_for(least_s, timeout_s)))
    log = open_log("", home, SystemClock(), LogLimits(lease_s=lease_s))
    existing = {info.spec.name: info.spec.partitions for info in log.admin.topics()}
    app.streams.graph.online = EmbeddedOnlineStore(home)
    planned = topology(app.streams.graph, existing)
    log.admin.ensure_topics(planned.topics)
    config = WorkerConfig(
        group=app.name,
        identity=f"{sys.argv[1]}.{unique_token(4)}",
        folder=home / "streams",
        # Small, so that a run has many transactions and snapshots.
        batch=BatchSizeConfig(rows_min=20, rows_max=200),
        snapshot_bytes=int(os.environ.get("SNAPSHOT_BYTES", "100000")),
        snapshot_every_s=0.5,
        timeout_s=timeout_s,
        feed_poll_s=float(os.environ.get("FEED_POLL_S", "0.2")),
        own_process=True,
    )
    failpoints = failpoints_of(os.environ.get(FAILPOINT_VARIABLE))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    worker = StreamWorker(config, planned.by_source, log, SystemClock(), failpoints, planned.feeds)
    Path(f"started.{sys.argv[1]}").touch()
    worker.run(stop)
    log.close()


if __name__ == "__main__":
    main()
