"""config.toml and TACIT_* variables: what holds, where it comes from, and what is said of mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tacit import settings
from tacit.config import Config
from tacit.errors import ConfigError

GOOD = """\
default_cluster = "friends"

[clusters.friends]
coordinator = "http://192.0.2.1:7440"
operators = ["Alice", "Bob", "Carol"]
max_price = "3 EUR"
model = "stories"

[clusters."our lab"]
file = "lab/cluster.toml"

[client]
timeout = 5
model = "other"

[node]
operator = "Alice"
price_compute = 0.25
"""


def test_flag_then_variable_then_file_then_default(written, monkeypatch):
    path = written(GOOD)
    config = Config.load()
    assert config.get("client.timeout") == 5.0
    assert config.effective("client.timeout").source == str(path)
    monkeypatch.setenv("TACIT_TIMEOUT", "7.5")
    assert config.get("client.timeout") == 7.5
    assert config.effective("client.timeout").source == "TACIT_TIMEOUT"
    assert config.get("client.timeout", flag=9.0) == 9.0
    assert config.get("client.max_resumes", flag=0) == 0
    assert (config.get("client.max_new_tokens"), config.effective("client.max_new_tokens").source) == (128, "default")
    assert (config.get("node.operator"), config.get("node.price_compute"), config.get("node.name")) == (
        "Alice",
        "0.25",
        None,
    )


def test_a_clusters_own_settings_go_before_the_clients_and_after_a_variable(written, monkeypatch):
    written(GOOD)
    config = Config.load()
    assert config.get("client.model") == "other"
    assert config.get("client.model", cluster="friends") == "stories"
    assert config.get("client.model", cluster="our lab") == "other"
    assert config.get("clusters.*.operators", cluster="friends") == ("Alice", "Bob", "Carol")
    assert config.get("clusters.*.operators", cluster="our lab") is None
    monkeypatch.setenv("TACIT_MODEL", "third")
    monkeypatch.setenv("TACIT_OPERATORS", "X, Y,Z")
    assert config.get("client.model", cluster="friends") == "third"
    assert config.get("clusters.*.operators", cluster="friends") == ("X", "Y", "Z")


def test_clusters_by_address_and_by_file(written):
    path = written(GOOD)
    found = Config.load().clusters
    assert (found["friends"].coordinator, found["friends"].file, found["friends"].own) == (
        "http://192.0.2.1:7440",
        None,
        False,
    )
    assert (found["our lab"].coordinator, found["our lab"].file) == ("", path.parent / "lab/cluster.toml")


def test_no_file_is_fine_unless_it_was_named(tmp_path, monkeypatch):
    monkeypatch.delenv("TACIT_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Config.load().clusters == {}
    monkeypatch.setenv("TACIT_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match=r"none\.toml: cannot read the configuration"):
        Config.load()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[client]\ntimeout = 0", r"line 2: \[client\] timeout is not a number of seconds"),
        (
            "[client]\n\ntimout = 3",
            r"line 3: \[client\] timout is not known here; allowed: keep_receipts, max_new_tokens",
        ),
        ("[client]\nkeep_receipts = 1", "keep_receipts is not true or false: 1"),
        ("[clients]\n", r"line 1: clients is not known here; allowed: client, clusters, default_cluster, node"),
        ("[clusters.a]\n", r"line 1: \[clusters.a\] needs either coordinator"),
        ('[clusters.a]\nfile = "x"\ncoordinator = "http://y"', "needs either"),
        ('[clusters.a]\ncoordinator = "y"', r"line 2: \[clusters.a\] coordinator is not an http"),
        ('[clusters."a/b"]\nfile = "x"', "cannot be what a cluster is called: it is not a name"),
        ('[clusters."a.toml"]\nfile = "x"', "looks like a file"),
        ('[clusters.a]\nfile = "x"\nown = true', r"line 3: \[clusters.a\] own is for a cluster"),
        ('[clusters.a]\ncoordinator = "http://y"\noperators = []', "operators is not a list of 1 to 64"),
        ('[clusters.a]\ncoordinator = "http://y"\nmax_price = 3', "max_price is not a price such as '3 EUR'"),
        ("[clusters]\na = 3", "a is not a table"),
        ('[node]\nlink_ports = "7"', "link_ports is not a range of ports"),
        ('[node]\ninvite = "x:y"', r"\[node\] invite is not known here"),
        ("x", "is not TOML"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_key(written, text, words):
    path = written(text)
    with pytest.raises(ConfigError, match=words) as caught:
        Config.load()
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("TACIT_TIMEOUT", "soon", "client.timeout"),
        ("TACIT_MAX_NEW_TOKENS", "1.5", "client.max_new_tokens"),
        ("TACIT_KEEP_RECEIPTS", "perhaps", "client.keep_receipts"),
        ("TACIT_OPERATORS", ",", "clusters.*.operators"),
        ("TACIT_OPERATOR", "-", "node.operator"),
        ("TACIT_INVITE", "a\nb", "variable.invite"),
    ],
)
def test_a_wrong_variable_is_named_and_a_secret_not_shown(written, monkeypatch, variable, value, name):
    written("")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable) as caught:
        Config.load().get(name)
    if variable == "TACIT_INVITE":
        assert value not in str(caught.value)


def test_an_empty_variable_is_none(written, monkeypatch):
    written("")
    monkeypatch.setenv("TACIT_TIMEOUT", "")
    assert Config.load().effective("client.timeout").source == "default"


def tacit(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "tacit.client.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_config_shows_what_holds_and_hides_secrets(written, monkeypatch):
    path = written(GOOD)
    monkeypatch.setenv("TACIT_INVITE", "friends:c2VjcmV0c2VjcmV0c2VjcmV0")
    monkeypatch.setenv("TACIT_MAX_NEW_TOKENS", "17")
    assert tacit("config", "path").stdout == f"{path}\n"
    shown = tacit("config")
    assert shown.returncode == 0, shown.stderr
    assert "c2VjcmV0" not in shown.stdout
    assert "(hidden)" in shown.stdout
    assert "our lab" in shown.stdout
    found = json.loads(tacit("config", "--json").stdout)
    assert found["settings"]["client.max_new_tokens"] == {"value": 17, "from": "TACIT_MAX_NEW_TOKENS"}
    assert found["settings"]["client.timeout"] == {"value": 5.0, "from": str(path)}
    assert found["settings"]["variable.invite"]["value"] == "(hidden)"
    assert found["clusters"]["friends"]["operators"] == ["Alice", "Bob", "Carol"]
    path.write_text("[client]\nwrong = 1")
    assert tacit("config").stderr.startswith(f"error: {path}, line 2: [client] wrong is not known here")


def test_every_setting_of_the_code_is_in_the_docs_and_the_other_way_round():
    docs = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
    assert settings.markdown() in docs.read_text(), "print it anew: python -m tacit.settings"


def test_names_and_variables_are_used_once():
    names = [one.name for one in settings.SETTINGS]
    assert len(set(names)) == len(names)
    variables = [one.variable for one in settings.SETTINGS if one.variable and one.variable != "TACIT_MODEL"]
    assert len(set(variables)) == len(variables)
