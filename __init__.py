"""Tacit: a network of peers that answers a prompt none of them can read.

    import tacit

    with tacit.Client() as client:
        for piece in client.generate("Once upon a time", max_new_tokens=40):
            print(piece, end="", flush=True)

Names are looked up when first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .client.api import Client
    from .client.embedding import Embeddings
    from .client.generation import Generation
    from .client.launch import Cluster
    from .client.policy import Policy
    from .client.results import Completion, Piece, Resume, Timings, TokenLogprob, Traffic, Usage
    from .client.studies import study
    from .errors import (
        ConfigError,
        IdentityError,
        ModelError,
        NetworkError,
        PeerError,
        PeerLost,
        RefusedError,
        TacitError,
        UsageError,
    )

__all__ = [
    "Client",
    "Cluster",
    "Completion",
    "ConfigError",
    "Embeddings",
    "Generation",
    "IdentityError",
    "ModelError",
    "NetworkError",
    "PeerError",
    "PeerLost",
    "Piece",
    "Policy",
    "RefusedError",
    "Resume",
    "TacitError",
    "Timings",
    "TokenLogprob",
    "Traffic",
    "Usage",
    "UsageError",
    "__version__",
    "study",
]

_HOME = {
    "Client": "client.api",
    "Cluster": "client.launch",
    "Embeddings": "client.embedding",
    "Generation": "client.generation",
    "Completion": "client.results",
    "Piece": "client.results",
    "Policy": "client.policy",
    "Resume": "client.results",
    "Timings": "client.results",
    "TokenLogprob": "client.results",
    "Traffic": "client.results",
    "Usage": "client.results",
    "study": "client.studies",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f".{_HOME.get(name, 'errors')}", __name__), name)
    globals()[name] = found  # the next look-up finds it without us
    return found


def __dir__() -> list[str]:
    return __all__
