"""A peer process for tests of the launcher: the real server with a toy model, or one that fails as TOY_FAILS says."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from tacit.party import server
from tacit.party.session import Engines
from toy_model import text_model


def idle(*ignored: Any) -> None:
    """No session is ever opened in these tests."""


def main() -> int:
    """`TOY_FAILS` is "name:how": which peer (by its identity file) fails, and how."""
    who, _, how = os.environ.get("TOY_FAILS", "").partition(":")
    if who and f"{who}.identity" in " ".join(sys.argv):
        if how == "error":
            print(json.dumps({"error": {"type": "ModelError", "message": "toy: the weights are damaged"}}), flush=True)
            return 1
        if how == "crash":
            print("first line of a log\nsomething went very wrong", file=sys.stderr)
            return 3
        if how == "babble":
            print("hello", flush=True)
        time.sleep(60)
    return server.main(sys.argv[1:], engines=Engines(idle, idle), models=[text_model()])


if __name__ == "__main__":
    sys.exit(main())
