"""`tacit serve`: the OpenAI API on this machine. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import FirstUse, Meant

DEFAULT_PORT = 8080


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = DEFAULT_PORT,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any but this machine's own needs a token.")
    ] = "127.0.0.1",
    model: Annotated[
        str | None, typer.Option(help="Serve this model only; or the one to start a cluster with.")
    ] = None,
    cluster: Meant = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the token that programs must show, as their API key; made if it is not there. "
            "Or set TACIT_SERVE_TOKEN."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name in the Host header to accept beside this machine's; may be given several times."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Pages of this origin may ask, as https://app.example; may be given several times."),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="End the answer to a chat after so many tokens where the program sets no limit.")
    ] = 1024,
    sequences: Annotated[
        int, typer.Option(min=1, max=64, help="Answers at a time that share a session; further ones wait.")
    ] = 8,
    idle: Annotated[
        float, typer.Option(min=0, help="Seconds for which a session is kept for the next question.")
    ] = 60.0,
    pad_prompt: Annotated[
        bool, typer.Option("--pad-prompt", help="Hide how long prompts are: they are padded to 16, 32, 64 ... tokens.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds that one step may take. Default: 60")] = None,
    trust_on_first_use: FirstUse = False,
) -> None:
    """Answer programs that speak the OpenAI API, privately: they ask this machine, the peers see shares."""
    from .extras import need_serve_extra

    need_serve_extra()
    from .gateway.serve import Door, run_serve

    run_serve(
        Door(host, port, token_file, tuple(allow_host or ()), tuple(allow_origin or ())),
        model=model,
        cluster=cluster,
        max_tokens=max_tokens,
        sharing={"sequences": sequences, "idle": idle, "pad_prompt": pad_prompt},
        rules={"timeout": timeout, "trust_on_first_use": trust_on_first_use},
    )
