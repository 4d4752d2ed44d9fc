"""`tacit chat`. Heavy imports happen inside."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .cli_options import FirstUse, Meant


def chat(
    system: Annotated[str | None, typer.Option(help="What the model is told before the conversation.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Which model, if the cluster serves several; or the one to start a cluster with.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Cut an answer off after this many tokens.")] = 1024,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 takes the most likely token each time; 1 samples as the model says.")
    ] = 0.7,
    top_k: Annotated[int | None, typer.Option(min=1, help="Sample from the k most likely tokens only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Sample from the fewest tokens with this probability.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Tokens that the peers keep room for. Default: the model's context, 4096 at most; fewer cost less.",
        ),
    ] = None,
    cluster: Meant = None,
    operator: Annotated[
        list[str] | None,
        typer.Option(help="Accept peers of this operator only; give it again for more (three needed)."),
    ] = None,
    max_resumes: Annotated[
        int | None, typer.Option(min=0, max=3, help="Go on with other peers this often when one is lost. Default: 3")
    ] = None,
    any_operator: Annotated[
        bool,
        typer.Option("--any-operator", help="Go on with peers of other operators than the session began with, too."),
    ] = False,
    max_price: Annotated[
        str | None, typer.Option(help="The most that a million tokens may cost, as in '3 EUR'. Default: any price")
    ] = None,
    receipt: Annotated[
        bool | None,
        typer.Option("--receipt/--no-receipt", help="Keep what the peers sign (see: tacit receipts). Default: yes"),
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds that one step may take. Default: 60")] = None,
    trust_on_first_use: FirstUse = False,
) -> None:
    """Talk with a model, privately: a line is a message, /help shows what else there is."""
    from .talk import run_chat

    settings: dict[str, Any] = {
        "system": system,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "context": context,
    }
    policy: dict[str, Any] = {
        "operators": operator,
        "max_resumes": max_resumes,
        "same_operators": not any_operator,
        "max_price": max_price,
    }
    rules: dict[str, Any] = {"keep_receipts": receipt, "timeout": timeout, "trust_on_first_use": trust_on_first_use}
    run_chat(model=model, cluster=cluster, settings=settings, policy=policy, rules=rules)
