"""Every setting, once: its place in config.toml, the variable that overrides it, its form, its default, what it is for.

`python -m tacit.settings` prints the tables of docs/configuration.md; a test sees to it that they agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .checks import MAX_TOKENS, is_currency, is_name, is_url
from .clusterfile import is_amount, is_model_argument
from .errors import UsageError
from .quotes import Price
from .records import Check, boolean, distinct, integer, many, text

MAX_RESUMES = 3  # of one answer
MAX_SECONDS = 86400.0

is_line = text(r"[^\x00-\x1f\x7f]{1,4096}", "a line of text")
is_ports = text(r"[1-9][0-9]{0,4}-[1-9][0-9]{0,4}", "a range of ports such as 7460-7499")
are_names = distinct(many(is_name, 1, 64))
are_models = distinct(many(is_model_argument, 1, 256))


def is_price(value: Any) -> str:
    """A price for a million tokens, as `Policy` takes it."""
    try:
        return str(Price.parse(value if isinstance(value, str) else ""))
    except UsageError:
        raise ValueError(f"is not a price such as '3 EUR': {value!r}") from None


def is_seconds(value: Any) -> float:
    """A duration above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_SECONDS:
        raise ValueError(f"is not a number of seconds, above 0 and at most {MAX_SECONDS:.0f}: {value!r}")
    return float(value)


def _number(kind: type[int] | type[float]) -> Callable[[str], Any]:
    def read(given: str) -> Any:
        try:
            return kind(given)
        except ValueError:
            return given  # which the check refuses in its own words

    return read


def _truth(given: str) -> Any:
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(given.lower(), given)


def _list(given: str) -> Any:
    return [one.strip() for one in given.split(",") if one.strip()]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `table`: of config.toml; "clusters.*" is every cluster's own, "variable" not in the file at all."""

    table: str
    key: str
    variable: str  # "" if none overrides it
    check: Check
    default: Any
    shown: str  # the default, for people
    what: str
    read: Callable[[str], Any] = str  # the variable's text as the value that `check` takes
    secret: bool = False

    @property
    def name(self) -> str:
        return f"{self.table}.{self.key}" if self.table else self.key


CLUSTER, CLIENT, NODE, VARIABLE = "clusters.*", "client", "node", "variable"

SETTINGS: tuple[Setting, ...] = (
    Setting("", "default_cluster", "TACIT_CLUSTER", is_line, None, "", "the cluster to ask when none is named"),
    Setting(
        CLUSTER, "coordinator", "", is_url, None, "", "http(s) address of its coordinator; peers are pinned one by one"
    ),
    Setting(CLUSTER, "file", "", is_line, None, "", "its cluster.toml or cluster.json instead, which pins its peers"),
    Setting(CLUSTER, "own", "", boolean, False, "false", "all peers are mine: operators may repeat"),
    Setting(
        CLUSTER, "operators", "TACIT_OPERATORS", are_names, None, "all", "accept peers of these operators only", _list
    ),
    Setting(
        CLUSTER, "max_price", "TACIT_MAX_PRICE", is_price, None, "none", "the most to pay for a million tokens, '3 EUR'"
    ),
    Setting(CLUSTER, "model", "TACIT_MODEL", is_model_argument, None, "", "which model to ask there"),
    Setting(
        CLUSTER,
        "trust_on_first_use",
        "",
        boolean,
        False,
        "false",
        "pin what its coordinator shows, if nothing is pinned",
    ),
    Setting(CLIENT, "model", "TACIT_MODEL", is_model_argument, None, "the only one", "which model to ask"),
    Setting(
        CLIENT,
        "max_new_tokens",
        "TACIT_MAX_NEW_TOKENS",
        integer(1, MAX_TOKENS),
        128,
        "128",
        "end an answer after this many tokens",
        _number(int),
    ),
    Setting(
        CLIENT, "timeout", "TACIT_TIMEOUT", is_seconds, 60.0, "60", "seconds that one step may take", _number(float)
    ),
    Setting(
        CLIENT,
        "max_resumes",
        "TACIT_MAX_RESUMES",
        integer(0, MAX_RESUMES),
        MAX_RESUMES,
        str(MAX_RESUMES),
        "go on with other peers this often when one is lost",
        _number(int),
    ),
    Setting(CLIENT, "keep_receipts", "TACIT_KEEP_RECEIPTS", boolean, True, "true", "keep what the peers sign", _truth),
    Setting(NODE, "name", "TACIT_NAME", is_name, None, "the host name", "what this node is called in its cluster"),
    Setting(NODE, "operator", "TACIT_OPERATOR", is_name, None, "", "who runs it"),
    Setting(NODE, "identity", "TACIT_IDENTITY", is_line, None, "in the data folder", "its identity file"),
    Setting(NODE, "listen", "TACIT_LISTEN", is_line, None, "everywhere", "multiaddr that its mesh listens on"),
    Setting(NODE, "advertise", "TACIT_ADVERTISE", is_line, None, "", "host under which others reach it"),
    Setting(
        NODE, "link_ports", "TACIT_LINK_PORTS", is_ports, None, "any", "ports for the links of sessions, 7460-7499"
    ),
    Setting(NODE, "invite_file", "TACIT_INVITE_FILE", is_line, None, "beside the identity", "where the invite is kept"),
    Setting(NODE, "models", "TACIT_MODELS", are_models, None, "", "folders or names of the models it serves", _list),
    Setting(NODE, "currency", "TACIT_CURRENCY", is_currency, None, "EUR", "of its prices"),
    Setting(
        NODE, "price_compute", "TACIT_PRICE_COMPUTE", is_amount, None, "0", "for a million tokens as a compute peer"
    ),
    Setting(NODE, "price_dealer", "TACIT_PRICE_DEALER", is_amount, None, "0", "for a million tokens as the dealer"),
    Setting(VARIABLE, "invite", "TACIT_INVITE", is_line, None, "", "the invite to a cluster", secret=True),
    Setting(
        VARIABLE,
        "serve_token",
        "TACIT_SERVE_TOKEN",
        is_line,
        None,
        "",
        "what programs show to `tacit serve`",
        secret=True,
    ),
    Setting(VARIABLE, "config", "TACIT_CONFIG", is_line, None, "", "another config.toml; pins are kept beside it"),
    Setting(VARIABLE, "state", "TACIT_STATE", is_line, None, "", "folder for clusters that run on this machine"),
    Setting(VARIABLE, "receipts", "TACIT_RECEIPTS", is_line, None, "", "folder for receipts"),
)


def markdown() -> str:
    """The tables of docs/configuration.md."""
    heads = {"": "Top of the file", CLUSTER: "`[clusters.NAME]`", CLIENT: "`[client]`", NODE: "`[node]`"}
    heads[VARIABLE] = "Variables only"
    lines: list[str] = []
    for table, head in heads.items():
        lines += ["", head, "", "| key | variable | default | what |", "| --- | --- | --- | --- |"]
        for one in SETTINGS:
            if one.table == table:
                key = "" if table == VARIABLE else f"`{one.key}`"
                variable = f"`{one.variable}`" if one.variable else ""
                lines.append(f"| {key} | {variable} | {one.shown} | {one.what} |")
    return "\n".join(lines[1:]) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
