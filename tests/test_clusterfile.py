"""cluster.toml: what it says, and how it tells somebody what is wrong with theirs."""

from __future__ import annotations

import pytest
from tacit.address import Address, from_libp2p, to_libp2p
from tacit.clusterfile import ClusterFile, Prices
from tacit.errors import ConfigError, UsageError
from tacit.party.identity import Identity

NAMES = ("alice", "bob", "carol")
IDS = {name: Identity.create().peer_id for name in ("coordinator", *NAMES)}


def peer(name: str, operator: str, address: str, more: str = "") -> str:
    return (
        f'[[peer]]\nname = "{name}"\noperator = "{operator}"\npeer_id = "{IDS[name]}"\naddress = "{address}"\n{more}\n'
    )


ALICE = peer("alice", "Alice", "/ip4/192.0.2.2/tcp/7450", 'models = ["stories", "/srv/a model"]')
BOB = peer(
    "bob",
    "Bob",
    f"/dns4/bob.example/tcp/7451/p2p/{to_libp2p(IDS['bob'])}",
    'price = { currency = "CHF", compute = 0.12, dealer = "3" }',
)
CAROL = peer("carol", "Carol", "/ip6/2001:db8::1/tcp/7450")
HEAD = f"""\
[cluster]
name = "friends"

[coordinator]
url = "http://192.0.2.1:7440"
peer_id = "{IDS["coordinator"]}"
address = "/ip4/127.0.0.1/tcp/7449"
"""
GOOD = HEAD + ALICE + BOB + CAROL


@pytest.fixture
def written(tmp_path):
    def write(text: str):
        path = tmp_path / "cluster.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_it_pins_its_peers_and_nobody_else(written):
    found = ClusterFile.load(written(GOOD))
    assert (found.cluster, found.own, found.url) == ("friends", False, "http://192.0.2.1:7440")
    assert [(one.name, one.operator) for one in found.members] == [
        ("alice", "Alice"),
        ("bob", "Bob"),
        ("carol", "Carol"),
    ]
    stranger = Identity.create().peer_id
    assert found.member(IDS["bob"]).name == "bob"
    assert found.member(stranger) is None
    assert found.member(IDS["coordinator"]) is None
    assert found.is_coordinator(IDS["coordinator"])
    assert not found.is_coordinator(IDS["alice"])
    assert found.name_of(IDS["alice"]).startswith("alice (")
    assert found.name_of(IDS["coordinator"]) == found.coordinator_name
    assert found.name_of(stranger).startswith("unknown peer")


def test_a_node_takes_its_settings_from_it(written):
    found = ClusterFile.load(written(GOOD))
    alice, bob, carol, coordinator = map(found.node, (*NAMES, "coordinator"))
    assert (alice.operator, alice.models, alice.prices) == ("Alice", ("stories", "/srv/a model"), None)
    assert (alice.listen, alice.advertise) == ("/ip4/0.0.0.0/tcp/7450", "192.0.2.2")
    assert bob.prices == Prices("CHF", "0.12", "3")
    assert (bob.listen, bob.advertise) == ("/ip4/0.0.0.0/tcp/7451", "bob.example")
    assert carol.listen == "/ip6/::/tcp/7450"
    assert (coordinator.listen, coordinator.operator) == ("/ip4/127.0.0.1/tcp/7449", "")
    assert [Address.parse(one).peer_id for one in alice.join] == [IDS["coordinator"], IDS["bob"], IDS["carol"]]
    with pytest.raises(ConfigError, match="has no 'dave'; it has coordinator, alice, bob, carol"):
        found.node("dave")


def swap(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (swap("[cluster]", "[cluster"), "is not TOML.*line 1"),
        (swap('name = "friends"', ""), r"line 1: \[cluster\] name is missing"),
        (
            swap('name = "friends"', 'name = "friends"\nowm = true'),
            r"line 3: .cluster. owm is not known here; allowed: name, own",
        ),
        (
            swap('name = "friends"', 'name = "friends"\nown = "yes"'),
            "line 3: .cluster. own is not true or false: 'yes'",
        ),
        (
            swap("[cluster]", "colour = 1\n[cluster]"),
            "line 1: colour is not known here; allowed: cluster, coordinator, peer",
        ),
        (swap("http://192.0.2.1:7440", "192.0.2.1"), r"line 5: .coordinator. url is not an http\(s\) address"),
        (swap('operator = "Bob"', "operator = 7"), r"line \d+: ..peer.. 2 operator is not a name"),
        (swap('operator = "Bob"\n', ""), r"line 14: ..peer.. 2 operator is missing"),
        (swap(IDS["carol"], IDS["carol"][:-1]), r"..peer.. 3 peer_id is not a peer id \(43"),
        (swap(IDS["carol"], IDS["alice"]), r"..peer.. 3 peer_id is that of alice as well"),
        (swap(IDS["carol"], IDS["coordinator"]), r"..peer.. 3 peer_id is that of coordinator as well"),
        (swap('"carol"', '"bob"'), "..peer.. 3 name is that of bob as well"),
        (swap("/ip6/2001:db8::1/tcp/7450", "/ip4/192.0.2.2/tcp/7450"), "address is that of alice as well"),
        (swap("/ip6/2001:db8::1/tcp/7450", "/ip4/0.0.0.0/tcp/7450"), "nowhere that others could dial"),
        (swap("/ip6/2001:db8::1/tcp/7450", "192.0.2.9:7450"), "not an address of the form /ip4/"),
        (swap(to_libp2p(IDS["bob"]), to_libp2p(IDS["carol"])), "..peer.. 2 address ends in another peer's"),
        (swap("compute = 0.12", "compute = -1"), "..peer.. 2 price compute is not an amount"),
        (swap("compute = 0.12", "compute = true"), "..peer.. 2 price compute is not an amount"),
        (swap("compute = 0.12", "compute = 1e300"), "..peer.. 2 price compute is not an amount"),
        (swap("currency =", "curency ="), "price is not a table of the form"),
        (swap('["stories", "/srv/a model"]', '"stories"'), "models is not a list"),
        (HEAD + ALICE.replace("[[peer]]", "[peer]"), "peer is not an array of tables"),
        (HEAD + ALICE + BOB, "has 2 .*peer.* tables; a cluster has from 3"),
        (swap('"Carol"', '"Bob"'), "own is false, and the peers have 2 operators .Alice, Bob."),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_key(written, text, words):
    path = written(text)
    with pytest.raises(ConfigError, match=words) as caught:
        ClusterFile.load(path)
    assert str(caught.value).startswith(str(path))


def test_ones_own_peers_may_share_an_operator(written):
    text = GOOD.replace('"Bob"', '"Alice"').replace('"Carol"', '"Alice"')
    with pytest.raises(ConfigError, match="own = true"):
        ClusterFile.load(written(text))
    assert ClusterFile.load(written(text.replace('"friends"', '"friends"\nown = true'))).own


def test_files_that_are_none_are_named(tmp_path, written):
    with pytest.raises(ConfigError, match="cannot read the cluster file: No such file"):
        ClusterFile.load(tmp_path / "cluster.toml")
    path = written("")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        ClusterFile.load(path)
    path.write_bytes(b"#" * (1 << 21))
    with pytest.raises(ConfigError, match="larger than"):
        ClusterFile.load(path)
    path.write_text("x = " + "[" * 5000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        ClusterFile.load(path)


def test_peer_ids_and_libp2p_ids_are_two_spellings_of_a_key():
    # RFC 8032, section 7.1, test 1: the public key of the secret key 9d61b19d…
    key = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert from_libp2p(to_libp2p(key)) == key
    assert to_libp2p(key).startswith("12D3KooW")
    for wrong in ("1" * 52, "z" * 52, "12D3KooW"):
        with pytest.raises(ValueError, match=r"Ed25519|substring"):
            from_libp2p(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/ip4/1.2.3.4",
        "/ip4/1.2.3.4/udp/1",
        "/ip4/1.2.3/tcp/1",
        "/ip4/1.2.3.4/tcp/65536",
        "/ip4/::1/tcp/1",
        "x" * 500,
    ],
)
def test_addresses_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="not an address"):
        Address.parse(text)
