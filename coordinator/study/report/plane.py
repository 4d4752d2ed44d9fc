"""Round-trip time by bandwidth: which protocol is predicted to be fastest at each point, where that changes, and contours."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .cases import PLAINTEXT, Cases
from .words import short

MOST_SIDE = 30  # points of a map each way


@dataclass(frozen=True)
class Map:
    """Of one model: per round trip and bandwidth, what each protocol takes for a token, in ms."""

    model: str
    rtts: list[float]
    bandwidths: list[float]
    cells: dict[tuple[float, float], dict[str, float]]
    rivals: int = 2  # protocols that a point must have to count

    def winner(self, rtt: float, bandwidth: float) -> str | None:
        found = self.cells.get((rtt, bandwidth), {})
        return min(found, key=lambda protocol: found[protocol]) if len(found) >= self.rivals else None

    @property
    def wins(self) -> Counter[str]:
        return Counter(
            won for rtt in self.rtts for bandwidth in self.bandwidths if (won := self.winner(rtt, bandwidth))
        )


def maps_of(cases: Cases, rivals: int = 2) -> list[Map]:
    found: dict[str, dict[tuple[float, float], dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for each in cases.results.crossings:
        usable = each.rtt_ms > 0 and 0 < each.bandwidth_mbit < math.inf and each.tpot_ms > 0
        if each.protocol != PLAINTEXT and usable:
            found[short(each.model, 40)][each.rtt_ms, each.bandwidth_mbit][short(each.protocol, 24)] = each.tpot_ms
    maps = [
        Map(
            model,
            thinned(sorted({rtt for rtt, _ in cells}), MOST_SIDE),
            thinned(sorted({bandwidth for _, bandwidth in cells}), MOST_SIDE),
            dict(cells),
            rivals,
        )
        for model, cells in found.items()
    ]
    return [each for each in maps if len(each.rtts) > 1 and len(each.bandwidths) > 1 and each.wins]


def refined(each: Map) -> Map:
    """With points between, about `MOST_SIDE` a side: times are smooth in both, and interpolated as logarithms."""
    rtts, bandwidths = _between(each.rtts), _between(each.bandwidths)
    cells = {}
    for rtt, left, right, across in rtts:
        for bandwidth, low, high, up in bandwidths:
            corners = [
                each.cells.get(corner, {}) for corner in ((left, low), (right, low), (left, high), (right, high))
            ]
            shared = set.intersection(*(set(corner) for corner in corners))
            weights = ((1 - across) * (1 - up), across * (1 - up), (1 - across) * up, across * up)
            cells[rtt, bandwidth] = {
                protocol: math.exp(
                    sum(w * math.log(corner[protocol]) for w, corner in zip(weights, corners, strict=True))
                )
                for protocol in sorted(shared)
            }
    fine = Map(each.model, [rtt for rtt, *_ in rtts], [rate for rate, *_ in bandwidths], cells, each.rivals)
    return fine if fine.wins else each


def _between(values: Sequence[float]) -> list[tuple[float, float, float, float]]:
    """Points on an axis, each with its neighbours among the values and how far it is from the lower one, as logarithms."""
    steps = max(1, (MOST_SIDE - 1) // (len(values) - 1))
    found = [
        (low * (high / low) ** (step / steps), low, high, step / steps)
        for low, high in pairwise(values)
        for step in range(steps)
    ]
    return [*found, (values[-1], values[-2], values[-1], 1.0)]


def lead_of(cell: Mapping[str, float]) -> float:
    """How many times as long the second fastest takes; 0 where there is none."""
    ordered = sorted(cell.values())
    return ordered[1] / ordered[0] if len(ordered) > 1 else 0.0


def edges(values: Sequence[float]) -> list[float]:
    """Between neighbours, as ratios; one more than there are values."""
    between = [math.sqrt(low * high) for low, high in pairwise(values)]
    return [values[0] ** 2 / between[0], *between, values[-1] ** 2 / between[-1]]


def areas(each: Map) -> list[dict[str, object]]:
    """Neighbours with the same winner are one rectangle, along the round trip and then, where they fit, up the bandwidth."""
    lefts, bottoms = edges(each.rtts), edges(each.bandwidths)
    rows: list[dict[str, object]] = []
    for down, bandwidth in enumerate(each.bandwidths):
        winners = [each.winner(rtt, bandwidth) for rtt in each.rtts]
        start = 0
        for place in range(1, len(winners) + 1):
            if place == len(winners) or winners[place] != winners[start]:
                if winners[start]:
                    sides = {"x": lefts[start], "x2": lefts[place], "y": bottoms[down], "y2": bottoms[down + 1]}
                    rows.append({"protocol": winners[start], **sides})
                    _join(rows)
                start = place
    return rows


def _join(rows: list[dict[str, object]]) -> None:
    """The last rectangle with the one below it, if they are as wide and of the same winner."""
    last = rows[-1]
    for row in rows[:-1]:
        if row["y2"] == last["y"] and all(row[key] == last[key] for key in ("x", "x2", "protocol")):
            row["y2"] = last["y2"]
            del rows[-1]
            return


def best(each: Map, rtt: float, bandwidth: float) -> float:
    found = each.cells.get((rtt, bandwidth), {})
    return min(found.values()) if len(found) >= each.rivals else math.nan


def contour(each: Map, level: float) -> list[list[tuple[float, float]]]:
    """Where the fastest protocol takes `level` ms: lines, found by marching over the triangles of the grid."""
    pieces = []
    for left, right in pairwise(each.rtts):
        for low, high in pairwise(each.bandwidths):
            corners = [(left, low), (right, low), (right, high), (left, high)]
            for triangle in ((corners[0], corners[1], corners[2]), (corners[0], corners[2], corners[3])):
                sides = [sorted((triangle[n - 1], triangle[n])) for n in range(3)]
                crossings = [_crossing(each, one, other, level) for one, other in sides]
                ends = [crossing for crossing in crossings if crossing is not None]
                if len(ends) == 2 and ends[0] != ends[1]:
                    pieces.append((ends[0], ends[1]))
    return _chained(pieces)


def _chained(pieces: Sequence[tuple[tuple[float, float], tuple[float, float]]]) -> list[list[tuple[float, float]]]:
    """Pieces that meet, as one line. Neighbouring triangles find the same point on their common side, bit for bit."""
    at: dict[tuple[float, float], list[int]] = defaultdict(list)
    for number, piece in enumerate(pieces):
        for end in piece:
            at[end].append(number)
    left, lines = set(range(len(pieces))), []
    for start in sorted(range(len(pieces)), key=lambda number: min(len(at[end]) for end in pieces[number])):
        if start not in left:
            continue
        left.discard(start)
        one, other = pieces[start]
        line = [one, other] if len(at[one]) <= len(at[other]) else [other, one]
        while following := [number for number in at[line[-1]] if number in left]:
            left.discard(following[0])
            ends = pieces[following[0]]
            line.append(ends[1] if ends[0] == line[-1] else ends[0])
        lines.append(line)
    return lines


def _crossing(
    each: Map, one: tuple[float, float], other: tuple[float, float], level: float
) -> tuple[float, float] | None:
    first, second = best(each, *one), best(each, *other)
    if math.isnan(first) or math.isnan(second) or (first < level) == (second < level):
        return None
    share = math.log(level / first) / math.log(second / first)
    return one[0] * (other[0] / one[0]) ** share, one[1] * (other[1] / one[1]) ** share


def thinned(values: Sequence[float], most: int) -> list[float]:
    """Evenly taken, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]
