"""What is set in config.toml or by variables reaches a node's own command line, and no further than it should."""

from __future__ import annotations

import pytest
from tacit.client.nodes import _FLAGS, with_configured
from tacit.errors import ConfigError
from tacit.party import server
from tacit.party.identity import Identity
from tacit.party.p2p.start import resolve

NODE = """\
[node]
name = "desk"
operator = "Alice"
listen = "/ip4/127.0.0.1/tcp/7999"
link_ports = "7460-7499"
models = ["stories", "/srv/gpt2"]
price_compute = 0.5
"""


def test_a_peer_starts_with_what_is_set(written, tmp_path, monkeypatch):
    written(NODE + f'identity = "{tmp_path / "peer.identity"}"')
    monkeypatch.setenv("TACIT_NAME", "laptop")
    options = server.arguments().parse_args(with_configured(["--operator", "Bob"]))
    node = resolve(options, "peer")
    assert (node.name, node.operator, str(node.listen)) == ("laptop", "Bob", "/ip4/127.0.0.1/tcp/7999")
    assert (options.model, options.link_ports, options.price_compute) == (["stories", "/srv/gpt2"], "7460-7499", "0.5")
    assert (tmp_path / "peer.identity").exists()


def test_flags_go_before_and_nothing_set_adds_nothing(written):
    written(NODE)
    for flag in _FLAGS:
        assert with_configured([flag, "x"]).count(flag) == 1
        assert with_configured([f"{flag}=x"]).count(flag) == 0
    written("")
    assert with_configured(["--own"]) == ["--own"]


def test_a_coordinator_takes_only_what_is_the_machines(written):
    written(NODE + 'advertise = "desk.example"')
    assert with_configured([], coordinator=True) == ["--operator", "Alice", "--advertise", "desk.example"]


def test_a_roster_says_it_all_and_a_cluster_file_what_it_lists(written, monkeypatch):
    written(NODE)
    monkeypatch.setenv("TACIT_OPERATOR", "Bob")
    monkeypatch.setenv("TACIT_PRICE_DEALER", "2")
    assert with_configured(["--roster", "cluster.json"]) == ["--roster", "cluster.json"]
    assert with_configured(["--cluster-file", "c.toml"]) == [
        *("--cluster-file", "c.toml", "--link-ports", "7460-7499", "--price-dealer", "2")
    ]


def test_prices_and_models_of_a_cluster_file_hold(written, tmp_path):
    written("")
    identities = [Identity.create() for _ in range(4)]
    identities[0].save(tmp_path / "peer.identity")
    peers = "".join(
        f'[[peer]]\nname = "p{number}"\noperator = "O{number}"\npeer_id = "{one.peer_id}"\n'
        f'address = "/ip4/127.0.0.1/tcp/{7450 + number}"\nmodels = ["stories"]\nprice = {{ compute = {number + 1} }}\n'
        for number, one in enumerate(identities[:3])
    )
    file = tmp_path / "cluster.toml"
    file.write_text(
        f'[cluster]\nname = "c"\n[coordinator]\nurl = "http://127.0.0.1:7440"\npeer_id = "{identities[3].peer_id}"\n'
        f'address = "/ip4/127.0.0.1/tcp/7449"\n{peers}'
    )
    arguments = ["--cluster-file", str(file), "--identity", str(tmp_path / "peer.identity")]
    node = resolve(server.arguments().parse_args(with_configured(arguments)), "peer")
    assert (node.name, node.operator, node.models) == ("p0", "O0", ("stories",))
    assert node.prices is not None
    assert (node.prices.compute, node.prices.dealer, node.prices.currency) == ("1", "0", "EUR")


def test_an_invite_in_a_file_has_to_be_private(written, tmp_path, monkeypatch):
    file = tmp_path / "invite"
    written(f'[node]\ninvite_file = "{file}"')
    with pytest.raises(ConfigError, match="cannot read the invite"):
        with_configured([])
    file.write_text("friends:c2VjcmV0c2VjcmV0c2VjcmV0\n")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        with_configured([])
    assert "c2VjcmV0" not in str(caught.value)
    file.chmod(0o600)
    assert with_configured([]) == ["--invite", "friends:c2VjcmV0c2VjcmV0c2VjcmV0"]
    assert with_configured(["--invite", "x:y"]) == ["--invite", "x:y"]
    monkeypatch.setenv("TACIT_INVITE", "other:c2VjcmV0c2VjcmV0c2VjcmV0")
    assert with_configured([]) == []
