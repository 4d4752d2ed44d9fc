"""Predictions of a study's cases: a session's times on a network, split by what they are made of, and by site.

The split of a token: compute is what it takes with no delay and unlimited bandwidth, latency what the delays add to that, transfer
what the bandwidths add to both. So the three add up, and what overlaps is counted where it is not hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

from ....errors import UsageError
from ....network import Network, Profile
from ....party import crypten_need
from ....party.footprint import need
from ....party.links import SessionLimits
from ....protocols.pair.cost import Cost
from ....sizes import Sizes
from ..records import AS_IS, Case, Crossing, Prediction, Site
from . import plaintext
from .amounts import seconds
from .rates import Rates, load_rates
from .session import PEERS, Setting, carried, round_wait, sites_of, times, total_cost
from .subject import Subject, read_subject
from .timeline import Placement
from .work import SiteWork

ESTIMATED = ("pair", "plain", "crypten")
SWEEP_NEW = 5  # tokens of an answer that stand for all at a point of the map
WINDOW = 64 << 20


@dataclass(frozen=True, slots=True)
class Split:
    """Milliseconds of a step and what they are made of."""

    all: float
    compute: float
    latency: float
    transfer: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Everything that is known of a case before it runs. A token: the mean over the answer's."""

    subject: Subject
    protocol: str
    network: str
    prompt: int
    new: int
    first: Split  # to the first token, session set-up included
    token: Split
    rounds_per_layer: int
    prompt_cost: Cost
    token_cost: Cost  # of the last token
    dealer_ms: float  # of its own work, a token
    prompt_dealer_ms: float
    peer_ms: float  # of a compute peer's own work, a token
    setup_ms: float
    limit: str
    memory: tuple[int, int, int]  # of a session, by role
    weights: int  # bytes of the model at each compute peer


def estimate(
    subject: Subject,
    prompt: int,
    new: int,
    network: Network,
    *,
    rates: Rates | None = None,
    where: Placement | None = None,
    peers: tuple[str, str, str] = PEERS,
    protocol: str = "pair",
) -> Estimate:
    """A session of `prompt` and `new` tokens; of an encoder, a text of `prompt` tokens. `peers`: names in role order, where lines
    differ between pairs.

    UsageError for lengths that the model does not take and a protocol that is not estimated; ConfigError without rates.
    """
    check_protocol(protocol)
    if subject.spec.encoder:
        if protocol == "crypten":
            raise UsageError(f"{subject.name} is an encoder: crypten runs none; estimate pair or plain")
        new = 1  # its vector stands where a first token would
    check_lengths(subject, prompt, new)
    rates = rates or load_rates()
    if protocol == "plain":
        return _plain(subject, prompt, new, network, rates)
    subject, rates = _under(protocol, subject, rates)
    where = where or Placement(rates.cores)
    free, delayed = (Setting(net, rates, where, peers) for net in (_only(network, False), _only(network, True)))
    full = Setting(network, rates, where, peers)
    runs = [times(subject, prompt, new, one) for one in (free, delayed, full)]
    first = _split(*(1e3 * run[0] for run in runs))
    token = _split(*(1e3 * sum(run[1:]) / max(1, len(run) - 1) for run in runs)) if new > 1 else first
    last = max(prompt, prompt + new - 2) if new > 1 else prompt
    prompt_sites, token_sites = sites_of(subject, prompt, 0), _usual_step(subject, prompt, last)
    own = [1e3 * sum(seconds(getattr(site, side), rates.rates) for site in token_sites) for side in ("peer", "dealer")]
    sizes = Sizes.of([prompt], new) if subject.spec.causal else Sizes(1, prompt, prompt * prompt, prompt)
    memory = [_memory(subject, role, SessionLimits(sizes, protocol=protocol)) for role in (0, 1, 2)]
    return Estimate(
        subject=subject,
        protocol=protocol,
        network=network.text,
        prompt=prompt,
        new=new,
        first=first,
        token=token,
        rounds_per_layer=sum(site.cost.rounds for site in token_sites if site.layer == 0),
        prompt_cost=total_cost(prompt_sites),
        token_cost=total_cost(token_sites),
        dealer_ms=own[1],
        prompt_dealer_ms=1e3 * sum(seconds(site.dealer, rates.rates) for site in prompt_sites),
        peer_ms=own[0],
        setup_ms=1e3 * rates.rates["session"],
        limit=_limit(subject, prompt, new, full, token),
        memory=(memory[0], memory[1], memory[2]),
        weights=2 * subject.parameters,
    )


def check_protocol(protocol: str) -> None:
    """UsageError for one that is not estimated."""
    if protocol not in ESTIMATED:
        raise UsageError(f"no estimate for protocol {protocol!r}: only for {' and '.join(ESTIMATED)}")


def check_lengths(subject: Subject, prompt: int, new: int) -> None:
    """UsageError where the peers would refuse a request of these lengths. An encoder's vector counts for one new token."""
    if subject.spec.encoder and new != 1:
        raise UsageError(f"{subject.name} embeds texts and continues none: there are no {new} new tokens to predict")
    if prompt < 1 or new < 1:
        raise UsageError(f"a prompt of {prompt} and {new} new tokens: both must be at least 1")
    if prompt + new - 1 > subject.spec.context:
        raise UsageError(
            f"{prompt} + {new} tokens do not fit the context of {subject.name}, {subject.spec.context} tokens"
        )


def _memory(subject: Subject, role: int, limits: SessionLimits) -> int:
    if limits.protocol == "crypten":
        return crypten_need.sizes(subject.spec, role, limits, WINDOW).total
    return need(subject.spec, subject.scales, role, limits, WINDOW).total


def _under(protocol: str, subject: Subject, rates: Rates) -> tuple[Subject, Rates]:
    """What is run, and what the kernels that it calls take."""
    if protocol != "crypten":
        return subject, rates
    from . import crypten  # which brings CrypTen

    return replace(subject, protocol=protocol), replace(rates, rates={**rates.rates, **crypten.rates()})


def _only(network: Network, delays: bool) -> Network:
    """Without bandwidths, and with or without delays."""

    def changed(profile: Profile) -> Profile:
        return replace(profile, bandwidth=inf) if delays else Profile()

    return Network(changed(network.default), {pair: changed(profile) for pair, profile in network.pairs.items()})


def _split(free: float, delayed: float, full: float) -> Split:
    delayed = max(free, delayed)
    full = max(delayed, full)
    return Split(full, free, delayed - free, full - delayed)


def _usual_step(subject: Subject, prompt: int, at: int) -> tuple[SiteWork, ...]:
    """Of a token after `at` others; of an encoder the whole text's."""
    if not subject.spec.causal:
        return sites_of(subject, prompt, 0)
    return sites_of(subject, 1, min(at, subject.spec.context - 1))


def _limit(subject: Subject, prompt: int, new: int, full: Setting, token: Split) -> str:
    """The largest part of a token, in words; of an encoder, of its only step."""
    step = _usual_step(subject, prompt, prompt + new // 2)
    parts = {"compute": token.compute, "latency": token.latency, "transfer": token.transfer}
    largest = max(parts, key=lambda name: parts[name])
    if largest == "latency":
        return "latency: rounds times the delay between the compute peers"
    if largest == "compute":
        own = [sum(seconds(s.peer, full.rates.rates) for s in step)]
        own.append(sum(seconds(s.dealer, full.rates.rates) for s in step))
        return "compute: the dealer's" if own[1] > own[0] else "compute: the compute peers'"
    cost = total_cost(step)
    streamed = max(carried(size, line) for size, line in zip((cost.offline0, cost.offline1), full.dealers, strict=True))
    opened = carried(cost.online, full.between)
    return "transfer: from the dealer" if streamed > opened else "transfer: openings between the compute peers"


def _plain(subject: Subject, prompt: int, new: int, network: Network, rates: Rates) -> Estimate:
    first, token = (1e3 * one for one in plaintext.times(subject.spec, prompt, new, rates.rates))
    nothing = Cost()
    return Estimate(
        subject, "plain", network.text, prompt, new, Split(first, first, 0.0, 0.0), Split(token, token, 0.0, 0.0),
        0, nothing, nothing, 0.0, 0.0, token, 0.0, "compute: this machine, in the clear", (0, 0, 0), 4 * subject.parameters,
    )  # fmt: skip


def predict(
    case: Case,
    *,
    subject: Subject | None = None,
    network: Network | None = None,
    rates: Rates | None = None,
    where: Placement | None = None,
    peers: tuple[str, str, str] = PEERS,
) -> Prediction:
    """What a case of a study is expected to take. By default model and network are read from the case's names.

    Raises as `estimate` does, and ModelError for a model that cannot be read.
    """
    found = estimate(
        subject or read_subject(case.model),
        case.prompt_tokens,
        case.new_tokens,
        network or network_of(case),
        rates=rates,
        where=where,
        peers=peers,
        protocol=case.protocol,
    )
    token = found.token
    return Prediction(
        case, found.first.all, token.all, found.token_cost.rounds, token.compute, token.latency, token.transfer
    )


def predict_sites(
    case: Case,
    *,
    subject: Subject | None = None,
    network: Network | None = None,
    rates: Rates | None = None,
    where: Placement | None = None,
    peers: tuple[str, str, str] = PEERS,
) -> list[Site]:
    """Each place of the model in the prompt's step and in the middle token's: own work, waiting, bytes. `pair` alone."""
    if case.protocol != "pair":
        return []
    rates = rates or load_rates()
    subject = subject or read_subject(case.model)
    check_lengths(subject, case.prompt_tokens, case.new_tokens)
    setting = Setting(network or network_of(case), rates, where or Placement(rates.cores), peers)
    middle = min(case.prompt_tokens + case.new_tokens // 2, subject.spec.context - 1)
    out = []
    for phase, tokens, start in (("prompt", case.prompt_tokens, 0), ("token", 1, middle)):
        for site in sites_of(subject, tokens, start):
            cost = site.cost
            busy = cost.rounds * rates.rates["round.cpu"]
            waited = round_wait(setting, cost.rounds, cost.online) if cost.rounds else 0.0
            out.append(
                Site(
                    case, phase, site.site, site.kind, site.layer, cost.rounds, 2 * cost.online,
                    cost.offline0 + cost.offline1, 1e3 * seconds(site.peer, rates.rates), 1e3 * waited, 1e3 * busy,
                )
            )  # fmt: skip
    return out


def network_of(case: Case) -> Network:
    """From `Case.network`, which is a `Network.text`; as it is: of this machine, without shaping."""
    if case.network == AS_IS:
        return Network(Profile())
    return Network.parse(part.strip() for part in case.network.split(";"))


def crossings(
    subject: Subject,
    protocols: Iterable[str],
    rtts: Sequence[float],
    bandwidths: Sequence[float],
    *,
    prompt: int = 32,
    rates: Rates | None = None,
    where: Placement | None = None,
) -> list[Crossing]:
    """Predicted milliseconds of a token at every point: round trips in seconds, bandwidths in bits per second.

    The token is one of the first after a prompt of `prompt` tokens.
    """
    rates = rates or load_rates()
    out = []
    for protocol in protocols:
        for rtt in rtts:
            for bandwidth in bandwidths:
                network = Network(Profile(rtt=rtt, bandwidth=bandwidth))
                token = _token_ms(subject, protocol, prompt, network, rates, where or Placement(rates.cores))
                out.append(Crossing(protocol, subject.name, 1e3 * rtt, bandwidth / 1e6, token))
    return out


def _token_ms(
    subject: Subject, protocol: str, prompt: int, network: Network, rates: Rates, where: Placement
) -> float:  # fmt: skip
    check_protocol(protocol)
    check_lengths(subject, prompt, SWEEP_NEW)
    if protocol == "plain":
        return 1e3 * plaintext.times(subject.spec, prompt, SWEEP_NEW, rates.rates)[1]
    subject, rates = _under(protocol, subject, rates)
    found = times(subject, prompt, SWEEP_NEW, Setting(network, rates, where))
    return 1e3 * sum(found[1:]) / len(found[1:])
