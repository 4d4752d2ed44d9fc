"""Every fault once, over five peers, a coordinator and a client in namespaces of their own; see `faults` for the table.

Over libp2p, the only form of the mesh across machines; where that is not installed, over a cluster.json.
With TACIT_ALL=1 also fifty answers with a random fault each (`scripts/soak` does the same, longer).
"""

from __future__ import annotations

import json
import os
import random
import sys

import pytest
from faults import Fault, Trials, WrongOutcome
from forms import RosterForm, best_form
from lab import Lab, own_namespaces, why_not
from network_cluster import PEERS, NetworkCluster
from soak import CASES, KILLABLE, questions, report, soak

pytestmark = [
    pytest.mark.skipif(bool(reason := why_not()), reason=str(reason)),
    pytest.mark.timeout(900 if os.environ.get("TACIT_ALL") else 240),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield NetworkCluster(lab, best_form())
    assert lab.leaked == []
    assert own_namespaces() == []


def test_the_command_line_gives_the_plaintext_models_tokens(cluster):
    case = json.loads(CASES.read_text(encoding="utf-8"))["cases"][0]
    command = ["ask", case["prompt"], "--max-new-tokens", "24", "--json"]
    command += ["--cluster", cluster.form.client(cluster.desk)]
    done = cluster.desk.run([sys.executable, "-P", "-m", "tacit.client.cli", *command])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["token_ids"] == case["greedy_new_ids"][:24]


def test_the_mesh_does_answer_a_member(cluster):
    """What strangers are refused in STRANGER is there to be had."""
    assert cluster.form.admits("member", cluster.street)


@pytest.mark.parametrize(
    "fault", sorted(Fault, key=lambda fault: fault is not Fault.SWAPPED_PEER), ids=lambda one: one.name
)
def test_a_fault_ends_as_documented(cluster, fault):
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    try:
        Trials(cluster, chance, KILLABLE).undergo(fault, next(questions(chance, 24, 24)))
    except WrongOutcome as error:
        pytest.fail(f"seed {seed}: {error}\n{cluster.logs()}")


def test_nobody_needs_the_node_that_everybody_joined_by(cluster):
    """The founder is gone for good, and the coordinator is started anew: the others find each other all the same."""
    if isinstance(cluster.form, RosterForm):
        pytest.skip("over a cluster.json nobody has to be found")
    founder = PEERS[0]
    cluster.servers[founder].kill()
    cluster.servers[cluster.hub.name].kill()
    cluster.start(cluster.hub.name).event(60)
    cluster.await_whole(without=founder)
    Trials(cluster, random.Random(0), KILLABLE).undisturbed(next(questions(random.Random(0), 24, 24)))
    cluster.start(founder).event(60)
    cluster.await_whole()


@pytest.mark.skipif("TACIT_ALL" not in os.environ, reason="minutes; set TACIT_ALL=1")
def test_fifty_answers_with_a_fault_each(cluster):
    seed = random.SystemRandom().randrange(1 << 32)
    found = soak(cluster, seed, 50, print)
    print(report(found))
    assert len(found.trials) == 50
    assert found.grown() == [], f"seed {seed}"
