"""The files of scripts/deploy: right in their own linters' eyes, and of the command line that there is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main
from document import DEPLOYMENT
from tacit.address import Address
from tacit.client.cli import app
from tacit.coordinator import server as coordinator
from tacit.party import server as party
from tacit.party.start import port_range

DEPLOY = Path(__file__).resolve().parents[2] / "scripts" / "deploy"
SYSTEMD, COMPOSE, KUBERNETES = DEPLOY / "systemd", DEPLOY / "compose", DEPLOY / "kubernetes"
UNITS = sorted(SYSTEMD.glob("*.service"))
MANIFESTS = sorted(KUBERNETES.glob("*/*.yaml"))
EXPOSURE = 20  # of 100, as `systemd-analyze security` counts; an ordinary service has 96
YAML_RULES = "{extends: default, rules: {line-length: {max: 140}, document-start: disable}}"


def lint(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"no `{tool}` here")


def needs_module(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed")


@pytest.fixture
def units(tmp_path):
    """The units under names as they are enabled, with a program that is there."""
    found = []
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8")
        assert text.count("/usr/local/lib/tacit/bin/tacit") == 1
        copy = tmp_path / unit.name.replace("@", "@alice")
        copy.write_text(text.replace("/usr/local/lib/tacit/bin/tacit", sys.executable), encoding="utf-8")
        found.append(str(copy))
    return found


@needs("systemd-analyze")
def test_units_are_right(units):
    assert len(units) == 2
    assert lint("systemd-analyze", "verify", *units) == ""


@needs("systemd-analyze")
def test_units_are_hardened(units):
    lint("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", *units)


def test_units_take_their_settings_from_the_files_beside_them():
    for unit in UNITS:
        settings = SYSTEMD / (unit.stem.removeprefix("tacit-").rstrip("@") + ".env")
        given = set(re.findall(r"^([A-Z_]+)=", settings.read_text(encoding="utf-8"), re.MULTILINE))
        used = set(re.findall(r"\$\{?([A-Z_]+)\b", unit.read_text(encoding="utf-8")))
        assert used <= given
        assert given - used == {"TACIT_OPERATOR", "TACIT_INVITE"}  # which Tacit reads itself


@needs_module("yamllint")
def test_yaml_is_tidy():
    lint(sys.executable, "-m", "yamllint", "--strict", "-d", YAML_RULES, str(COMPOSE), str(KUBERNETES))


@needs_module("check_jsonschema")
@pytest.mark.parametrize("file", sorted(COMPOSE.glob("*.yaml")), ids=lambda file: file.name)
def test_compose_files_follow_the_specification(file):
    lint(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file))


def test_compose_settings_are_all_in_the_example():
    used = set(re.findall(r"\$\{([A-Z_]+)", (COMPOSE / "compose.yaml").read_text(encoding="utf-8")))
    given = set(re.findall(r"^([A-Z_]+)=", (COMPOSE / "example.env").read_text(encoding="utf-8"), re.MULTILINE))
    assert used == given


@needs("hadolint")
def test_the_dockerfile_is_right():
    assert lint("hadolint", str(COMPOSE / "Dockerfile")) == ""


@needs_module("kubernetes_validate")
@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_manifests_follow_their_schema(file):
    if file.name == "kustomization.yaml":
        pytest.skip("read by kustomize only, see below")
    lint(sys.executable, "-m", "kubernetes_validate", "--strict", str(file))


@needs("kubectl")
@pytest.mark.parametrize("folder", ["peer", "coordinator"])
def test_kustomize_puts_all_manifests_together(folder):
    built = lint("kubectl", "kustomize", str(KUBERNETES / folder))
    kinds = re.findall(r"^kind: (\w+)$", built, re.MULTILINE)
    assert len(kinds) == len(list((KUBERNETES / folder).glob("*.yaml"))) - 1
    assert {"StatefulSet", "Service", "Secret", "ConfigMap", "NetworkPolicy"} <= set(kinds)


def test_the_services_ports_are_those_of_the_links():
    stateful = (KUBERNETES / "peer" / "statefulset.yaml").read_text(encoding="utf-8")
    first, last = map(int, re.findall(r"--link-ports=(\d+)-(\d+)", stateful)[0])
    sessions = int(re.findall(r"--max-sessions=(\d+)", stateful)[0])
    assert last - first + 1 == 3 * sessions  # a compute peer has at most three links it listens for
    service = (KUBERNETES / "peer" / "service.yaml").read_text(encoding="utf-8")
    assert re.findall(r"name: link-(\d+)", service) == [str(port) for port in range(first, last + 1)]
    policy = (KUBERNETES / "peer" / "networkpolicy.yaml").read_text(encoding="utf-8")
    assert f"port: {first}" in policy
    assert f"endPort: {last}" in policy


def options_of(command: str) -> set[str]:
    found = typer.main.get_command(app).commands[command]
    return {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}


def variables(file: Path) -> dict[str, str]:
    """NAME=value lines."""
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", file.read_text(encoding="utf-8"), re.MULTILINE))


def unit_command(unit: Path) -> list[str]:
    """ExecStart, with the settings beside the unit filled in as systemd does it."""
    given = variables(SYSTEMD / (unit.stem.removeprefix("tacit-").rstrip("@") + ".env"))
    [line] = re.findall(r"^ExecStart=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    words: list[str] = []
    for word in line.replace("%i", "alice").replace("%S", "/var/lib").split()[1:]:
        whole = re.fullmatch(r"\$([A-Z_]+)", word)  # split at spaces; ${…} is not
        words += given[whole[1]].split() if whole else [re.sub(r"\$\{([A-Z_]+)\}", lambda got: given[got[1]], word)]
    return words


def compose_commands(file: Path) -> list[list[str]]:
    import yaml

    given = variables(COMPOSE / "example.env")
    text = re.sub(r"\$\{([A-Z_]+)[^}]*\}", lambda got: given[got[1]], file.read_text(encoding="utf-8"))
    return [one["command"] for one in yaml.safe_load(text)["services"].values() if "command" in one]


def kubernetes_command(folder: Path) -> list[str]:
    import yaml

    given = yaml.safe_load((folder / "settings.yaml").read_text(encoding="utf-8"))["data"]
    stateful = yaml.safe_load((folder / "statefulset.yaml").read_text(encoding="utf-8"))
    [container] = stateful["spec"]["template"]["spec"]["containers"]
    return [re.sub(r"\$\(([A-Z_]+)\)", lambda got: given[got[1]], word) for word in container["args"]]


def test_every_command_is_one_that_tacit_takes():
    """Name by name and value by value, as the server itself reads its options."""
    pytest.importorskip("yaml", reason="PyYAML comes with yamllint")
    commands = [unit_command(unit) for unit in UNITS]
    commands += [command for file in sorted(COMPOSE.glob("*.yaml")) for command in compose_commands(file)]
    commands += [kubernetes_command(KUBERNETES / name) for name in ("peer", "coordinator")]
    assert sorted(command[0] for command in commands) == ["coordinator"] * 4 + ["peer"] * 6
    for kind, *words in commands:
        options = (party if kind == "peer" else coordinator).arguments().parse_args(words)
        Address.parse(options.listen)
        if kind == "peer":
            assert options.join
            assert options.model == ["stories"]
            port_range(options.link_ports)
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= options_of(kind)


def test_every_option_of_the_page_exists():
    page = DEPLOYMENT.read_text(encoding="utf-8")
    found = re.findall(r"^tacit (peer|coordinator|ask|status|verify|doctor|receipts)\b(.*)$", page, re.MULTILINE)
    assert len(found) > 10
    for command, rest in found:
        allowed = options_of(command) | (options_of("peer") if "--node" in rest else set())
        assert set(re.findall(r"(--[a-z][a-z-]+)", rest)) <= allowed, rest
