"""Records whose numbers can be drawn. results.json is anyone's file: it may say that something took NaN or -1 ms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from ..records import Answer, Case, Crossing, LineCheck, Prediction, Results, Site, Transfer

LEAST, MOST = 1e-6, 1e15  # of milliseconds, bytes and rounds, zero apart
_ABOVE_ZERO: dict[type, frozenset[str]] = {
    Answer: frozenset({"ttft_ms", "e2e_ms", "itl_ms"}),
    Prediction: frozenset({"ttft_ms"}),
    LineCheck: frozenset({"expected_ms", "shaped_ms", "kernel_ms"}),
    Crossing: frozenset({"rtt_ms", "bandwidth_mbit", "tpot_ms"}),
}
_SIGNED: dict[type, frozenset[str]] = {
    Site: frozenset({"layer"}),  # -1 is outside of all
    Transfer: frozenset({"sent_ms", "read_ms"}),  # the dealer may have sent before the client asked
}

Record = TypeVar("Record", Answer, Site, Transfer, Prediction, LineCheck, Crossing)


def sound(results: Results) -> tuple[Results, int]:
    """The results without records that no measurement or prediction can have made, and how many those were."""
    kept = replace(
        results,
        answers=_kept(results.answers),
        sites=_kept(results.sites),
        transfers=_kept(results.transfers),
        predictions=_kept(results.predictions),
        lines=_kept(results.lines),
        crossings=_kept(results.crossings),
    )
    return kept, _count(results) - _count(kept)


def _kept(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if _can_be(record)]


def _can_be(record: Any) -> bool:
    above_zero, signed = (names.get(type(record), frozenset()) for names in (_ABOVE_ZERO, _SIGNED))
    for one in fields(record):
        value = getattr(record, one.name)
        if isinstance(value, str | Case):
            continue
        for number in value if isinstance(value, list) else [value]:
            magnitude = abs(number) if one.name in signed else number
            if not (LEAST <= magnitude <= MOST or (number == 0 and one.name not in above_zero)):
                return False
    return not isinstance(record, Transfer) or record.read_ms >= record.sent_ms


def _count(results: Results) -> int:
    found = (results.answers, results.sites, results.transfers, results.predictions, results.lines, results.crossings)
    return sum(len(records) for records in found)
