"""How Penstock's processes log: to stderr, a line each."""

import logging

from penstock.core.settings import Settings

__all__ = ["configure_logs"]


def configure_logs(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Its account of making the tables is not what someone who starts a server wants to read.
    logging.getLogger("alembic").setLevel(logging.WARNING)
