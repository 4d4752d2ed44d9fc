"""tacit doctor --node: real sockets and real meshes on this machine; addresses of elsewhere as a member would report them."""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from local_mesh import LocalMesh, make_roster
from meshes import P2pMeshes, eventually
from ports import closed, listening, silent
from tacit import __version__
from tacit.client.doctor import inbound, node
from tacit.client.doctor.examine_node import MEMBERSHIP, SETTINGS, examine_node
from tacit.client.doctor.finding import Finding, Verdict
from tacit.client.doctor.inbound import INBOUND, TRANSLATED, answering, interpret
from tacit.client.doctor.node import IDENTITY, LISTEN, OTHERS, Inbound, Other, check_inbound, check_others, check_port
from tacit.members import Roster
from tacit.party.dialback import DialBack, Report, Tried
from tacit.party.identity import Identity, rotate
from tacit.party.mesh import DIALBACK
from tacit.party.roster import RosterMesh
from tacit.party.zap import Doorkeeper
from tacit.reach import Outcome, knock
from tacit.zmqlink import new_context

OWN, PUBLIC, ROUTER = "192.168.1.5", "8.8.4.4", "9.9.9.9"


def report(outcome: Outcome, host: str = OWN, seen: str = OWN, **changes: Any) -> Report:
    facts = {"version": __version__, "clock": int(time.time()), **changes}
    return Report(
        Report.CONTEXT, seen, (Tried("mesh", host, 7450, outcome), Tried("link", host, 7460, outcome)), **facts
    )


def causes(findings: list[Finding]) -> list[str]:
    return [one.cause for one in findings if one.verdict in (Verdict.WARN, Verdict.FAIL)]


@pytest.mark.parametrize(
    ("outcome", "host", "seen", "expected"),
    [
        (Outcome.EXPECTED, OWN, OWN, []),
        (Outcome.EXPECTED, ROUTER, ROUTER, []),  # behind NAT, and forwarded
        (Outcome.REFUSED, OWN, OWN, ["closed", "closed"]),
        (Outcome.TIMEOUT, OWN, OWN, ["filtered", "filtered"]),
        (Outcome.REFUSED, ROUTER, ROUTER, ["nat", "closed", "closed"]),
        (Outcome.TIMEOUT, ROUTER, ROUTER, ["nat", "filtered", "filtered"]),
        (Outcome.UNTRIED, OWN, ROUTER, ["nat", "private address", "private address"]),
        (Outcome.UNREACHABLE, OWN, OWN, ["wrong address", "wrong address"]),
        (Outcome.UNKNOWN, "alice.example", OWN, ["wrong address", "wrong address"]),
        (Outcome.OPEN, OWN, OWN, ["other program", "other program"]),
        (Outcome.REFUSED, OWN, "", ["closed", "closed"]),
    ],
)
def test_what_a_member_saw_is_told_apart(outcome, host, seen, expected):
    findings = interpret(report(outcome, host, seen), "bob", {OWN}, ("mesh", "link"))
    assert causes(findings) == expected
    assert all(one.advice for one in findings if one.cause)


def test_advice_fits_the_case():
    def advice(outcome: Outcome, host: str, seen: str) -> str:
        return " ".join(one.advice for one in interpret(report(outcome, host, seen), "bob", {OWN}, ("mesh", "link")))

    assert f"--advertise {ROUTER}" in advice(Outcome.UNTRIED, OWN, ROUTER)
    assert "forward TCP 7450, 7460" in advice(Outcome.REFUSED, ROUTER, ROUTER)
    assert "forward" not in advice(Outcome.REFUSED, OWN, OWN)
    assert "firewall" in advice(Outcome.TIMEOUT, OWN, OWN)


def test_a_running_peer_answers_in_its_own_words():
    findings = interpret(report(Outcome.OPEN), "bob", {OWN}, ("link",))
    assert causes(findings) == ["other program"]  # the link's port only


# Ports and ways ----------------------------------------------------------------------------------------------------------


def test_own_port():
    with listening() as port:
        found, free = check_port("127.0.0.1", port)
        assert (found.check, found.cause, free) == (LISTEN, "in use", False)
    found, free = check_port("127.0.0.1", port)
    assert (found.verdict, free) == (Verdict.OK, True)
    found, free = check_port(PUBLIC, 7450)
    assert (found.cause, free) == ("wrong address", False)
    assert "--advertise" in found.advice


def other(name: str, port: int, host: str = "127.0.0.1") -> Other:
    return Other(name, name, ((host, port),))


def test_the_way_to_the_others():
    def quick(host: str, port: int):
        return knock(host, port, 0.4)

    with listening() as there, closed() as refusing, silent() as dropping:
        found, reached = check_others([other("bob", there), other("carol", refusing), other("dora", dropping)], quick)
        assert (found.verdict, found.cause) == (Verdict.WARN, "closed")
        assert f"carol: 127.0.0.1:{refusing} refuses" in found.seen
        assert f"dora: 127.0.0.1:{dropping} does not answer" in found.seen
        assert [one.display for one in reached] == ["bob"]
        found, _ = check_others([other("dora", dropping)], quick)
        assert (found.verdict, found.cause) == (Verdict.FAIL, "filtered")
    found, _ = check_others([other("eve", 7450, "no-such-host.invalid")])
    assert (found.verdict, found.cause) == (Verdict.FAIL, "name")
    found, _ = check_others([])
    assert (found.check, found.cause) == (OTHERS, "alone")


def test_our_listeners_say_the_word():
    word = secrets.token_bytes(16)
    with answering([("127.0.0.1", 0), ("127.0.0.1", 0)], word) as ports:
        for port in ports:
            assert knock("127.0.0.1", port, expected=word).outcome is Outcome.EXPECTED
    assert [knock("127.0.0.1", port).outcome for port in ports] == [Outcome.REFUSED] * 2


def test_a_members_clock_and_version():
    identities = {name: Identity.create() for name in ("alice", "bob", "carol", "coordinator")}
    roster, hall = make_roster(identities), {}
    mine, theirs = (LocalMesh(hall, identities[name].peer_id, roster) for name in ("alice", "bob"))
    member = roster.members[1]
    bob = Other(member.display, member.peer_id, (("127.0.0.1", 1),))
    place = Inbound(("127.0.0.1", 0), "127.0.0.1", None, running=True)

    def asked(**changes: Any) -> list[Finding]:
        theirs.serve(
            DIALBACK, lambda sender, question: report(Outcome.OPEN, "127.0.0.1", "127.0.0.1", **changes).to_bytes()
        )
        return [one for one in check_inbound(mine, [bob], place, own=()) if one.check in (node.CLOCK, node.VERSION)]

    assert causes(asked()) == []
    assert causes(asked(clock=int(time.time()) - 100)) == ["clock"]
    assert causes(asked(clock=int(time.time()) + 100)) == ["clock"]
    assert causes(asked(version="0.0.1")) == ["version"]
    theirs.close()
    (found,) = check_inbound(mine, [bob], place, own=())
    assert (found.verdict, found.cause) == (Verdict.WARN, "unanswered")
    assert check_inbound(mine, [], place, own=())[0].verdict is Verdict.SKIPPED


def test_ports_for_links_that_are_all_in_use():
    with listening() as port:
        place = Inbound(("127.0.0.1", 0), "127.0.0.1", (port, port), running=True)
        (found,) = check_inbound(LocalMesh({}, "x", None), [other("bob", 1)], place, own=())  # type: ignore[arg-type]
    assert (found.verdict, found.cause) == (Verdict.FAIL, "port")
    assert "in use" in found.seen


# A peer of a cluster.json ------------------------------------------------------------------------------------------------


@contextmanager
def cluster_file(folder: Path) -> Iterator[tuple[dict[str, Identity], Roster, list[str]]]:
    """bob and carol are running; the options are alice's."""
    identities = {name: Identity.create() for name in ("alice", "bob", "carol", "coordinator")}
    with ExitStack() as stack, ExitStack() as ports:
        found = make_roster(identities).to_json()
        for member in found["members"]:
            member["mesh_endpoint"] = f"tcp://127.0.0.1:{ports.enter_context(closed())}"
        ports.close()
        roster = Roster._from_object(found)
        roster.save(folder / "cluster.json")
        identities["alice"].save(folder / "alice.identity")
        for member in roster.members[1:]:
            context = new_context()
            stack.callback(context.term)
            doorkeeper = stack.enter_context(Doorkeeper(context))
            mesh = RosterMesh(context, doorkeeper, identities[member.name], roster, member.mesh_endpoint)
            stack.callback(mesh.close)
            mesh.serve(DIALBACK, DialBack(mesh))
        yield (
            identities,
            roster,
            ["--identity", str(folder / "alice.identity"), "--roster", str(folder / "cluster.json")],
        )


def test_a_peer_in_order(tmp_path):
    with cluster_file(tmp_path) as (_, _, options):
        findings = examine_node(options)
    assert causes(findings) == []
    inbound_ones = [one for one in findings if one.check.startswith(INBOUND)]
    assert len(inbound_ones) == 4  # two members, two ports
    assert [one.seen.startswith("bob") for one in inbound_ones] == [True, True, False, False]


def test_a_peer_that_is_running(tmp_path):
    with cluster_file(tmp_path) as (_, roster, options):
        port = int(roster.members[0].mesh_endpoint.rpartition(":")[2])
        with listening(port=port):
            findings = examine_node(options)
    assert causes(findings) == ["in use"]
    assert sum(one.check.startswith(INBOUND) and one.verdict is Verdict.OK for one in findings) == 4


def test_a_peer_whose_advertised_address_is_not_its_own(tmp_path):
    with cluster_file(tmp_path) as (_, roster, options):
        port = int(roster.members[0].mesh_endpoint.rpartition(":")[2])
        findings = examine_node([*options, "--mesh-listen", f"tcp://127.0.0.2:{port}", "--host", "127.0.0.2"])
    assert set(causes(findings)) == {"closed"}


def test_another_program_at_the_advertised_address(tmp_path):
    with cluster_file(tmp_path) as (_, roster, options):
        port = int(roster.members[0].mesh_endpoint.rpartition(":")[2])
        with listening(b"220 mail ready\r\n", port=port):
            findings = examine_node([*options, "--mesh-listen", f"tcp://127.0.0.2:{port}"])
    assert set(causes(findings)) == {"other program"}


def test_identities_and_rosters_that_do_not_fit(tmp_path):
    with cluster_file(tmp_path) as (_, _, options):
        path = tmp_path / "alice.identity"
        path.chmod(0o640)
        (found,) = examine_node(options)
        assert (found.check, found.verdict) == (IDENTITY, Verdict.FAIL)
        assert found.advice == f"chmod 600 {path}"
        path.chmod(0o600)
        new = rotate(path)
        found = examine_node(options)[-1]
        assert (found.check, found.cause) == (MEMBERSHIP, "roster")
        assert new.peer_id in found.seen
        path.unlink()
        (found,) = examine_node(options)
        assert (found.check, found.verdict) == (IDENTITY, Verdict.FAIL)
        assert "identity new" in found.advice
        (tmp_path / "cluster.json").write_text("{}")
        Identity.create().save(path)
        assert examine_node(options)[-1].cause == "roster"


def test_options_that_do_not_fit():
    (found,) = examine_node(["--roster", "cluster.json", "--join", "x"])
    assert (found.check, found.cause) == (SETTINGS, "settings")
    (found,) = examine_node(["--link-ports", "9-1"])
    assert (found.check, found.cause) == (SETTINGS, "settings")
    with pytest.raises(SystemExit):
        examine_node(["--nonsense"])


# A peer of a libp2p mesh -------------------------------------------------------------------------------------------------


@pytest.fixture
def mesh(tmp_path, monkeypatch) -> Iterator[tuple[P2pMeshes, list[str]]]:
    """peer-0 and peer-1 are running; the options are of a peer that joins them."""
    for name in [name for name in os.environ if name.startswith("TACIT_")]:
        monkeypatch.delenv(name)
    found = P2pMeshes(("peer-0", "peer-1"))
    for one in found.meshes.values():
        one.serve(DIALBACK, DialBack(one))
    with closed() as port:
        pass
    Identity.create().save(tmp_path / "peer.identity")
    yield (
        found,
        [
            "--identity", str(tmp_path / "peer.identity"), "--listen", f"/ip4/127.0.0.1/tcp/{port}", "--no-mdns",
            "--operator", "Alice", "--name", "alice", "--join", found.address("peer-0"), "--invite", found.invite.text,
        ],
    )  # fmt: skip
    found.close()


def test_a_peer_that_joins(mesh):
    findings = examine_node(mesh[1])
    assert causes(findings) == []
    assert sum(one.check.startswith(INBOUND) for one in findings) == 4
    assert any(one.check == TRANSLATED and "127.0.0.1" in one.seen for one in findings)
    assert logging.getLogger("tacit").level != logging.CRITICAL


def test_coordinators_dial_back_as_well(mesh):
    there, options = mesh
    there.identities["coordinator"] = Identity.create()
    there.start("coordinator").serve(DIALBACK, lambda *_: report(Outcome.OPEN, "127.0.0.1", "127.0.0.1").to_bytes())
    there.meshes["peer-1"].close()
    wanted = there.identities["coordinator"].peer_id
    eventually(lambda: there.meshes["peer-0"].members.is_coordinator(wanted))
    findings = examine_node(options)
    assert any("coordinator (" in one.seen for one in findings if one.check.startswith(INBOUND))


def test_a_peer_that_is_not_let_in(mesh):
    from tacit.party.p2p.invite import Invite

    _, options = mesh
    findings = examine_node([*options[:-1], Invite.create("test").text])
    assert (findings[-1].check, findings[-1].cause) == (MEMBERSHIP, "membership")


def test_a_peer_whose_clock_is_wrong_is_not_let_in_for_that_reason(mesh, monkeypatch):
    from tacit.party.p2p import mesh as module

    real = module.now_ms
    monkeypatch.setattr(module, "now_ms", lambda: real() + 600_000)
    findings = examine_node(mesh[1])
    assert (findings[-1].check, findings[-1].cause) == (MEMBERSHIP, "clock")
    assert "NTP" in findings[-1].advice


def test_a_join_address_where_nobody_listens(mesh):
    there, options = mesh
    there.meshes["peer-0"].close()
    findings = examine_node(options)
    assert next(one for one in findings if one.check == OTHERS).cause == "closed"
    assert (findings[-1].check, findings[-1].cause) == (MEMBERSHIP, "alone")


def test_a_mesh_port_that_is_in_use(mesh):
    there, options = mesh
    taken = there.address("peer-1").rpartition("/p2p/")[0]
    findings = examine_node([*options, "--listen", taken])
    assert causes(findings) == ["in use"]
    assert findings[-1].verdict is Verdict.SKIPPED


def test_a_missing_operator_or_identity(mesh, tmp_path):
    _, options = mesh
    at = options.index("--operator")
    findings = examine_node(options[:at] + options[at + 2 :])
    assert (findings[-1].check, findings[-1].cause) == (SETTINGS, "settings")
    assert "--operator" in findings[-1].seen
    (tmp_path / "peer.identity").unlink()
    assert examine_node(options)[-1].check == IDENTITY
    assert not (tmp_path / "peer.identity").exists()


def test_a_node_that_would_found_a_cluster(mesh, tmp_path):
    _, options = mesh
    findings = examine_node(options[: options.index("--join")])
    assert (findings[-1].check, findings[-1].cause) == (MEMBERSHIP, "alone")
    assert [path.name for path in tmp_path.iterdir()] == ["peer.identity"]  # nothing was founded


def test_without_libp2p(monkeypatch, tmp_path):
    Identity.create().save(tmp_path / "peer.identity")
    monkeypatch.setitem(sys.modules, "libp2p", None)
    findings = examine_node(["--operator", "Alice", "--identity", str(tmp_path / "peer.identity")])
    assert findings[0].cause == "package"
    assert "[mesh]" in findings[0].advice
    assert json.dumps([one.to_json() for one in findings])
    assert [one.check for one in findings] == [node.LIBP2P, IDENTITY, inbound.INBOUND]
