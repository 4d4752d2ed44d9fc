"""`tacit receipts`: what peers signed, shown and verified again."""

from __future__ import annotations

import json
import sys
import time

from rich.console import Console
from rich.table import Table

from ..config import Config
from ..errors import PeerError
from ..members import Pinned
from .receipts import Book, Kept
from .resolve import need

_WIDE = 160  # what a pipe or file takes, so that nothing is cut off there


def run_receipts(*, last: int, cluster: str | None, as_json: bool) -> None:
    """The newest `last` receipts. Raises PeerError, after showing all, if one of them is not in order."""
    pinned = need(cluster, Config.load()).pinned() if cluster is not None else None
    kept = list(Book().read())[-last:]
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    table = Table(
        "ended",
        "session",
        "model",
        "compute peers",
        "dealer",
        "tokens",
        "rounds",
        "online",
        "cost",
        "transcript",
        "verdict",
    )
    bad: PeerError | None = None
    for one in kept:
        try:
            row = _row(one, pinned)
        except PeerError as error:
            bad = error
            row = {"ended": _when(one), "verdict": str(error)}
        if as_json:
            print(json.dumps(row))
        else:
            table.add_row(*(str(row.get(str(column.header), "")) for column in table.columns))
    if not as_json:
        console.print(table if kept else "no receipts are kept yet: they come with the first private answer")
    if bad is not None:
        raise PeerError("receipts", f"not all are in order; {bad}")


def _row(one: Kept, pinned: Pinned | None) -> dict[str, str | int]:
    first, second = pair = one.verified(pinned)
    charge = one.charge(pair)
    return {
        "ended": _when(one),
        "session": first.session[:8],
        "model": first.model,
        "compute peers": f"{one.names[0]}, {one.names[1]}",
        "dealer": one.names[2],
        "tokens": charge.tokens,
        "rounds": first.rounds,
        "online": first.online_bytes + second.online_bytes,
        "price": str(charge.price),
        "cost": f"{charge.cost} {charge.price.currency}",
        "transcript": first.transcript[:16],
        "verdict": "good" if pinned is None else "good, peers pinned",
    }


def _when(one: Kept) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.ended))
