"""docs/deployment.md, typed as it stands: three operators' machines, a coordinator's and a client's."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
import time

import pytest
from document import DEPLOYMENT, Block, addresses, blocks
from lab import Lab, LabError, Running, own_namespaces, why_not
from soak import CASES

pytest.importorskip("libp2p", reason="the [mesh] extra is not installed")
pytestmark = [pytest.mark.skipif(bool(reason := why_not()), reason=str(reason)), pytest.mark.timeout(200)]

PAGE = DEPLOYMENT.read_text(encoding="utf-8")
START_SECONDS = 60
PEER_ID = r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"


class Deployment:
    """Machines with the page's addresses, and a shell on each that types its blocks."""

    def __init__(self, lab: Lab) -> None:
        tools = lab.folder / "bin"
        tools.mkdir()
        tacit = tools / "tacit"
        tacit.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m tacit.client.cli "$@"\n')
        tacit.chmod(0o755)
        self.nodes = {name: lab.add(name, address) for name, address in addresses(PAGE).items()}
        for node in self.nodes.values():
            node.environment["PATH"] = f"{tools}:{node.environment['PATH']}"
        self.staying: dict[str, Running] = {}
        self.told: dict[str, str] = {}  # what people tell each other: JOIN, TACIT_INVITE, ids
        self.outputs: list[tuple[Block, str]] = []

    def type(self, block: Block) -> None:
        for name in block.machines:
            if block.stops:
                running = self.staying.pop(name)
                running.signal(signal.SIGINT)
                assert running.wait(10) == 0, running.tail()
            elif block.stays:
                self._stay(name, block)
            else:
                done = self.nodes[name].run(["bash", "-euo", "pipefail", "-c", block.text], 60, self.told)
                assert done.returncode == 0, f"on {name}: {block.text}\n{done.stdout}\n{done.stderr}"
                self.outputs.append((block, done.stdout + done.stderr))
                if "identity show" in block.text:
                    self.told[name.upper()] = _only(PEER_ID, done.stdout)

    def said(self, command: str) -> list[str]:
        """What each block with this command printed."""
        return [output for block, output in self.outputs if command in block.text]

    def _stay(self, name: str, block: Block) -> None:
        command = ["bash", "-euo", "pipefail", "-c", f"exec {block.text}"]
        running = self.nodes[name].start(name, command, self.told)
        assert "ready" in running.event(START_SECONDS)
        self.staying[name] = running
        if "JOIN" not in self.told:
            hint = _eventually(running, r"^tacit peer --join .*$")
            words = shlex.split(hint)
            self.told["JOIN"] = words[words.index("--join") + 1]
            self.told["TACIT_INVITE"] = words[words.index("--invite") + 1]
            assert self.told["TACIT_INVITE"].startswith("three-friends:")


def _only(pattern: str, text: str) -> str:
    [found] = set(re.findall(pattern, text))
    return str(found)


def _eventually(running: Running, pattern: str) -> str:
    deadline = time.monotonic() + 10
    while not (found := re.search(pattern, running.tail(100), re.MULTILINE)):
        assert time.monotonic() < deadline, running.tail()
        time.sleep(0.05)
    return found[0]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        found = Deployment(lab)
        try:
            for block in blocks(PAGE):
                found.type(block)
        except LabError as error:
            pytest.fail(str(error))
        yield found
    assert lab.leaked == []
    assert own_namespaces() == []


def test_the_page_names_the_machines_and_types_on_each():
    assert set(addresses(PAGE)) == {"dora", "alice", "bob", "carol", "desk"}
    assert {name for block in blocks(PAGE) for name in block.machines} == set(addresses(PAGE))
    assert len(re.findall(r"^```", PAGE, re.MULTILINE)) % 2 == 0
    assert len(blocks(PAGE)) == PAGE.count("```sh ")


def test_the_answer_is_the_models(deployment):
    case = json.loads(CASES.read_text(encoding="utf-8"))["cases"][0]
    for answer in deployment.said("tacit ask"):
        text = answer.splitlines()[0]
        assert len(text) > 10
        assert case["greedy_text"].startswith(text)


def test_status_and_verify_name_all_three(deployment):
    for command in ("tacit status", "tacit verify"):
        [said] = deployment.said(command)
        assert all(name in said for name in ("alice", "bob", "carol", "Alice", "Bob", "Carol"))


def test_clients_follow_carols_new_key(deployment):
    [shown] = deployment.said("tacit identity rotate")
    new = (set(re.findall(PEER_ID, shown)) - {deployment.told["CAROL"]}).pop()
    last = deployment.said("tacit ask")[-1]
    assert "carol" in last
    assert new[:8] in last


def test_the_doctor_finds_nothing_wrong(deployment):
    for said in deployment.said("tacit doctor"):
        assert "fail" not in said
