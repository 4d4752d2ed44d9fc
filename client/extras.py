"""Parts of Tacit that a client-only installation leaves out."""

from __future__ import annotations

import importlib.util

from ..errors import ConfigError


def need_chat_extra(what: str, module: str) -> None:
    """Raises ConfigError, saying what to install, unless this installation has `module`, one of the [chat] extra."""
    if importlib.util.find_spec(module) is None:
        raise ConfigError(f"{what} needs {module}, which is not installed: pip install '.[chat]' in Tacit's folder")


def need_peer_extra(what: str) -> None:
    """Raises ConfigError, saying what to install, unless this installation can run models."""
    _need(what, "peer", ("torch", "numba", "safetensors"))


def need_serve_extra() -> None:
    """Raises ConfigError, saying what to install, unless this installation can serve the OpenAI API."""
    _need("the gateway", "serve", ("fastapi", "uvicorn", "sse_starlette"))


def _need(what: str, extra: str, modules: tuple[str, ...]) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{what} needs {', '.join(missing)}, which this installation leaves out: "
            f"pip install '.[{extra}]' in Tacit's folder"
        )
