"""The pieces that an engine is made of: a libp2p host that offers Noise and yamux over TCP only, listening sockets."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Sequence
from typing import Any, NoReturn

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.rcmgr import ResourceManager
from libp2p.rcmgr.connection_limits import ConnectionLimits
from libp2p.rcmgr.manager import ResourceLimits
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux

from ...address import Address
from ...errors import NetworkError

log = logging.getLogger("tacit.party.p2p")

MAX_CONNECTIONS = 1024
CONNECT_SECONDS = 1.5  # whoever cannot be connected to within this is not there
PROVE_SECONDS = 5.0  # for a connection that came in to prove who it is
SILENT_MILLISECONDS = 15_000  # the kernel ends a connection whose bytes stay unacknowledged for this long


def make_host(seed: bytes, announced: list[Any]) -> Any:
    """A libp2p host with this Ed25519 identity, not yet running; it listens nowhere and dials nobody by itself.

    `announced`: multiaddrs to give as its own, may change.
    """
    keys = create_new_key_pair(seed)
    host: Any = new_host(
        key_pair=keys,
        sec_opt={NOISE: Noise(keys, create_new_x25519_key_pair().private_key)},
        muxer_opt={TProtocol(YAMUX): Yamux},
        connection_config=ConnectionConfig(
            max_connections=MAX_CONNECTIONS,
            min_connections=0,
            low_watermark=0,
            high_watermark=MAX_CONNECTIONS,
            max_connections_per_peer=8,  # of two that dial each other at once both stay: neither's question breaks
            inbound_upgrade_timeout=PROVE_SECONDS,
            outbound_upgrade_timeout=CONNECT_SECONDS,
        ),
        resource_manager=ResourceManager(
            limits=ResourceLimits(max_connections=MAX_CONNECTIONS),
            connection_limits=ConnectionLimits(max_established_inbound=MAX_CONNECTIONS, max_established_per_peer=16),
            enable_metrics=False,
            enable_memory_limits=False,
            enable_circuit_breaker=False,
            enable_graceful_degradation=False,
            enable_rate_limiting=False,
        ),
        disable_identify_address_discovery=True,
        addrs_factory=lambda _: list(announced),
    )
    # Neither identify nor ping: strangers would fill libp2p's address book, and it dials what stands there.
    host.get_network().notifees.clear()
    host.get_mux().handlers.clear()
    return host


def quiet() -> None:
    """libp2p logs strangers' mistakes as errors, and to stderr where no handler is set: only when debugging."""
    logger = logging.getLogger("libp2p")
    logger.propagate = True
    level = logging.WARNING if log.isEnabledFor(logging.DEBUG) else logging.CRITICAL
    for one in (logger, logging.getLogger("libp2p.network.auto_connector")):  # which has a level of its own
        one.setLevel(level)


async def listen(addresses: Sequence[str]) -> list[trio.SocketListener]:
    found: list[trio.SocketListener] = []
    for text in addresses:
        address = Address.parse(text)
        try:
            found += await trio.open_tcp_listeners(address.port, host=address.host)
        except OSError as error:
            for listener in found:
                listener.socket.close()
            _cannot_listen(address, error)
    return found


def _cannot_listen(address: Address, error: OSError) -> NoReturn:
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "errno", None) is None:
        cause = cause.__cause__
    if getattr(cause, "errno", None) == errno.EADDRINUSE:
        raise NetworkError(
            f"cannot listen on {address.place}: the port is in use; stop the other program or choose another --listen"
        ) from None
    raise NetworkError(f"cannot listen on {address.place}: {getattr(cause, 'strerror', None) or error}") from None


def place_of(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return Address.at(host, port).place


def notice_silence(stream: trio.SocketStream) -> None:
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MILLISECONDS)
