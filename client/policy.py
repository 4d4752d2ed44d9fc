"""Whom a client accepts as a committee, whatever the coordinator proposes; and how often it goes on after a loss.

`wire.check_statements` sees to what holds for everyone (pinned peers, their signatures, three operators unless the pinned
peers are one's own cluster); a `Policy` is what this user wants beyond that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..checks import is_name
from ..config import Config
from ..errors import IdentityError, UsageError
from ..members import Pinned
from ..quotes import Price
from ..settings import MAX_RESUMES
from ..wire import MAX_CHOICES, Statement


@dataclass(frozen=True, slots=True)
class Policy:
    """The user's rules. Every further operator that sees a part of an answer is one more that others could collude with,
    so an answer that lost a peer goes on with other peers of the same three operators only, unless told otherwise."""

    operators: frozenset[str] | None = None  # the only ones allowed; None: any of the pinned roster
    max_resumes: int = MAX_RESUMES  # of one answer
    same_operators: bool = True  # resume on the operators that the answer began with (one's own cluster: on any peer)
    max_price: str | None = None  # of a committee, for a million tokens, as in "3 EUR"; None: any

    def __post_init__(self) -> None:
        if not 0 <= self.max_resumes <= MAX_RESUMES:
            raise UsageError(f"max_resumes is {self.max_resumes}; it must be from 0 to {MAX_RESUMES}")
        if self.max_price is not None:
            Price.parse(self.max_price)
        if self.operators is None:
            return
        if len(self.operators) > MAX_CHOICES:
            raise UsageError(f"{len(self.operators)} operators are more than the {MAX_CHOICES} that may be named")
        try:
            object.__setattr__(self, "operators", frozenset(map(is_name, self.operators)))
        except ValueError as error:
            raise UsageError(f"an allowed operator {error}") from None

    @property
    def most(self) -> Price | None:
        """`max_price` as a number."""
        return None if self.max_price is None else Price.parse(self.max_price)

    def admitted(self, pinned: Pinned) -> Policy:
        """This policy, if the pinned peers can meet it. Raises UsageError naming an operator not among theirs, or too few."""
        if self.operators is not None:
            there = {member.operator for member in pinned.members}
            if strange := sorted(self.operators - there):
                raise UsageError(f"operator {strange[0]!r} is not in the roster, which has {', '.join(sorted(there))}")
            if not pinned.own and len(self.operators) < 3:
                raise UsageError(
                    f"{len(self.operators)} operators are allowed, three are needed: allow more, or leave the choice open"
                )
        return self

    def first_choice(self) -> frozenset[str]:
        """Operators for the first committee; empty means any."""
        return self.operators or frozenset()

    def later_choice(self, first: Collection[str], pinned: Pinned) -> frozenset[str]:
        """Operators for a resume of an answer whose first committee belonged to `first`; empty means any."""
        return frozenset(first) if self.same_operators and not pinned.own and first else self.first_choice()


def check_choice(
    seats: Collection[Statement], pinned: Pinned, operators: Collection[str], without: Collection[str]
) -> None:
    """Raises IdentityError, naming the coordinator, if it seated a peer that the client had ruled out."""
    coordinator = pinned.coordinator_name
    for seat in seats:
        name = pinned.name_of(seat.peer_id)
        if seat.peer_id in without:
            raise IdentityError(coordinator, f"seated {name}, which this client had left out")
        if operators and seat.operator not in operators:
            raise IdentityError(
                coordinator, f"seated {name} of {seat.operator!r}, an operator this client does not allow"
            )


def configured_policy(
    config: Config,
    cluster: str | None = None,
    *,
    operators: Collection[str] | None = None,
    max_resumes: int | None = None,
    same_operators: bool = True,
    max_price: str | None = None,
) -> Policy:
    """The user's rules for a cluster (its name in config.toml, if it has one); what is given goes before what is set."""
    allowed = config.get("clusters.*.operators", operators or None, cluster)
    return Policy(
        None if allowed is None else frozenset(allowed),
        config.get("client.max_resumes", max_resumes, cluster),
        same_operators,
        config.get("clusters.*.max_price", max_price, cluster),
    )
