"""Somebody who does not belong to the cluster, on a machine of their own, tries every door there is."""

from __future__ import annotations

import socket
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import zmq
from tacit.transport import CurveKeys
from zmq.utils.monitor import recv_monitor_message

if TYPE_CHECKING:
    from network_cluster import NetworkCluster

KNOCK_SECONDS = 0.5


class LetIn(Exception):
    """A stranger was let in."""


def be_strange(cluster: NetworkCluster) -> int:
    """Try the mesh as a stranger and as a thief, and every listening port of every peer in other ways.

    Returns how many ports were tried. Raises LetIn.
    """
    for who in ("stranger", "thief"):
        if cluster.form.admits(who, cluster.street):
            raise LetIn(f"the mesh answered a {who}")
    tried = 0
    for node in cluster.peers.values():
        for port in node.listening_ports():
            tried += 1
            for how in ("curve", "null", "noise"):
                if cluster.street.call(lambda how=how, where=(node.address, port): knock(how, where)):
                    raise LetIn(f"{how} was let in at {node.name}, port {port}")
    return tried


def knock(how: str, where: tuple[str, int]) -> bool:
    """Whether a stranger gets past the handshake: with a key nobody admits ("curve"), without any ("null"), or as noise."""
    if how == "noise":
        with suppress(OSError), closing(socket.create_connection(where, timeout=2)) as visitor:
            visitor.sendall(bytes(range(256)) * 20)  # a session that ended just now has closed its ports
        return False
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        visitor = context.socket(zmq.PAIR)
        visitor.linger = 0
        if how == "curve":
            own, theirs = CurveKeys.fresh(), CurveKeys.fresh()
            visitor.curve_publickey = own.public.encode()
            visitor.curve_secretkey = own.secret.encode()
            visitor.curve_serverkey = theirs.public.encode()
        monitor = visitor.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        visitor.connect("tcp://{}:{}".format(*where))
        deadline = time.monotonic() + KNOCK_SECONDS
        while (left := deadline - time.monotonic()) > 0 and monitor.poll(int(1000 * left)):
            if recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return True
        visitor.disable_monitor()
        return False
    finally:
        context.destroy(0)
