"""The kernel's stack in a study: answers over lines that it uses, and single transfers over both kinds of line."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...errors import NetworkError, UsageError
from ...network import Network
from ..lines.checks import measure_lines
from ..lines.cluster import ForwardedCluster
from ..lines.lay import check, how, why_not
from .bench import ClientBench, Say
from .plan import ModelFact
from .records import Answer, Case, LineCheck

__all__ = ["ForwardedBench", "check_lines", "why_not"]


class ForwardedBench:
    """A cluster started for the study whose parties are in namespaces of their own, and its client in another."""

    def __init__(self, model: ModelFact, network: Network, *, say: Say = lambda what: None) -> None:
        """`network`: of the lines until `set_network`. Raises ConfigError without the privileges that this takes,
        UsageError for lines that cannot be carried as they say."""
        self._network = network
        self._cluster = ForwardedCluster(model=model.given, lines=network).start(say)
        try:
            with self._cluster.inside():
                self._client = ClientBench(model, self._cluster.roster_path)
        except BaseException:
            self._cluster.stop()
            raise

    def set_network(self, network: Network | None) -> None:
        if network is not None and network != self._network:
            check_carried(network)
            self._cluster.set_lines(network)
            self._network = network

    def answer(self, case: Case, repetition: int) -> Answer:
        with self._cluster.inside():
            return self._client.answer(case, repetition)

    def check(self) -> None:
        self._cluster.check()

    def close(self) -> None:
        try:
            with self._cluster.inside():
                self._client.close()
        finally:
            self._cluster.stop()


def check_carried(network: Network) -> None:
    """Raises UsageError for a network that could only be carried otherwise than it says here."""
    for profile in (network.default, *network.pairs.values()):
        check(profile, how())


def check_lines(networks: Iterable[Network], repeat: int, say: Callable[[str], None]) -> list[LineCheck]:
    """Every transfer over both kinds of line, for the line that most pairs have; `say` hears of those that cannot be carried or broke.

    About ten seconds for each `repeat` of a line with 100 Mbit/s. Raises ConfigError as `measure_lines` does.
    """
    found: list[LineCheck] = []
    for profile in dict.fromkeys(network.default for network in networks):
        try:
            check(profile, how())
            say(f"checking shaped links with {profile.text} against the kernel's stack")
            found += measure_lines(Network(profile), repeat)
        except (
            UsageError,
            NetworkError,
        ) as error:  # a link may break on a line that loses packets: the others are kept
            say(f"{profile.text} is not checked against the kernel's stack: {error}")
    return found
