"""A client in a process of its own: asks what it is told on standard input, and tells on standard output what happens.

In: {"prompt", "max_new_tokens"}, or {"tell": true}, a line. Out, a JSON object a line, `at` in seconds of the machine's monotonic clock:

| event   | with                                                                     |
| ------- | ------------------------------------------------------------------------ |
| ready   |                                                                          |
| seated  | peers (in role order), as the coordinator tells, once a token has come   |
| token   | count (of tokens so far)                                                 |
| resume  | lost, reason, after_tokens, peers                                        |
| done    | token_ids, text, resumes, receipts (how many)                            |
| error   | type, message, token_ids (what had come)                                 |
| tell    | heap, blocks: see `telltale`                                             |
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import tacit
from telltale import in_use


def tell(event: str, **facts: Any) -> None:
    print(json.dumps({"event": event, "at": time.monotonic(), **facts}), flush=True)


def answer(client: tacit.Client, asked: dict[str, Any]) -> None:
    def resumed(resume: tacit.Resume) -> None:
        tell(
            "resume", lost=resume.lost, reason=resume.reason, after_tokens=resume.after_tokens, peers=list(resume.peers)
        )

    generation = None
    try:
        generation = client.generate(asked["prompt"], max_new_tokens=asked["max_new_tokens"], on_resume=resumed)
        told = 0
        for _ in generation:
            if not told:
                tell("seated", peers=list(client.status()["sessions"]["recent"][0]["roles"].values()))
            if len(generation.token_ids) > told:
                told = len(generation.token_ids)
                tell("token", count=told)
    except tacit.TacitError as error:
        held = [] if generation is None else list(generation.token_ids)
        tell("error", type=type(error).__name__, message=str(error), token_ids=held)
        return
    result = generation.result
    tell(
        "done",
        token_ids=list(result.token_ids),
        text=result.text,
        resumes=len(result.resumes),
        receipts=len(result.receipts),
    )


def main() -> None:
    """`asker.py CLUSTER`: the peers have five operators, so an answer may go on with other operators' peers."""
    with tacit.Client(sys.argv[1], policy=tacit.Policy(same_operators=False)) as client:
        tell("ready")
        for line in sys.stdin:
            asked = json.loads(line)
            if asked.get("tell"):
                tell("tell", **in_use())
            else:
                answer(client, asked)


if __name__ == "__main__":
    main()
