"""One session's steps as pieces of work on a given network: counts times rates, rounds times delays, bytes over bandwidth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf

from ....frames import PART
from ....kernels.dpf.keygen import one_hot_depth, one_hot_key_bytes
from ....network import CLIENT, Network, Profile
from ....party.engine import AHEAD_BYTES, AHEAD_REFRESH
from ....party.links import AHEAD_STEPS
from ....protocols.pair.cost import Cost
from ....protocols.pair.party import MESSAGE
from ....shaping import FRAMING, SEGMENT, WRAPPING, line_seconds
from ....sizes import STEP_TOKENS
from .amounts import seconds
from .rates import Rates
from .subject import Subject
from .timeline import Piece, Placement, Step, run
from .work import SiteWork, step_work

HEADER = 80  # bytes of a frame beside its body: session, sequence, kind, fields, time
PIECE = 1 << 20  # bytes of correlations that travel and are used as one
MOST_PIECES = 8  # of a site
MOST_SITES = 20_000  # in one timeline; a longer answer is sampled
MOST_LOST = 12  # times in a row that a segment is lost, at most
PEERS = ("peer-0", "peer-1", "peer-2")  # in role order, as `tacit up` names them


@dataclass(frozen=True)
class Setting:
    """Where a session runs: lines by name of the party, cores, rates. `peers` in role order."""

    network: Network
    rates: Rates
    where: Placement = field(default_factory=Placement)
    peers: tuple[str, str, str] = PEERS

    @property
    def between(self) -> Profile:
        """The line of the two compute peers."""
        return self.network.between(self.peers[0], self.peers[1])

    @property
    def dealers(self) -> tuple[Profile, Profile]:
        return self.network.between(self.peers[2], self.peers[0]), self.network.between(self.peers[2], self.peers[1])

    @property
    def clients(self) -> tuple[Profile, Profile]:
        return self.network.between(CLIENT, self.peers[0]), self.network.between(CLIENT, self.peers[1])

    @property
    def one_machine(self) -> bool:
        return self.where.machines == 1


def carried(size: float, line: Profile) -> float:
    """Seconds that a line takes for a stream of `size` bytes, segments that are lost and sent again with them."""
    if line.bandwidth == inf:
        return 0.0
    return 8 * size * (1 + FRAMING / SEGMENT) / (line.bandwidth * (1 - line.loss))


def message(size: int, line: Profile, both: bool = True) -> float:
    """Mean seconds from sending a message of `size` bytes to its delivery; with `both`, of the later of two such.

    Jitter: the later of two is a third of it behind its mean. Loss: a round trip more for each time in a row that any of
    the segments is lost.
    """
    packed = size + HEADER + (1 + ceil(size / PART)) * WRAPPING
    segments = (2 if both else 1) * ceil(packed / SEGMENT)
    again = sum(1 - (1 - line.loss**times) ** segments for times in range(1, MOST_LOST)) if line.loss else 0.0
    spread = line.jitter / 3 if both else 0.0
    wire = 0.0 if line.bandwidth == inf else line_seconds(packed, line) / (1 - line.loss)
    return line.one_way + spread + again * line.rtt + wire


def sites_of(subject: Subject, tokens: int, start: int) -> tuple[SiteWork, ...]:
    """Every site of a step."""
    if subject.protocol == "crypten":
        from . import crypten  # which brings CrypTen

        return tuple(crypten.step_work(subject.spec, subject.ranges, tokens, start))
    return tuple(step_work(subject.spec, subject.scales, tokens, start))


def round_wait(setting: Setting, rounds: int, size: int) -> float:
    """Seconds that a site's rounds are waited for, `size` bytes being sent by either peer."""
    rates, line = setting.rates.rates, setting.between
    idle = rounds * (rates["round"] - rates["round.cpu"]) + size * rates["round.byte"]
    way = rounds * message(size // rounds, line)
    # On one machine the line is held messages: what software takes to deliver them passes meanwhile.
    return max(idle, way) if setting.one_machine else idle + way


def pieces_of(setting: Setting, sites: Sequence[SiteWork]) -> list[Piece]:
    """The sites of a step, local ones joined to the next one that opens something."""
    rates = setting.rates.rates
    lines = setting.dealers
    out: list[Piece] = []
    first, held = 0, 0.0  # of the message that the dealer is filling: the piece it begins with, and bytes
    deal = compute = 0.0
    for site in sites:
        deal += seconds(site.dealer, rates)
        compute += seconds(site.peer, rates)
        cost = site.cost
        if not cost.rounds and site is not sites[-1]:
            continue
        compute += cost.rounds * rates["round.cpu"]
        sizes = (cost.offline0, cost.offline1)
        carry = sum(sizes) * rates["stream.byte"]
        line = max(carried(size, profile) for size, profile in zip(sizes, lines, strict=True))
        wait = round_wait(setting, cost.rounds, cost.online) if cost.rounds else 0.0
        parts = min(MOST_PIECES, 1 + max(sizes) // PIECE)
        for _ in range(parts):
            out.append(Piece(deal / parts, carry / parts, line / parts, compute / parts, wait / parts))
            held += max(sizes) / parts
            if held >= MESSAGE:
                out[first:] = _as_one(out[first:])
                first, held = len(out), 0.0
        deal = compute = 0.0
    out[first:] = _as_one(out[first:])
    return out


def _as_one(pieces: Sequence[Piece]) -> list[Piece]:
    """The dealer sends their correlations as one message: the first of them has to wait for all."""
    if not pieces:
        return []
    whole = replace(
        pieces[0],
        deal=sum(one.deal for one in pieces),
        carry=sum(one.carry for one in pieces),
        line=sum(one.line for one in pieces),
    )
    return [whole, *(replace(one, deal=0.0, carry=0.0, line=0.0) for one in pieces[1:])]


def ahead_of(cost: Cost) -> int:
    """The window of `party.engine` for a token step of this cost."""
    return min(AHEAD_STEPS, AHEAD_BYTES // max(1, cost.offline1))


def total_cost(sites: Sequence[SiteWork]) -> Cost:
    return sum((site.cost for site in sites), Cost())


def starts_of(subject: Subject, prompt: int, new: int) -> list[int]:
    """Cached tokens before each single-token step; of a very long answer an even sample."""
    steps = max(0, new - 1)
    most = max(4, MOST_SITES // (13 * subject.spec.layers))
    if steps <= most:
        return [prompt + i for i in range(steps)]
    return [prompt + i * (steps - 1) // (most - 1) for i in range(most)]


def times(subject: Subject, prompt: int, new: int, setting: Setting) -> list[float]:
    """Seconds to the first token, session set-up included, and from each token to the next (sampled for long answers)."""
    spec, rates = subject.spec, setting.rates.rates
    key_bytes, logits = one_hot_key_bytes(spec.vocab), 4 * spec.revealed
    software = rates["way"]

    def way(size: int) -> float:
        line = max(message(size, line) for line in setting.clients)
        own = software + size * rates["round.byte"]
        return max(own, line) if setting.one_machine else own + line

    def keys(tokens: int) -> float:
        return tokens * seconds({"client.key": 1, "client.level": one_hot_depth(spec.vocab)}, rates)

    decode = seconds({"client.step": 1, "client.logit": spec.revealed}, rates)
    most = STEP_TOKENS if spec.causal else prompt
    chunks = [(min(most, prompt - at), at) for at in range(0, prompt, most)]
    ahead = 0
    steps = []
    for number, (tokens, start) in enumerate([*chunks, *((1, start) for start in starts_of(subject, prompt, new))]):
        sites = sites_of(subject, tokens, start)
        if number % AHEAD_REFRESH == 0:
            following = sites if number or not spec.causal else sites_of(subject, 1, min(prompt, spec.context - 1))
            ahead = ahead_of(total_cost(following))
        steps.append(
            Step(pieces_of(setting, sites), keys(tokens) + way(tokens * key_bytes), way(logits) + decode, ahead)
        )
    to_dealer = max(message(0, line, both=False) for line in setting.dealers)
    if setting.one_machine:
        to_dealer = max(to_dealer, software)
    else:
        to_dealer += software
    found = run(steps, setting.where, to_dealer)
    return [sum(found[: len(chunks)]) + rates["session"], *found[len(chunks) :]]
