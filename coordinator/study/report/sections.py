"""The report's figures, in the order in which they are read."""

from __future__ import annotations

from . import accuracy, crossover, latency, lines, timeline, traffic, where
from .cases import Cases
from .parts import Section


def sections(cases: Cases) -> list[Section]:
    latencies = latency.parts(cases)
    return [
        Section(
            "rtt",
            "Against round-trip time",
            "How the distance between the parties changes what a reader waits for.",
            latencies[:2],
        ),
        Section("bandwidth", "Against bandwidth", "How the width of the lines changes it.", latencies[2:]),
        Section(
            "where",
            "Where the time goes",
            "What the slower compute peer does while the client waits.",
            where.parts(cases),
        ),
        Section(
            "layers",
            "Rounds and bytes",
            "What the protocol exchanges, whatever the network.",
            traffic.layer_parts(cases),
        ),
        Section(
            "planes",
            "Online and offline",
            "What waits for the prompt, and what is dealt ahead.",
            traffic.plane_parts(cases),
        ),
        Section(
            "crossover",
            "Over round trip and bandwidth",
            "From the model of costs, for networks that were not measured too.",
            crossover.parts(cases),
        ),
        Section(
            "timeline",
            "One token on the wire",
            "All parties run on one machine and share one clock.",
            timeline.parts(cases),
        ),
        Section(
            "accuracy",
            "Predicted and measured",
            "Whether the model of costs can be relied upon.",
            accuracy.parts(cases),
        ),
        Section(
            "lines",
            "Shaped links and the kernel",
            "Whether the lines of this study behave as real ones do.",
            lines.parts(cases),
        ),
    ]
