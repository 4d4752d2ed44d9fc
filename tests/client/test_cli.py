"""The command line as a user meets it: processes, exit statuses, stdout and stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_client import PROMPT, free_port, greedy
from toy_cluster import ToyCluster
from toy_model import BOS

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("TACIT_TEST_MODELS", ROOT.parent / "shared" / "models"))
TACIT = [sys.executable, "-P", "-m", "tacit.client.cli"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    found = ToyCluster(tmp_path_factory.mktemp("cluster"), free_port)
    yield found
    found.close()


@pytest.fixture
def tacit(tmp_path, monkeypatch):
    monkeypatch.setenv("TACIT_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("TACIT_CLUSTER", raising=False)

    def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*TACIT, *arguments], capture_output=True, text=True, timeout=60, check=False, input=text)

    return run


def test_help_names_every_command_and_is_quick(tacit):
    tacit("--help")  # the first start may have to compile Python files
    began = time.perf_counter()
    done = tacit("--help")
    seconds = time.perf_counter() - began
    assert done.returncode == 0
    for command in ("up", "ask", "serve", "check", "status", "peer", "coordinator", "identity"):
        assert command in done.stdout
    # 0.3 s is the aim on a quiet machine; a test machine is busy.
    assert seconds < 1.5


@pytest.mark.parametrize(
    "command",
    [
        "up",
        "ask",
        "check",
        "status",
        "peer",
        "coordinator",
        "identity",
        "identity new",
        "identity show",
        "config",
        "peers",
        "peers pin",
        "peers list",
        "peers forget",
    ],
)
def test_every_command_explains_itself(tacit, command):
    done = tacit(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['tacit', '--help']\n"
        "from tacit.client.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'zmq', 'httpx2', 'torch', 'numba') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"


def test_version(tacit):
    import tacit as package

    assert tacit("--version").stdout == f"tacit {package.__version__}\n"


def test_ask_streams_text_and_nothing_else_to_stdout(tacit, cluster):
    done = tacit("ask", PROMPT, "--cluster", str(cluster.path), "--model", "toy", "--max-new-tokens", "6")
    assert done.returncode == 0, done.stderr
    expected = greedy([BOS, *_bytes(PROMPT)], 6)
    from tacit.client.tokens import TextTokenizer
    from toy_model import VOCAB, byte_tokenizer

    text = TextTokenizer(byte_tokenizer(), VOCAB, BOS).decode(expected)
    assert done.stdout == text + "\n"


def _bytes(text: str) -> list[int]:
    from tacit.client.tokens import TextTokenizer
    from toy_model import VOCAB, byte_tokenizer

    return TextTokenizer(byte_tokenizer(), VOCAB, BOS).encode(text)[1:]


def test_ask_reads_a_prompt_from_standard_input(tacit, cluster):
    arguments = ("--cluster", str(cluster.path), "--model", "toy", "--max-new-tokens", "4", "--json")
    typed = json.loads(tacit("ask", PROMPT, *arguments).stdout)
    piped = json.loads(tacit("ask", "-", *arguments, text=PROMPT).stdout)
    assert typed["token_ids"] == piped["token_ids"]


def test_json_is_one_object_with_the_promised_keys(tacit, cluster):
    done = tacit(
        "ask", f"{BOS} 65", "--cluster", str(cluster.path), "--model", "ids", "--max-new-tokens", "3", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    keys = ["text", "token_ids", "model", "protocol", "usage", "timings", "traffic", "layers"]
    assert list(found) == keys
    assert found["token_ids"] == greedy([BOS, 65], 3)
    free = {"currency": "EUR", "price_per_million": "0.00", "cost": "0.00"}
    assert found["usage"] == {"prompt_tokens": 2, "completion_tokens": len(greedy([BOS, 65], 3)), **free}
    assert (found["model"], found["protocol"], found["layers"]) == ("ids", "pair", 2)


def test_sampling_options_reach_the_sampler(tacit, cluster):
    arguments = (
        "ask",
        f"{BOS} 65",
        "--cluster",
        str(cluster.path),
        "--model",
        "ids",
        "--max-new-tokens",
        "5",
        "--json",
    )
    sampled = [
        json.loads(tacit(*arguments, "--temperature", "3", "--seed", seed).stdout)["token_ids"]
        for seed in ("1", "1", "2")
    ]
    assert sampled[0] == sampled[1] != sampled[2]
    narrow = tacit(*arguments, "--temperature", "3", "--top-k", "1")
    assert json.loads(narrow.stdout)["token_ids"] == greedy([BOS, 65], 5)
    nucleus = tacit(*arguments, "--temperature", "1", "--top-p", "0.000001")
    assert json.loads(nucleus.stdout)["token_ids"] == greedy([BOS, 65], 5)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("ask", "hush", "--model", "nope"), 1, "does not serve 'nope'"),
        (("ask", "hush " * 20, "--model", "toy"), 1, "context is 48"),
        (("ask", "hush", "--model", "ids"), 1, "token ids"),
        (("ask", "hush", "--temperature", "-1"), 2, "--temperature"),
        (("ask", "hush", "--top-k", "0"), 2, "--top-k"),
        (("ask", "hush", "--protocol", "poker"), 2, "poker"),
        (("ask", "hush", "--max-new-tokens", "0"), 2, "--max-new-tokens"),
        (("ask",), 2, "prompt"),
    ],
)
def test_bad_requests_end_in_one_clear_line(tacit, cluster, arguments, status, words):
    done = tacit(*arguments, *(("--cluster", str(cluster.path)) if len(arguments) > 1 else ()))
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert words.lower() in " ".join(done.stderr.lower().split())
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stderr
    if status == 1:
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_an_answer_that_cannot_be_written_ends_in_one_line(tacit, cluster, as_json):
    arguments = ["ask", PROMPT, "--cluster", str(cluster.path), "--model", "toy", *["--json"] * as_json]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*TACIT, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the answer cannot be written")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("piped", [False, True])
def test_a_prompt_that_is_not_utf8_is_refused_in_one_line(tacit, cluster, piped):
    prompt = b"hush \xff"
    arguments = [b"-" if piped else prompt, "--cluster", str(cluster.path), "--model", "toy"]
    done = subprocess.run([*TACIT, "ask", *arguments], input=prompt, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"error: the prompt is not text: some of its bytes are not UTF-8\n"


def test_no_core_dump_can_hold_the_prompt():
    code = """
import resource, sys
from tacit.client.cli import main
sys.argv = ["tacit", "--version"]
try:
    main()
finally:
    print(resource.getrlimit(resource.RLIMIT_CORE))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "(0, 0)"


def test_a_missing_or_wrong_cluster_file_is_named(tacit, tmp_path):
    done = tacit("ask", "x", "--cluster", str(tmp_path / "none.json"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "none.json" in done.stderr
    (tmp_path / "other.json").write_text("{}")
    done = tacit("ask", "x", "--cluster", str(tmp_path / "other.json"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "other.json: holds a malformed Roster" in done.stderr


def test_status_shows_peers_and_models(tacit, cluster):
    done = tacit("status", "--cluster", str(cluster.path))
    assert done.returncode == 0, done.stderr
    for word in ("peer-0", "peer-1", "peer-2", "toy", "ids"):
        assert word in done.stdout
    nowhere = tacit("status")
    assert nowhere.returncode == 1
    assert "tacit up" in nowhere.stderr


def test_identity_is_made_once_and_shown_without_its_secret(tacit, tmp_path):
    file = tmp_path / "peer.identity"
    made = tacit("identity", "new", str(file))
    assert made.returncode == 0, made.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(made.stdout) == json.loads(tacit("identity", "show", str(file)).stdout)
    secrets = [value for key, value in json.loads(file.read_text()).items() if key != "format"]
    assert not any(str(secret) in made.stdout for secret in secrets)
    again = tacit("identity", "new", str(file))
    assert again.returncode == 1
    assert str(file) in again.stderr


def test_identities_make_a_roster(tacit, tmp_path):
    """Three peers' entries and a coordinator's are all that a cluster.json is made of."""
    from tacit.members import Roster

    members = []
    for number in range(3):
        facts = (
            "--name",
            f"p{number}",
            "--operator",
            f"o{number}",
            "--mesh-endpoint",
            f"tcp://127.0.0.1:{9000 + number}",
        )
        members.append(json.loads(tacit("identity", "new", str(tmp_path / f"{number}"), *facts).stdout))
    coordinator = json.loads(tacit("identity", "new", str(tmp_path / "c"), "--url", "http://127.0.0.1:9009").stdout)
    file = tmp_path / "cluster.json"
    file.write_text(json.dumps({"cluster": "ours", "own": False, "coordinator": coordinator, "members": members}))
    assert [member.name for member in Roster.load(file).members] == ["p0", "p1", "p2"]
    half = tacit("identity", "new", str(tmp_path / "x"), "--name", "p9")
    assert half.returncode == 2
    wrong = tacit("identity", "new", str(tmp_path / "x"), *facts[:5], "nowhere")
    assert wrong.returncode == 1
    assert "mesh_endpoint" in wrong.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(not (MODELS / "stories260K").exists(), reason=f"no checkpoint in {MODELS}")
def test_plain_says_that_it_is_not_private(tacit):
    expected = json.loads((MODELS / "stories260K" / "expected.json").read_text())
    model = ("--model", str(MODELS / "stories260K"), "--protocol", "plain", "--max-new-tokens", "64")
    done = tacit("ask", expected["prompt"], *model, "--json")
    assert json.loads(done.stdout)["token_ids"] == expected["greedy_new_ids"]
    assert "nothing is private" in done.stderr
    streamed = tacit("ask", expected["prompt"], *model)
    assert expected["prompt"] + streamed.stdout.rstrip("\n") == expected["greedy_text"].rstrip("\n") or (
        streamed.stdout.rstrip("\n") == expected["greedy_text"].rstrip("\n")
    )


def test_an_unknown_model_in_the_clear_is_refused(tacit):
    done = tacit("ask", "x", "--protocol", "plain", "--model", "no/such-model")
    assert done.returncode == 1
    assert "no/such-model" in done.stderr
