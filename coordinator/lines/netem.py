"""Lines that the kernel itself shapes: `tc netem` on both ends of a veth pair, where the kernel has it."""

from __future__ import annotations

import math
import shutil

from ...errors import ConfigError
from ...network import MAX_BANDWIDTH, Profile
from .namespaces import fresh_prefix, ip, remove, run_tool
from .shape import FULL, held_bytes


def why_not() -> str | None:
    """Why netem cannot shape lines here."""
    if shutil.which("tc") is None:
        return "no `tc` here (package iproute2)"
    name = fresh_prefix()
    try:
        ip("netns", "add", name)
        try:
            run_tool("tc", "-n", name, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
        finally:
            remove(name)
    except ConfigError:
        return "this kernel has no netem"
    return None


def arguments(profile: Profile) -> list[str]:
    """Of `tc qdisc … netem` for one direction. Its jitter is uniform too; with a rate it keeps the order of packets."""
    words = ["netem", "delay", f"{round(1e6 * profile.one_way)}us"]
    if profile.jitter:
        words.append(f"{round(1e6 * profile.jitter)}us")
    if profile.loss:
        words += ["loss", f"{100 * profile.loss:.6f}%"]
    if profile.jitter or profile.bandwidth != math.inf:
        rate = min(profile.bandwidth, MAX_BANDWIDTH)
        words += ["rate", f"{round(rate)}bit"]
    packets = 1 << 16 if profile.bandwidth == math.inf else math.ceil(held_bytes(profile) / FULL)
    return [*words, "limit", str(packets)]


def lay(ends: tuple[tuple[str, str], tuple[str, str]]) -> None:
    """A veth pair between two namespaces: (namespace, device) twice. Packets go out one by one, never several as one."""
    (here, device), (there, other) = ends
    ip("-n", here, "link", "add", device, "type", "veth", "peer", "name", other, "netns", there)
    for namespace, name in ends:
        ip("-n", namespace, "link", "set", name, "gso_max_segs", "1", "gso_max_size", "1514")


def shape(ends: tuple[tuple[str, str], tuple[str, str]], profile: Profile) -> None:
    """Raises ConfigError with what tc said."""
    for namespace, device in ends:
        run_tool("tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", *arguments(profile))
