"""A real peer process around test engines: everything but the mathematics. Run as a script by `echo_cluster`.

Compute peers exchange what the client sent them, mix in what the dealer sent, and answer; the dealer sends one block a
step, ahead of use. Both also compare the seeds that each pair should share.
"""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tacit.errors import PeerError
from tacit.link import Link
from tacit.party.budget import Need
from tacit.party.links import ComputeLinks, DealerLinks, SessionLimits
from tacit.party.process import leave
from tacit.party.server import main
from tacit.party.session import Engines
from tacit.sizes import Sizes

WIDTH = 1024
STALL, BREAK, NONSENSE = 101, 102, 103  # prompts of so many tokens make compute peer 1 stall, break, misbehave
SECRET = "the owl opened the small door"  # in the exception of BREAK; must never be seen outside


@dataclass(frozen=True)
class EchoModel:
    name: str = "echo"
    manifest: bytes = b'{"name":"echo"}'
    tokenizer: bytes | None = b'{"model":"none"}'
    summary: dict[str, Any] = field(default_factory=lambda: {"vocab": WIDTH, "context": 512, "layers": 1})

    @property
    def manifest_hash(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()


@dataclass(frozen=True)
class WeighedEcho(EchoModel):
    """One that says what its sessions need: 1 MB a token, and little room for what comes unread."""

    name: str = "weighed"

    def need(self, role: int, sizes: Sizes, protocol: str = "pair", padded: bool = False) -> Need:
        others = {0, 1, 2, 3} - {role}
        return Need((sizes.kept_tokens + 1) * 10**6, dict.fromkeys(others, 1 << 20), dict.fromkeys(others, 4 << 20))


def same_seed(link: Link) -> None:
    mine = hashlib.sha256(link.seed(b"test")).digest()
    link.send("seed", mine)
    if bytes(link.receive("seed", size=32).body) != mine:
        raise PeerError(link.remote, "holds another seed")


def compute(role: int, model: EchoModel, links: ComputeLinks, limits: SessionLimits) -> None:
    for link in (links.peer, links.dealer):
        same_seed(link)
    step = 0
    while True:
        patience = limits.patience.between if step else limits.patience.first
        message = links.client.receive(("tokens", "end"), timeout=patience)
        if message.kind == "end":
            links.dealer.send("end")
            links.client.send("account", steps=step, rounds=step)
            return
        mine = np.frombuffer(message.body, np.uint64)
        if role == 1 and limits.sizes.step_tokens == STALL:
            time.sleep(60)
        if role == 1 and limits.sizes.step_tokens == BREAK:
            raise ValueError(SECRET)
        if role == 1 and limits.sizes.step_tokens == NONSENSE:
            links.peer.send("nonsense", mine)
        links.peer.send("open", mine, step=step)
        theirs = np.frombuffer(links.peer.receive("open", size=mine.nbytes).body, np.uint64)
        block = np.frombuffer(links.dealer.receive("block", size=8 * WIDTH).body, np.uint64)
        links.client.send("logits", mine + theirs + block[: mine.size], step=step)
        step += 1


def dealer(model: EchoModel, links: DealerLinks, limits: SessionLimits) -> None:
    for link in (links.peer0, links.peer1):
        same_seed(link)
    for step in range(limits.sizes.kept_tokens - limits.sizes.step_tokens + 2):
        for link in (links.peer0, links.peer1):
            link.send("block", np.full(WIDTH, step, np.uint64))
    for link in (links.peer0, links.peer1):
        link.receive("end")


if __name__ == "__main__":
    names = sys.argv.pop(1).split(",")
    models = [WeighedEcho() if name == "weighed" else EchoModel(name) for name in names]
    leave(main(engines=Engines(compute, dealer), models=models))
