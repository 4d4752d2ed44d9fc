"""Dial-back: what a member tells of the way to another, and that nobody can send it anywhere else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from local_mesh import make_roster
from ports import closed, listening, silent
from tacit.errors import PeerError, RefusedError
from tacit.members import Members, Roster
from tacit.party import dialback
from tacit.party.dialback import LINK_PORT, MESH_PORT, Callback, DialBack, Report
from tacit.party.identity import Identity
from tacit.party.mesh import DIALBACK, Handler, Mesh, Whereabouts
from tacit.party.roster import RosterMesh, place_of
from tacit.party.zap import Doorkeeper
from tacit.reach import Outcome
from tacit.zmqlink import new_context

WORD = secrets.token_bytes(16)


class Known(Mesh):
    """A mesh that knows where members are."""

    def __init__(self, **members: Whereabouts) -> None:
        self.found = members
        self.roster = make_roster({name: Identity.create() for name in ("a", "b", "c", "coordinator")})

    def whereabouts(self, peer_id: str) -> Whereabouts:
        return self.found[peer_id]

    def serve(self, protocol: str, handler: Handler, threads: int = 4) -> None:
        raise NotImplementedError

    def request(self, peer_id: str, protocol: str, question: bytes, timeout: float = 5.0) -> bytes:
        raise NotImplementedError

    @property
    def members(self) -> Members:
        return self.roster

    def close(self) -> None:
        pass


def ask(handler: DialBack, sender: str = "asker", link_port: int = 0) -> dict[tuple[str, int], Outcome]:
    report = Report.from_bytes(handler(sender, Callback(link_port, WORD).to_bytes()), "member")
    return {(one.what, one.port): Outcome(one.outcome) for one in report.tried}


def at(*ports: int, host: str = "127.0.0.1", seen: str = "127.0.0.1") -> Whereabouts:
    return Whereabouts(tuple((host, port) for port in ports), seen)


def test_every_port_is_told_of(monkeypatch):
    monkeypatch.setattr(dialback, "TIMEOUT", 0.5)
    with ExitStack() as stack:
        mine, others = stack.enter_context(listening(WORD)), stack.enter_context(listening(b"SSH-2.0-x"))
        refusing, dropping = stack.enter_context(closed()), stack.enter_context(silent())
        handler = DialBack(Known(asker=at(mine, others, refusing, dropping)))
        link = stack.enter_context(listening(WORD))
        assert ask(handler, link_port=link) == {
            (MESH_PORT, mine): Outcome.EXPECTED,
            (MESH_PORT, others): Outcome.OPEN,
            (MESH_PORT, refusing): Outcome.REFUSED,
            (MESH_PORT, dropping): Outcome.TIMEOUT,
            (LINK_PORT, link): Outcome.EXPECTED,
        }


def test_names_that_nobody_knows():
    assert ask(DialBack(Known(asker=at(80, host="no-such-host.invalid")))) == {(MESH_PORT, 80): Outcome.UNKNOWN}


@pytest.mark.parametrize("seen", ["8.8.8.8", ""])
@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "localhost"])
def test_nobody_from_outside_looks_around_inside(seen, host):
    with listening(WORD, "127.0.0.1") as port:
        assert ask(DialBack(Known(asker=at(port, host=host, seen=seen)))) == {(MESH_PORT, port): Outcome.UNTRIED}


def test_only_hosts_of_the_askers_own_entry_are_dialled(monkeypatch):
    dialled = []
    monkeypatch.setattr(
        dialback.DialBack, "_dial", lambda self, host, port, seen, word: dialled.append(host) or Outcome.OPEN
    )
    found = ask(DialBack(Known(asker=at(7450, host="127.0.0.9"))), link_port=9999)
    assert set(dialled) == {"127.0.0.9"}
    assert len(found) == 2
    with pytest.raises(PeerError, match="malformed Callback"):
        DialBack(Known(asker=at(1)))("asker", b'{"host":"10.0.0.1","link_port":22,"word":"AAAAAAAAAAAAAAAAAAAAAA=="}')


def test_many_addresses_are_not_all_dialled():
    with closed() as port:
        found = ask(DialBack(Known(asker=Whereabouts(tuple(("127.0.0.1", port + n) for n in range(12)), "127.0.0.1"))))
    assert len(found) == dialback.MAX_TRIED


def test_askers_have_to_be_patient():
    now = [100.0]
    handler = DialBack(Known(asker=at(), other=at()), clock=lambda: now[0])
    assert ask(handler) == {}
    with pytest.raises(RefusedError, match="already"):
        ask(handler)
    assert ask(handler, "other") == {}
    now[0] += dialback.PAUSE_SECONDS
    assert ask(handler) == {}


def test_fields_are_strict():
    with pytest.raises(PeerError):
        Report.from_bytes(b'{"context":"tacit/dialback/1","seen":"x","tried":[],"version":"1","clock":1}', "m")


@contextmanager
def roster_meshes() -> Iterator[tuple[dict[str, Identity], Roster, dict[str, RosterMesh]]]:
    """Over ZeroMQ: three peers."""
    identities = {name: Identity.create() for name in ("a", "b", "c", "coordinator")}
    with ExitStack() as stack, ExitStack() as ports:
        free = [ports.enter_context(closed()) for _ in range(3)]
        made = make_roster(identities).to_json()
        for member, port in zip(made["members"], free, strict=True):
            member["mesh_endpoint"] = f"tcp://127.0.0.1:{port}"
        roster = Roster._from_object(made)
        ports.close()
        meshes = {}
        for member in roster.members:
            context = new_context()
            stack.callback(context.term)
            doorkeeper = stack.enter_context(Doorkeeper(context))
            meshes[member.name] = RosterMesh(context, doorkeeper, identities[member.name], roster, member.mesh_endpoint)
            stack.callback(meshes[member.name].close)
            meshes[member.name].serve(DIALBACK, DialBack(meshes[member.name]))
        yield identities, roster, meshes


def test_over_the_mesh_of_a_roster():
    with roster_meshes() as (identities, roster, meshes), listening(WORD) as link:
        question = Callback(link, WORD).to_bytes()
        report = Report.from_bytes(meshes["a"].request(identities["b"].peer_id, DIALBACK, question), "b")
        assert report.seen == "127.0.0.1"
        place = place_of(roster.members[0].mesh_endpoint)
        assert [(one.what, one.host, one.port, one.outcome) for one in report.tried] == [
            (MESH_PORT, *place, Outcome.OPEN),
            (LINK_PORT, "127.0.0.1", link, Outcome.EXPECTED),
        ]


def test_ipv6_endpoints_have_places():
    assert place_of("tcp://[::1]:7450") == ("::1", 7450)
    assert place_of("tcp://alice.example:7450") == ("alice.example", 7450)
