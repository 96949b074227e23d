"""Addresses on the loopback interface; nothing is sent."""

import socket
from contextlib import closing

import pytest

from penstock.core.errors import ConfigurationError
from penstock.serving.listening import listen, reserve_port


def test_a_free_port_is_taken() -> None:
    with closing(listen("127.0.0.1", 0)) as one, closing(listen("127.0.0.1", 0)) as other:
        assert one.getsockname()[1] != other.getsockname()[1]


@pytest.mark.parametrize("take", [listen, reserve_port])
def test_a_port_in_use(take: object) -> None:
    assert callable(take)
    with closing(listen("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1 is in use"):
            take("127.0.0.1", port)


@pytest.mark.parametrize("take", [listen, reserve_port])
@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("203.0.113.1", 0)])
def test_an_address_that_there_is_not(take: object, host: str, port: int) -> None:
    assert callable(take)
    with pytest.raises(ConfigurationError) as caught:
        take(host, port)
    assert f"{host}:{port}" in caught.value.message
    assert caught.value.hint


def test_a_reserved_port_is_shared_by_those_who_consent() -> None:
    with closing(reserve_port("127.0.0.1", 0)) as held:
        address = held.getsockname()
        shared = []
        for _ in range(2):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(address)
            one.listen()
            shared.append(one)
        with pytest.raises(ConfigurationError, match="in use"):
            listen(*address)
        with pytest.raises(ConfigurationError, match="in use"):
            reserve_port(*address)
        for one in shared:
            one.close()
        with pytest.raises(OSError, match="refused"), closing(socket.socket()) as client:
            client.connect(address)


def test_a_reserved_port_stays_reserved_before_anybody_listens() -> None:
    with closing(reserve_port("127.0.0.1", 0)) as held, pytest.raises(ConfigurationError, match="in use"):
        reserve_port(*held.getsockname())
