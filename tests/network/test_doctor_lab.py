"""tacit doctor --node between machines: what a member sees of closed, filtered and translated addresses is told apart.

bob runs a real node of a libp2p mesh; alice's machine asks it to dial back. Firewall and NAT are the kernel's (nft).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, Node, ip, why_not

pytestmark = pytest.mark.skipif(bool(reason := why_not()), reason=str(reason))
pytest.importorskip("libp2p", reason="the [mesh] extra is not installed")
needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="no `nft` here (package nftables)")

PEER = Path(__file__).resolve().parents[1] / "party" / "echo_peer.py"
TACIT = [sys.executable, "-P", "-m", "tacit.client.cli"]
PORT = 7450


class Machines:
    """bob, who is up and can be joined, carol, where nothing listens, and alice, who is examined."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.alice, self.bob, self.carol = (lab.add(name) for name in ("alice", "bob", "carol"))
        identity = self.bob.folder / "bob.identity"
        options = ["--identity", str(identity), "--operator", "Bob", "--name", "bob", "--no-mdns"]
        peer = self.bob.start("peer", [sys.executable, "-P", str(PEER), "echo", *options])
        self.join = peer.event(30)["ready"]["multiaddrs"][0]
        self.invite = identity.with_name(identity.name + ".cluster").read_text().strip()
        done = self.alice.run([*TACIT, "identity", "new", str(self.alice.folder / "alice.identity")])
        assert done.returncode == 0, done.stderr

    def doctor(self, *options: str) -> list[dict[str, Any]]:
        """What alice's doctor finds."""
        command = [
            *TACIT, "doctor", "--node", "--json", "--identity", str(self.alice.folder / "alice.identity"), "--no-mdns",
            "--operator", "Alice", "--name", "alice", "--join", self.join, "--invite", self.invite,
            "--link-ports", "7460-7469", *options,
        ]  # fmt: skip
        done = self.alice.run(command, 60)
        assert done.stdout, done.stderr
        told = json.loads(done.stdout)
        assert done.returncode == (0 if told["good"] else 1)
        return told["findings"]


def causes(findings: list[dict[str, Any]]) -> dict[str, str]:
    """Of what is not in order: which check found which cause."""
    return {one["check"]: one["cause"] for one in findings if one["verdict"] in ("warn", "fail")}


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with Lab(tmp_path) as lab:
        yield Machines(lab)


def nft(node: Node, rules: str) -> None:
    done = node.run(["nft", rules])
    assert done.returncode == 0, done.stderr


MESH, LINK, SEEN = (
    "reached from outside: mesh port", "reached from outside: link port (sessions)", "address as seen from outside",
)  # fmt: skip


def test_in_order_then_closed_then_another_address(machines):
    alice, carol = machines.alice, machines.carol
    findings = machines.doctor()
    assert causes(findings) == {}
    assert {one["check"] for one in findings} >= {MESH, LINK, SEEN}
    # carol's machine refuses what comes for alice
    findings = machines.doctor("--advertise", carol.address)
    assert causes(findings) == {MESH: "closed", LINK: "closed"}
    assert all(f"from {carol.address} to this machine" in one["advice"] for one in findings if one["cause"])
    # alice has a second address, and listens on the first only
    ip("-n", alice.namespace, "address", "add", "10.77.0.100/24", "dev", "eth0")
    findings = machines.doctor("--listen", f"/ip4/{alice.address}/tcp/{PORT}", "--advertise", "10.77.0.100")
    assert causes(findings) == {MESH: "closed", LINK: "closed"}
    assert all("--listen" in one["advice"] for one in findings if one["cause"])
    # an address that no way leads to
    findings = machines.doctor("--advertise", "172.31.0.1")
    assert causes(findings) == {MESH: "wrong address", LINK: "wrong address"}


@needs_nft
def test_a_firewall(machines):
    nft(machines.alice, "add table inet wall")
    nft(machines.alice, "add chain inet wall input { type filter hook input priority 0; }")
    nft(machines.alice, f"add rule inet wall input tcp dport {PORT} drop")
    findings = machines.doctor()
    assert causes(findings) == {MESH: "filtered"}
    assert f"open TCP port {PORT}" in next(one["advice"] for one in findings if one["cause"])
    nft(machines.alice, "add rule inet wall input tcp dport 7460-7469 reject with tcp reset")
    assert causes(machines.doctor()) == {MESH: "filtered", LINK: "closed"}


@needs_nft
def test_nat(machines):
    """alice is behind a router, first as it comes, then with the router's address advertised, then forwarded."""
    alice, router = machines.alice, machines.lab.add("router")
    ip("-n", alice.namespace, "link", "del", "eth0")
    ip("-n", router.namespace, "link", "add", "inner", "type", "veth", "peer", "name", "eth0", "netns", alice.namespace)
    ip("-n", router.namespace, "address", "add", "192.168.7.1/24", "dev", "inner")
    ip("-n", router.namespace, "link", "set", "inner", "up")
    ip("-n", alice.namespace, "address", "add", "192.168.7.2/24", "dev", "eth0")
    ip("-n", alice.namespace, "link", "set", "eth0", "up")
    ip("-n", alice.namespace, "route", "add", "default", "via", "192.168.7.1")
    assert router.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).returncode == 0
    nft(router, "add table ip nat")
    nft(router, "add chain ip nat out { type nat hook postrouting priority 100; }")
    nft(router, "add rule ip nat out oifname eth0 masquerade")

    findings = machines.doctor()
    assert causes(findings) == {SEEN: "nat", MESH: "wrong address", LINK: "wrong address"}
    seen = next(one for one in findings if one["check"] == SEEN)
    assert f"sees this machine as {router.address}" in seen["seen"]
    assert f"--advertise {router.address}" in seen["advice"]

    findings = machines.doctor("--advertise", router.address)
    assert causes(findings) == {SEEN: "nat", MESH: "closed", LINK: "closed"}

    nft(router, "add chain ip nat in { type nat hook prerouting priority -100; }")
    nft(router, f"add rule ip nat in iifname eth0 tcp dport {{ {PORT}, 7460-7469 }} dnat to 192.168.7.2")
    findings = machines.doctor("--advertise", router.address)
    assert causes(findings) == {}
    assert "behind NAT, and forwarded" in next(one["seen"] for one in findings if one["check"] == SEEN)
