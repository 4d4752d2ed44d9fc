"""A peer that misbehaves when told to: the real one, but a line on standard input spoils the next frame of any link.

| line    | the next frame                                                                      |
| ------- | ----------------------------------------------------------------------------------- |
| corrupt | goes out with one bit of its header's first 20 bytes flipped (form, session, number) |
| replay  | goes out twice                                                                      |

Once done it says {"did": line, "kind": of the frame} on standard output; to "tell" it says what it has in use. Arguments
are those of `tacit`.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from typing import Any

from tacit.client import cli
from tacit.link import Buffer, Link
from telltale import in_use

GUARDED = 20  # bytes: msgpack's marks, session id, sequence number; all that follows has a check of its own


class Saboteur:
    """Takes orders from standard input, and carries each out once."""

    def __init__(self) -> None:
        self._order = ""
        self._lock = threading.Lock()
        self._write = Link._write
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == "tell":
                print(json.dumps({"did": "tell", **in_use()}), flush=True)
                continue
            with self._lock:
                self._order = line.strip()

    def write(self, link: Link, kind: str, view: Buffer, fields: dict[str, Any]) -> None:
        """What `Link._write` does, spoilt if that is the order."""
        with self._lock:
            order, self._order = self._order, ""
        if not order:
            self._write(link, kind, view, fields)
            return
        honest = link._writer.head
        header = honest(kind, fields, view.nbytes)
        sent = [flipped(header)] if order == "corrupt" else [header, header]
        try:
            for one in sent:
                link._writer.head = lambda *_, one=one: one  # type: ignore[method-assign]
                self._write(link, kind, view, fields)
        finally:
            link._writer.head = honest  # type: ignore[method-assign]
        print(json.dumps({"did": order, "kind": kind}), flush=True)


def flipped(header: bytes) -> bytes:
    place = random.randrange(8 * GUARDED)
    found = bytearray(header)
    found[place // 8] ^= 1 << place % 8
    return bytes(found)


if __name__ == "__main__":
    saboteur = Saboteur()
    Link._write = lambda self, kind, view, fields: saboteur.write(self, kind, view, fields)  # type: ignore[method-assign]
    cli.main()
