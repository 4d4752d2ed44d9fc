"""What config.toml and TACIT_* variables say of a node, as options of `tacit peer` and `tacit coordinator`.

A flag goes before a variable, that before cluster.toml (--cluster-file), that before config.toml. The coordinator on a
peer's machine takes what is the machine's (operator, advertised host, invite), not what is the peer's.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from ..config import Config
from ..errors import ConfigError

_FLAGS = {
    "--name": "node.name",
    "--operator": "node.operator",
    "--identity": "node.identity",
    "--listen": "node.listen",
    "--advertise": "node.advertise",
    "--link-ports": "node.link_ports",
    "--model": "node.models",
    "--currency": "node.currency",
    "--price-compute": "node.price_compute",
    "--price-dealer": "node.price_dealer",
}
_OF_THE_MACHINE = ("--operator", "--advertise")
_NOT_IN_CLUSTER_FILE = ("--identity", "--link-ports")
_SAID_BY_CLUSTER_FILE = ("--name", "--operator")


def with_configured(arguments: Sequence[str], *, coordinator: bool = False) -> list[str]:
    """The arguments, and those that are set elsewhere and not among them. Raises ConfigError for a wrong setting."""
    given = {one.partition("=")[0] for one in arguments if one.startswith("--")}
    found = list(arguments)
    if "--roster" in given:  # cluster.json says it all
        return found
    config = Config.load()
    file = "--cluster-file" in given
    for flag, name in _FLAGS.items():
        if flag in given or (coordinator and flag not in _OF_THE_MACHINE) or (file and flag in _SAID_BY_CLUSTER_FILE):
            continue
        one = config.effective(name)
        if one.value is None or (file and one.source != one.setting.variable and flag not in _NOT_IN_CLUSTER_FILE):
            continue
        for value in one.value if isinstance(one.value, tuple) else (one.value,):
            found += [flag, _path(value) if flag == "--identity" else value]
    if "--invite" not in given and not file:
        found += _invite(config)
    return found


def _path(value: str) -> str:
    return str(Path(value).expanduser())


def _invite(config: Config) -> list[str]:
    """From TACIT_INVITE, else from the file that is set. The node that keeps its own beside its identity needs neither."""
    file = config.get("node.invite_file")
    if config.get("variable.invite") is not None or file is None:
        return []  # the node reads the variable itself
    path = Path(file).expanduser()
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the invite: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is no invite") from None
    if mode & 0o077:
        raise ConfigError(f"{path}: others can read this invite (mode {mode:o}); run: chmod 600 {path}")
    return ["--invite", text.strip()]
