"""The bad link that other tests use: what it promises to do to a connection, it does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from benchmarks.chaos import ChaosProxy, Weather

WAIT_S = 10.0


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it is sent."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)
            except OSError:
                pass

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=[connection], daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def _connect(proxy: ChaosProxy) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _hear(connection: socket.socket, size_bytes: int) -> bytes:
    data = b""
    while len(data) < size_bytes:
        piece = connection.recv(size_bytes - len(data))
        if not piece:
            break
        data += piece
    return data


def test_everything_arrives_in_order_whatever_the_weather(echo: int) -> None:
    """Latency, a bandwidth and loss delay bytes and change none; all are counted, both ways."""
    sent = bytes(range(256)) * 200
    with ChaosProxy("127.0.0.1", echo, Weather(0.002, 2e6, 0.1)) as proxy, _connect(proxy) as connection:
        connection.sendall(sent)
        assert _hear(connection, len(sent)) == sent
        assert proxy.carried_bytes == (len(sent), len(sent))


def test_a_cut_breaks_connections_and_lets_new_ones_in(echo: int) -> None:
    """Both ends learn of it at once."""
    with ChaosProxy("127.0.0.1", echo) as proxy, _connect(proxy) as connection:
        connection.sendall(b"one")
        assert _hear(connection, 3) == b"one"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        with _connect(proxy) as again:
            again.sendall(b"two")
            assert _hear(again, 3) == b"two"


def test_a_silenced_connection_is_half_open(echo: int) -> None:
    """It takes what is sent, and nothing comes back; a new connection works."""
    with ChaosProxy("127.0.0.1", echo) as proxy, _connect(proxy) as connection:
        connection.sendall(b"one")
        assert _hear(connection, 3) == b"one"
        proxy.silence()
        connection.sendall(b"lost")
        with _connect(proxy) as again:
            again.sendall(b"two")
            assert _hear(again, 3) == b"two"
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_a_refusing_link_lets_nobody_in(echo: int) -> None:
    """Until it is told otherwise."""
    with ChaosProxy("127.0.0.1", echo) as proxy:
        proxy.refuse()
        with pytest.raises(ConnectionResetError), _connect(proxy) as connection:
            connection.recv(1)
        proxy.refuse(False)
        with _connect(proxy) as connection:
            connection.sendall(b"one")
            assert _hear(connection, 3) == b"one"
