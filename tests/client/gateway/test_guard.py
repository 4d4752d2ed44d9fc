"""Who may ask at all: Host, Origin, token, content type, size. Over a socket, as browsers and programs send it."""

from __future__ import annotations

import http.client
import json
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from in_the_clear import Offered, gateway
from tacit.client.gateway.guard import Rules

TOKEN = "s3cret-token-of-the-tests"
PATHS = ("/health", "/ready", "/openapi.json", "/v1/models", "/nothing")
ASK = json.dumps({"model": "stories", "prompt": "Once", "max_tokens": 1})


def send(address, method, path, headers=(), body=None):
    """Status, headers, body. Host only if it is among the headers: exactly what is given is sent."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None:
            body = body.encode() if isinstance(body, str) else body
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def ask(address, *headers, body=ASK, kind="application/json"):
    return send(address, "POST", "/v1/completions", [("Host", "localhost"), ("Content-Type", kind), *headers], body)


@pytest.fixture(scope="module")
def guarded(shipped):
    rules = Rules(frozenset({"gate.example"}), frozenset({"https://app.example"}), TOKEN, max_body=2000)
    with gateway(Offered(shipped), rules) as address:
        yield address


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil@localhost",
        "localhost@evil.example",
        "localhost:80:80",
        "localhost:port",
        "localhost/",
        "0.0.0.0",
        "192.0.2.1",
        "[::]",
        "[2001:db8::1]:8080",
        "",
        "lоcalhost".encode().decode("latin-1"),  # a Cyrillic letter
    ],
)
def test_a_foreign_host_is_refused_everywhere(address, host, path):
    status, _, body = send(address, "GET", path, [("Host", host)])
    assert status == 403
    assert json.loads(body)["error"]["code"] == "forbidden"


@pytest.mark.parametrize("host", ["localhost", "LocalHost:1", "127.0.0.1:8080", "127.9.9.9", "[::1]", "[::1]:8080"])
def test_names_of_this_machine_are_let_in(address, host):
    assert send(address, "GET", "/health", [("Host", host)])[0] == 200


def test_a_second_host_is_refused(address):
    status, *_ = send(address, "GET", "/health", [("Host", "localhost"), ("Host", "evil.example")])
    assert status in (400, 403)  # 400: the server itself refuses it


def test_a_named_host_is_let_in_where_it_is_allowed(address, guarded):
    for where, expected in ((guarded, 200), (address, 403)):
        assert send(where, "GET", "/health", [("Host", "gate.example:443")])[0] == expected


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "PUT"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost", "null", "", "https://app.example.evil.example", "file://"]
)
def test_a_foreign_origin_is_refused_everywhere(address, guarded, origin, path, method):
    for where in (address, guarded):
        headers = [("Host", "localhost"), ("Origin", origin), ("Authorization", f"Bearer {TOKEN}")]
        status, sent, _ = send(where, method, path, headers)
        assert status == 403
        assert "access-control-allow-origin" not in sent


def test_a_page_of_another_site_is_refused_without_origin_too(address):
    for site, expected in (("cross-site", 403), ("same-site", 403), ("none", 200), ("same-origin", 200)):
        assert send(address, "GET", "/health", [("Host", "localhost"), ("Sec-Fetch-Site", site)])[0] == expected


def test_an_allowed_origin_may_ask_and_read(guarded):
    origin = ("Origin", "https://app.example")
    headers = [("Host", "localhost"), origin, ("Access-Control-Request-Method", "POST")]
    headers += [("Access-Control-Request-Headers", "authorization,content-type")]
    status, sent, _ = send(guarded, "OPTIONS", "/v1/completions", headers)  # browsers send no token with this
    assert status == 200
    assert sent["access-control-allow-origin"] == "https://app.example"
    assert "authorization" in sent["access-control-allow-headers"].lower()
    for token, expected in ((TOKEN, 200), ("wrong", 401)):
        status, sent, _ = ask(guarded, origin, ("Authorization", f"Bearer {token}"))
        assert status == expected
        assert sent["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \xe4"],
)
def test_a_wrong_token_is_refused(guarded, given):
    headers = [] if given is None else [("Authorization", given)]
    for method, path in (("GET", "/v1/models"), ("GET", "/v1/models/stories"), ("GET", "/v1/nothing")):
        status, sent, body = send(guarded, method, path, [("Host", "localhost"), *headers])
        assert status == 401
        assert sent["www-authenticate"] == "Bearer"
        assert json.loads(body)["error"]["code"] == "invalid_api_key"
    assert ask(guarded, *headers)[0] == 401
    assert send(guarded, "GET", "/health", [("Host", "localhost"), *headers])[0] == 200


def test_the_token_opens(guarded):
    assert ask(guarded, ("Authorization", f"bearer {TOKEN}"))[0] == 200


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "", "application/jsonp"],
)
def test_only_json_is_taken(address, kind):
    """A page's form can send these without asking first."""
    status, _, body = ask(address, kind=kind)
    assert status == 415
    assert "application/json" in json.loads(body)["error"]["message"]


def test_json_of_a_charset_is_taken(address):
    assert ask(address, kind="Application/JSON; charset=utf-8")[0] == 200


def test_a_body_that_is_too_large_is_refused(guarded):
    token = ("Authorization", f"Bearer {TOKEN}")
    body = json.dumps({"model": "stories", "prompt": "x" * 2000})
    assert ask(guarded, token, body=body)[0] == 413
    headers = [("Host", "localhost"), ("Content-Type", "application/json"), token, ("Transfer-Encoding", "chunked")]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:1500].encode(), body[1500:].encode()))
    connection = http.client.HTTPConnection(urlsplit(guarded).netloc, timeout=10)
    connection.putrequest("POST", "/v1/completions", skip_host=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(chunks + b"0\r\n\r\n")
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"]["code"] == "too_large"
    connection.close()


def test_the_description_names_the_token_where_there_is_one(address, guarded):
    for where, expected in ((address, None), (guarded, [{"token": []}])):
        described = json.loads(send(where, "GET", "/openapi.json", [("Host", "localhost")])[2])
        assert described["paths"]["/v1/completions"]["post"].get("security") == expected
        assert "422" not in described["paths"]["/v1/completions"]["post"]["responses"]


def test_there_is_no_page_that_loads_scripts_from_elsewhere(address):
    for path in ("/docs", "/redoc", "/"):
        assert send(address, "GET", path, [("Host", "localhost")])[0] == 404


def test_rules_are_by_name_not_by_how_it_is_written():
    rules = replace(Rules(), hosts=frozenset({"gate.example", "2001:db8::1"}))
    assert rules.allows_host("GATE.example:8080")
    assert rules.allows_host("[2001:db8::1]:8080")
    assert not rules.allows_host("gate.example.:8080")
