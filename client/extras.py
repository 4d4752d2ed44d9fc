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
    missing = [name for name in ("torch", "numba", "safetensors") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{what} needs {', '.join(missing)}, which this client-only installation leaves out: "
            "pip install '.[peer]' in Tacit's folder"
        )
