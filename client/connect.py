"""From a request to an open private session: ask the coordinator, check the peers' words, dial both compute peers."""

from __future__ import annotations

import secrets

import zmq

from ..transport import CurveKeys, LinkSettings, dial_peers
from ..wire import Roster, SessionRequest
from .directory import Directory
from .generation import ModelFacts
from .session import PrivateSession
from .verify import check_seats


def open_session(
    context: zmq.Context[zmq.Socket[bytes]],
    directory: Directory,
    roster: Roster,
    model: ModelFacts,
    *,
    prompt_tokens: int,
    max_new_tokens: int,
    timeout: float,
) -> PrivateSession:
    """A session of three checked peers. A step may take `timeout` seconds.

    Raises RefusedError (no free peers), IdentityError, PeerError, PeerLost or NetworkError; nothing private was sent.
    """
    keys = CurveKeys.fresh()
    request = SessionRequest(
        session=secrets.token_hex(16),
        client_key=keys.public,
        model=model.name,
        protocol=model.protocol,
        prompt_tokens=prompt_tokens,
        max_new_tokens=max_new_tokens,
    )
    seats = check_seats(request, directory.open_session(request), roster, model.manifest_hash)
    links = dial_peers(context, seats, roster, keys, LinkSettings(timeout=timeout))
    return PrivateSession(
        links.circle,
        (links.peer0, links.peer1),
        session=bytes.fromhex(request.session),
        peers=tuple(roster.name_of(seat.peer_id) for seat in seats),
        vocab=model.vocab,
        layers=model.layers,
        timeout=timeout,
    )
