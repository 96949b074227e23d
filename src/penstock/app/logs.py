"""How Penstock's processes log: to stderr, a line each."""

import logging

from penstock.core.settings import Settings

__all__ = ["configure_logs"]


def configure_logs(settings: Settings, process: str) -> None:
    """`process` says which one speaks, as several write to the same stderr."""
    logging.basicConfig(
        level=settings.log_level.upper(), format=f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s"
    )
    # Its account of making the tables is not what someone who starts a server wants to read.
    logging.getLogger("alembic").setLevel(logging.WARNING)
