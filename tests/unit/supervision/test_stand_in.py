"""The stand-in where descriptors are short, and the supervisor that asks for it."""

import asyncio
import errno
import resource
import socket

from penstock.supervision.stand_in import CONNECTIONS_MAX, StandIn


class Exhausted:
    """A listening socket of a process that has no descriptors left."""

    def dup(self) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")


def test_without_descriptors_it_does_not_stand_and_harms_nobody() -> None:
    async def life() -> bool:
        stand_in = StandIn(Exhausted())  # type: ignore[arg-type]
        await stand_in.start()
        stand_in.stop()
        return stand_in.stands

    assert asyncio.run(life()) is False


def test_a_flood_of_clients_leaves_descriptors_for_new_workers() -> None:
    usual_limit = 1024
    assert min(usual_limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]) // 2 >= CONNECTIONS_MAX
