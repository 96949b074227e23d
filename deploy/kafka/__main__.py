"""`python -m deploy.kafka`: a Kafka to try things with, on this machine. Needs Java 17 and Maven.

It says where it is once it is ready, and is stopped by Ctrl-C; what was in it is gone then.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from deploy.kafka.artifacts import Unavailable
from deploy.kafka.cluster import running_cluster


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.kafka", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1, choices=(1, 3))
    parser.add_argument("--port", type=int, default=0, help="of the first node; 0 takes a free one")
    parser.add_argument("--until-input-ends", action="store_true", help="stop where stdin ends, too")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="penstock-kafka-") as folder,
            running_cluster(Path(folder), nodes=asked.nodes, port=asked.port) as cluster,
        ):
            print(cluster.address, flush=True)
            if asked.until_input_ends:
                sys.stdin.read()
            else:
                sys.stderr.write(f"log.url is kafka://{cluster.address}; Ctrl-C ends it\n")
                signal.pause()
    except KeyboardInterrupt:
        return 0
    except Unavailable as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
