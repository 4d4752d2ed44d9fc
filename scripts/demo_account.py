"""The demonstration behind scripts/demo: a story written on shares, and an account of who saw what at what cost."""

from __future__ import annotations

import argparse
import sys
import time

import tacit
from plaintext_baseline import Baseline, measure  # type: ignore[import-not-found]  # beside this file
from rich.console import Console
from rich.table import Table
from tacit.client.commands import size
from tacit.client.tokens import load
from tacit.errors import TacitError
from tacit.models.checkpoint import load_checkpoint
from tacit.models.fold import fold

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def step(words: str) -> None:
    """A line of progress, as the shell part prints them."""
    console.print(f"[bold]==>[/] {words}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Write a story privately on this machine, and account for it.")
    parser.add_argument("--prompt", default="Once upon a time", help="how the story begins (default: %(default)s)")
    parser.add_argument("--model", default="stories", help="a shipped name or a Hugging Face folder")
    parser.add_argument("--tokens", type=int, default=120, help="at most so many tokens (default: %(default)s)")
    chosen = parser.parse_args()
    try:
        return demonstrate(chosen.model, chosen.prompt, chosen.tokens)
    except TacitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def demonstrate(model: str, prompt: str, tokens: int) -> int:
    began = time.perf_counter()
    with tacit.Cluster(model=model).start(step) as cluster:
        step(f"ready after {time.perf_counter() - began:.1f} s: four processes, each on its own")
        for process in cluster.processes:
            console.print(f"    {process.name:<12} pid {process.pid:<8} {process.endpoint}")
        step("asking; the text after your words comes from the peers, a token at a time")
        console.print()
        console.print(f"    [bold]{prompt}[/]", end="")
        with tacit.Client(cluster) as client:
            answer = client.generate(prompt, max_new_tokens=tokens)
            for piece in answer:
                print(piece, end="", flush=True)
        print("\n")
        result = answer.result
        pids = {process.name: process.pid for process in cluster.processes}
    step("stopped the cluster; the same tokens in the clear, torch float32 on one thread, for comparison")
    checkpoint = load_checkpoint(model)
    spec, weights = fold(checkpoint)
    prompt_ids = load(checkpoint.tokenizer, spec.vocab, checkpoint.bos).encode(prompt)
    clear = measure(spec, weights, prompt_ids, result.token_ids)
    account(result, clear, pids, tokens)
    return 0


def account(result: tacit.Completion, clear: Baseline, pids: dict[str, int], tokens: int) -> None:
    """Print who saw what, and what it cost."""
    usage, timings, traffic = result.usage, result.timings, result.traffic
    online = size(traffic.online_bytes_per_token)
    saw = Table("process", "role", "what it saw", title="Who saw what", title_justify="left", show_lines=False)
    share = f"one random-looking share of everything, and masked values ({online} a token between the two)"
    roles = (
        ("compute peer 0", share),
        ("compute peer 1", share),
        ("dealer", "its own random numbers, and how many were needed"),
    )
    for name, (role, words) in zip(result.peers, roles, strict=True):
        saw.add_row(f"{name} pid {pids[name.split()[0]]}", role, words)
    sizes = f"the model's name, that the prompt has {usage.prompt_tokens} tokens, that {tokens} more were asked for"
    saw.add_row(f"coordinator pid {pids['coordinator']}", "introduces them", sizes)
    saw.add_row("this process", "client", "the prompt and the story; nobody else did")
    console.print(saw)
    cost = Table("per token", "private", "in the clear", "ratio", title="What it cost", title_justify="left")
    for column in cost.columns[1:]:
        column.justify = "right"
    online_ms, clear_ms = timings.per_token_ms, 1e3 * clear.token_seconds
    cost.add_row("time, online", f"{online_ms:.1f} ms", f"{clear_ms:.2f} ms", f"{online_ms / clear_ms:.0f}x")
    cost.add_row("time, offline (dealer)", f"{timings.offline_ms_per_token:.1f} ms", "", "")
    cost.add_row("tokens a second", f"{1e3 / online_ms:.1f}", f"{1e3 / clear_ms:.0f}", "")
    rounds = f"{traffic.rounds_per_token:.0f}, {traffic.rounds_per_token / result.layers:.1f} a layer"
    cost.add_row("rounds between the peers", rounds, "0", "")
    cost.add_row("bytes online, peer to peer", online, "0", "")
    cost.add_row("bytes offline, dealer to peers", size(traffic.offline_bytes_per_token), "0", "")
    cost.add_row("bytes, client to peers and back", size(traffic.client_bytes_per_token), "0", "")
    console.print(cost)
    console.print(
        f"First token after {timings.first_token_ms / 1e3:.2f} s ({usage.prompt_tokens} prompt tokens and setting up "
        f"the session). {clear.agreeing} of {clear.tokens} tokens are those the model chooses in the clear."
    )
    console.print(
        "Not hidden: the model, the number of tokens, the timing. Privacy rests on the peers not pooling what they "
        "saw: here they all run on one machine, so this shows how it works, not that it is safe. See README.md."
    )


if __name__ == "__main__":
    sys.exit(main())
