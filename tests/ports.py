"""Ports in every state that a test needs, on this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def listening(says: bytes = b"", host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port where somebody answers, and says this at once."""
    with socket.create_server((host, port)) as server:
        server.settimeout(0.05)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(says)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(server.getsockname()[1])
        done.set()
        thread.join()


@contextmanager
def closed() -> Iterator[int]:
    """A port where nobody listens, and nobody else starts to meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@contextmanager
def silent() -> Iterator[int]:
    """A port that answers nothing: its queue is full, so the kernel drops what comes, as a firewall does."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(server.getsockname())
            waiting.append(one)
        try:
            yield int(server.getsockname()[1])
        finally:
            for one in waiting:
                one.close()
