"""A coordinator that cheats when told to: the real one, but a line on standard input spoils its next answer to a client.

| line              | the next session's reply                                                                     |
| ----------------- | --------------------------------------------------------------------------------------------- |
| swap ENDPOINT     | compute peer 0 is one of the coordinator's own making, which listens at ENDPOINT               |
| forge ENDPOINT    | compute peer 0 is said to listen at ENDPOINT, under the honest peer's id, with a made-up key   |

Both are signed by a key of the coordinator's own. Once done it says {"did": line, "peer": the id that signed} on standard
output; to "tell" it says what it has in use. Arguments are those of `tacit`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import threading

from tacit.client import cli
from tacit.coordinator.sessions import Sessions
from tacit.party.identity import Identity
from tacit.transport import CurveKeys
from tacit.wire import SessionReply, SessionRequest, Statement
from telltale import in_use


class Cheat:
    """Takes orders from standard input, and carries each out once."""

    def __init__(self) -> None:
        self._order = ""
        self._open = Sessions.open
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == "tell":
                print(json.dumps({"did": "tell", **in_use()}), flush=True)
            else:
                self._order = line.strip()

    def open(self, sessions: Sessions, request: SessionRequest) -> SessionReply:
        reply = self._open(sessions, request)
        order, self._order = self._order, ""
        if not order:
            return reply
        what, _, endpoint = order.partition(" ")
        mallory = Identity.create()
        statements = list(reply.statements)
        honest = Statement.from_bytes(statements[0].payload, "compute peer 0")
        changes = {"endpoint": endpoint, "curve_key": CurveKeys.fresh().public}
        if what == "swap":
            changes["peer_id"] = mallory.peer_id
        statements[0] = mallory.sign(dataclasses.replace(honest, **changes))
        print(json.dumps({"did": what, "peer": changes.get("peer_id", honest.peer_id)}), flush=True)
        return dataclasses.replace(reply, statements=tuple(statements))


if __name__ == "__main__":
    cheat = Cheat()
    Sessions.open = lambda self, request: cheat.open(self, request)  # type: ignore[method-assign]
    cli.main()
