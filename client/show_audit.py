"""`tacit verify`: what the peers say of themselves, shown with what that proves and what it does not."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..checks import short_id
from ..config import Config
from ..errors import IdentityError, PeerError
from ..members import Pinned
from ..software import software_digest
from .audit import Heard, audit, by_software, worst
from .directory import Directory
from .pinned import PinnedPeers
from .resolve import need

PROVES = (
    "each peer shown as answered holds the key that is pinned for it, and said this after it was asked just now",
    "the operator, models, version and software shown are its own words: it can be held to them, and they can be compared",
)
DOES_NOT_PROVE = (
    "which code a peer runs: one that was changed can name any software and any model",
    "that the operators do not work together: what stays private rests on the two compute peers of a session not doing so",
)
_WIDE = 160  # what a pipe or file takes, so that nothing is cut off there


def run_verify(*, cluster: str | None, as_json: bool, trust_on_first_use: bool = False) -> None:
    """Show it all, then raise IdentityError or PeerError if anything is wrong with it."""
    say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print
    pinned = need(cluster, Config.load()).pinned(trust_on_first_use=trust_on_first_use, say=say)
    software = software_digest()
    directory = Directory(pinned.url, timeout=10.0)
    try:
        if isinstance(pinned, PinnedPeers):
            pinned.follow(directory.peers())  # under their new keys those peers can be asked
        heard = audit(pinned, directory.attest, software)
    finally:
        directory.close()
    if as_json:
        print(json.dumps(report(pinned, heard, software)))
    else:
        _show(pinned, heard, software)
    if problem := worst(heard):
        kind = IdentityError if any(one.forged for one in heard) else PeerError
        raise kind("verify", f"not all is in order; {problem}")


def report(pinned: Pinned, heard: Sequence[Heard], software: str) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "cluster": pinned.cluster,
        "good": not worst(heard),
        "software_here": software,
        "peers": [
            {
                "name": one.member.name,
                "peer_id": one.member.peer_id,
                "pinned_operator": one.member.operator,
                "answered": one.attestation is not None,
                "said": None
                if one.attestation is None
                else {
                    "operator": one.attestation.operator,
                    "version": one.attestation.version,
                    "software": one.attestation.software,
                    "models": {model.name: model.manifest_hash for model in one.attestation.models},
                    "made": one.attestation.made,
                },
                "clock_skew_seconds": round(one.skew, 1),
                "problems": list(one.problems),
            }
            for one in heard
        ],
        "proves": list(PROVES),
        "does_not_prove": list(DOES_NOT_PROVE),
    }


def _show(pinned: Pinned, heard: Sequence[Heard], software: str) -> None:
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
    table = Table(
        "peer", "operator", "version", "software", "models", "clock", "verdict", title=f"Peers of {pinned.cluster}"
    )
    table.title_justify = "left"
    for one in heard:
        said = one.attestation
        cells = ("", "", "", "")
        if said is not None:
            models = ", ".join(f"{model.name} {model.manifest_hash[:8]}" for model in said.models)
            cells = (said.version, said.software[:12], models, f"{one.skew:+.0f} s" if abs(one.skew) >= 1 else "same")
        verdict = f"[red]{escape('; '.join(one.problems))}[/]" if one.problems else "[green]answered, as pinned[/]"
        name = f"{one.member.name} ({short_id(one.member.peer_id)})"
        table.add_row(*map(escape, (name, said.operator if said else one.member.operator, *cells)), verdict)
    console.print(table)
    for digest, group in by_software(heard).items():
        here = ", as here" if digest == software else ""
        console.print(f"software {digest[:12]}{here}: {escape(', '.join(one.member.name for one in group))}")
    if software not in by_software(heard):
        console.print(
            f"software {software[:12]}: this installation only (other versions of Python or of a library count)"
        )
    console.print("\n[bold]What this proves[/]")
    for words in PROVES:
        console.print(f"  {words}")
    console.print("[bold]What it does not prove[/]")
    for words in DOES_NOT_PROVE:
        console.print(f"  {words}")
    console.print()
