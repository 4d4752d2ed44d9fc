"""Predictions: what must hold on any machine, with rates that were measured once."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
from measured_rates import rates
from tacit.batch import Batch
from tacit.coordinator.study.estimate import (
    Estimate,
    Placement,
    Subject,
    crossings,
    estimate,
    load_rates,
    predict,
    predict_sites,
    read_subject,
    subject_of,
)
from tacit.coordinator.study.estimate import rates as kept
from tacit.coordinator.study.estimate.amounts import fit, seconds
from tacit.coordinator.study.estimate.in_session import in_session
from tacit.coordinator.study.estimate.session import Setting, carried, message, sites_of, times, total_cost
from tacit.coordinator.study.estimate.timeline import Piece, Step, run
from tacit.coordinator.study.records import Case
from tacit.errors import ConfigError, ModelError, UsageError
from tacit.models.decoder import forward
from tacit.network import NAMED, Network, Profile
from tacit.protocols.trace.trace import Trace

LLAMA_3_70B = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000,
    "eos_token_id": 128001, "hidden_act": "silu", "hidden_size": 8192, "initializer_range": 0.02,
    "intermediate_size": 28672, "max_position_embeddings": 8192, "model_type": "llama", "num_attention_heads": 64,
    "num_hidden_layers": 80, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
    "rope_theta": 500000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 128256,
}  # fmt: skip
GPT2_SMALL = {
    "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024,
}  # fmt: skip


@pytest.fixture(scope="module")
def stories() -> Subject:
    return read_subject("stories")


def expected(subject: Subject, network: Profile, prompt: int = 16, new: int = 8, **settings: object) -> Estimate:
    return estimate(subject, prompt, new, Network(network), rates=rates(), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("entries", [None, GPT2_SMALL])
@pytest.mark.parametrize(("tokens", "start"), [(1, 40), (24, 0)])
def test_rounds_and_bytes_are_the_declared_ones_which_sessions_are_held_to(
    entries: dict[str, object] | None, tokens: int, start: int
) -> None:
    subject = read_subject("stories") if entries is None else subject_of(entries, "gpt2")
    trace = Trace(subject.spec, subject.scales)
    forward(trace, subject.spec, tokens, trace.new_cache(), Batch.one(tokens, start))
    sites = sites_of(subject, tokens, start)
    assert total_cost(sites) == trace.total
    assert [(s.site, s.cost) for s in sites if s.cost.rounds] == trace.sites


def test_a_network_can_only_cost_time(stories: Subject) -> None:
    free = expected(stories, Profile())
    for name, profile in NAMED.items():
        found = expected(stories, profile)
        for split, without in ((found.first, free.first), (found.token, free.token)):
            assert split.all == pytest.approx(split.compute + split.latency + split.transfer), name
            assert split.compute == pytest.approx(without.all)
            assert min(split.latency, split.transfer) >= 0


def test_longer_lines_narrower_lines_and_longer_texts_take_longer(stories: Subject) -> None:
    def ttft(rtt: float = 0.02, bandwidth: float = 1e8, prompt: int = 16, new: int = 8) -> tuple[float, float]:
        found = expected(stories, Profile(rtt=rtt, bandwidth=bandwidth), prompt, new)
        return found.first.all, found.token.all

    for key, values in (
        ("rtt", (0.0, 0.001, 0.01, 0.05, 0.2)),
        ("bandwidth", (1e12, 1e9, 1e8, 1e7, 1e6)),
        ("prompt", (1, 8, 40, 150)),
    ):
        found = [ttft(**{key: value}) for value in values]  # type: ignore[arg-type]
        for one in (0, 1):
            rounded = [round(pair[one], 6) for pair in found]
            assert rounded == sorted(rounded), key


def test_an_unlimited_line_costs_its_rounds_times_its_delay_and_the_clients_exchange(stories: Subject) -> None:
    rtt = 0.1
    token = expected(stories, Profile(rtt=rtt)).token
    rounds = total_cost(sites_of(stories, 1, 20)).rounds
    software = 1e3 * rounds * (rates().rates["round"] - rates().rates["round.cpu"])
    assert token.transfer == 0
    assert token.latency == pytest.approx(1e3 * (rounds + 2) * rtt / 2, abs=software + 1)


def test_a_narrow_line_costs_the_bytes_of_the_dealer(stories: Subject) -> None:
    bandwidth = 2e6
    found = expected(stories, Profile(bandwidth=bandwidth), prompt=32, new=40)
    cost = total_cost(sites_of(stories, 32, 0))
    stream = 1e3 * carried(max(cost.offline0, cost.offline1), Profile(bandwidth=bandwidth))
    assert stream == pytest.approx(8e3 * max(cost.offline0, cost.offline1) / bandwidth / 0.956, rel=0.01)
    assert stream < found.first.transfer + found.first.compute < 1.2 * stream
    assert "dealer" in found.limit


def test_the_compute_of_a_token_is_its_gates_and_its_rounds_on_machines_of_their_own(stories: Subject) -> None:
    own = expected(stories, Profile(), where=Placement(cores=8, machines=4)).token
    sites = sites_of(stories, 1, 20)
    known = rates().rates
    floor = 1e3 * (sum(seconds(s.peer, known) for s in sites) + total_cost(sites).rounds * known["round"])
    assert floor < own.all < 1.15 * floor
    assert 1.5 * own.all < expected(stories, Profile(), where=Placement(cores=1)).token.all


def test_a_far_peer_counts_where_its_line_is_used(stories: Subject) -> None:
    far = Profile(rtt=0.1)
    near = Network(Profile())
    between, from_dealer = (near.changed(frozenset(pair), far) for pair in (("peer-0", "peer-1"), ("peer-0", "peer-2")))
    tokens = [estimate(stories, 16, 8, one, rates=rates()).token.all for one in (near, between, from_dealer)]
    assert tokens[1] > tokens[0] + 2500  # every round
    assert tokens[2] < tokens[0] + 30  # dealt ahead


def test_who_deals_ahead_hides_the_stream_and_who_cannot_does_not() -> None:
    pieces = [Piece(deal=0.0, carry=0.0, line=0.010, compute=0.001, wait=0.005)] * 4
    hidden, open_ = (run([Step(pieces, 0.0, 0.1, ahead)] * 6, Placement(cores=4), 0.0)[1:] for ahead in (8, 0))
    assert hidden == pytest.approx([0.124] * 5)
    assert all(one == pytest.approx(4 * 0.010 + 0.001 + 0.005 + 0.1) for one in open_)


def test_work_smaller_than_the_clock_can_tell_apart_ends() -> None:
    """A day into a session a picosecond is lost in rounding; what is left of it must not be waited for for ever."""
    pieces = [Piece(deal=1 / 3, carry=1 / 7, line=9e4, compute=1 / 9, wait=0.1)] * 40
    found = run([Step(pieces, 0.0, 0.1, 1)] * 3, Placement(cores=2), 0.1)
    assert sum(found) > 3 * 40 * 9e4


def test_threads_share_the_cores_there_are() -> None:
    steps = [Step([Piece(deal=1.0, carry=0.0, line=0.0, compute=1.0, wait=0.0)] * 3, 0.0, 0.0, 8)]
    enough, two, one = (run(steps, Placement(cores=cores), 0.0)[0] for cores in (3, 2, 1))
    assert enough == pytest.approx(4.0)
    assert two == pytest.approx(1 + 1.5 + 1.5 + 1)
    assert one == pytest.approx(9.0)


def test_a_70b_llama_is_estimated_in_seconds_from_its_config_alone() -> None:
    started = time.process_time()
    subject = subject_of(LLAMA_3_70B, "Llama-3-70B")
    found = expected(subject, NAMED["wan"], prompt=128, new=64)
    assert time.process_time() - started < 20
    assert 70e9 < subject.parameters < 71e9
    assert found.rounds_per_layer == 14
    assert found.token_cost.rounds == 80 * 14 + 3
    assert 1e3 * 1123 * 0.02 < found.token.all < 600e3
    assert found.first.all > found.token.all
    assert found.first.transfer > found.first.latency
    assert found.weights == 2 * subject.parameters
    assert any("ranges" in note for note in subject.notes)
    assert all(2e8 < one < 1e12 for one in found.memory)


def test_what_the_peers_refuse_but_costs_the_same_is_noted() -> None:
    scaled = LLAMA_3_70B | {
        "max_position_embeddings": 131072,
        "rope_scaling": {"factor": 8.0, "rope_type": "llama3", "original_max_position_embeddings": 8192},
    }
    subject = subject_of(scaled, "longer")
    assert subject.spec.context == 65535
    assert subject.spec.rope_theta == 500000.0
    assert sum("peers would refuse" in note for note in subject.notes) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"model_type": "t5"}', "model_type = 't5'"),
        (json.dumps(LLAMA_3_70B | {"num_hidden_layers": 0}), "num_hidden_layers = 0"),
        (json.dumps(LLAMA_3_70B | {"hidden_act": "gelu"}), "hidden_act"),
        (json.dumps(LLAMA_3_70B | {"num_key_value_heads": 7}), "cannot share"),
    ],
)
def test_a_bad_config_is_named_with_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(ModelError, match=says) as caught:
        read_subject(file)
    assert str(file) in str(caught.value)


def test_a_folder_without_weights_is_read_as_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(GPT2_SMALL))
    subject = read_subject(tmp_path)
    assert subject.name == tmp_path.name
    assert 124e6 < subject.parameters < 125e6
    assert subject.notes


def test_the_shipped_model_has_its_own_ranges(stories: Subject) -> None:
    assert stories.notes == ()
    assert stories.name == "stories"


def test_lengths_and_protocols_that_cannot_be_are_refused(stories: Subject) -> None:
    for prompt, new in ((0, 1), (1, 0), (500, 100)):
        with pytest.raises(UsageError):
            expected(stories, Profile(), prompt, new)
    with pytest.raises(UsageError, match="spdz"):
        expected(stories, Profile(), protocol="spdz")


def test_a_studys_case_is_predicted_by_its_names(stories: Subject) -> None:
    case = Case("pair", "wan; client:peer-0=rtt=200ms", "stories", 16, 8)
    found = predict(case, rates=rates())
    assert found.case == case
    assert found.rounds == 59
    assert found.tpot_ms == pytest.approx(found.compute_ms + found.latency_ms + found.transfer_ms)
    plain = predict(replace(case, protocol="plain"), subject=stories, rates=rates())
    assert 0 < plain.tpot_ms < found.tpot_ms / 10
    assert plain.rounds == 0


def test_the_sites_add_up_to_the_declared_costs(stories: Subject) -> None:
    sites = predict_sites(Case("pair", "metro", "stories", 16, 8), subject=stories, rates=rates())
    for phase, tokens, start in (("prompt", 16, 0), ("token", 1, 20)):
        cost = total_cost(sites_of(stories, tokens, start))
        mine = [site for site in sites if site.phase == phase]
        assert sum(site.rounds for site in mine) == cost.rounds
        assert sum(site.online_bytes for site in mine) == 2 * cost.online
        assert sum(site.offline_bytes for site in mine) == cost.offline0 + cost.offline1
        assert sum(site.waiting_ms for site in mine) >= 1e3 * cost.rounds * 0.002
    assert {site.gate for site in sites} == {"embed", "norm", "linear", "attention", "activation", "reveal"}
    assert predict_sites(Case("plain", "metro", "stories", 16, 8), subject=stories, rates=rates()) == []


def test_the_map_has_every_point_and_rises_with_the_round_trip(stories: Subject) -> None:
    points = crossings(stories, ["pair", "plain"], [0.0, 0.01, 0.1], [1e7, 1e9], rates=rates())
    assert len(points) == 12
    pair = [one.tpot_ms for one in points if one.protocol == "pair" and one.bandwidth_mbit == 1e3]
    assert pair == sorted(pair)
    assert len({one.tpot_ms for one in points if one.protocol == "plain"}) == 1


def test_rates_that_cannot_be_told_apart_are_not_made_up() -> None:
    true = {"call": 2e-6, "element": 1e-9}
    measured = [({"call": 1.0, "element": n}, true["call"] + n * true["element"]) for n in (10.0, 1e3, 1e5)]
    assert fit(measured, {}) == pytest.approx(true)
    assert fit(measured, {"call": 2e-6}) == pytest.approx({"element": 1e-9})
    falling = [({"call": 1.0, "element": n}, 1e-6 - n * 1e-12) for n in (10.0, 1e3, 1e5)]
    assert fit(falling, {})["element"] == 0.0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TACIT_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_rates_are_kept_and_found_again(cache: Path) -> None:
    mine = replace(rates(), key=kept.machine_key())
    assert mine.save().is_relative_to(cache)
    assert load_rates() == mine


def test_without_rates_one_is_told_how_to_make_them(cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"none yet.*tacit calibrate"):
        load_rates()
    replace(rates(), key="f" * 32).save()
    with pytest.raises(ConfigError, match=r"another machine or version.*tacit calibrate"):
        load_rates()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace("tacit-rates/1", "tacit-rates/0"),
        lambda text: text.replace('"cores": 2', '"cores": "two"'),
        lambda text: text.replace('"cores": 2', '"kernels": 2'),
        lambda text: text.replace("0.05", "-0.05"),
        lambda text: text.replace("0.05", "NaN"),
        lambda text: text.replace("0.05", '"fast"'),
    ],
)
def test_a_damaged_file_of_rates_is_named(cache: Path, spoil: object) -> None:
    path = replace(rates(), key=kept.machine_key()).save()
    path.write_text(spoil(path.read_text()))  # type: ignore[operator]
    with pytest.raises(ConfigError, match=r"damaged.*tacit calibrate --force") as caught:
        load_rates()
    assert str(path) in str(caught.value)


def test_rates_that_were_copied_from_another_machine_are_refused(cache: Path) -> None:
    path = replace(rates(), key=kept.machine_key()).save()
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"key": "0" * 32}))
    with pytest.raises(ConfigError, match="another machine"):
        load_rates()


def test_everything_counted_has_a_rate(stories: Subject) -> None:
    for subject in (stories, subject_of(GPT2_SMALL, "gpt2")):
        for tokens, start in ((1, 3), (5, 0), (100, 0)):
            for site in sites_of(subject, tokens, start):
                assert math.isfinite(seconds(site.peer, rates().rates) + seconds(site.dealer, rates().rates))


def test_jitter_and_loss_cost_what_they_are_stated_to() -> None:
    line = Profile(rtt=0.04)
    assert message(100, line) == pytest.approx(0.02)
    assert message(100, replace(line, jitter=0.003)) == pytest.approx(0.021)
    assert message(100, replace(line, jitter=0.003), both=False) == pytest.approx(0.02)
    assert message(100, replace(line, loss=0.01)) == pytest.approx(0.02 + 0.0199 * 0.04, rel=1e-3)
    assert message(144_800, replace(line, loss=0.01), both=False) > 0.02 + 0.6 * 0.04
    assert message(10**6, Profile(bandwidth=1e8)) == pytest.approx(0.08 * 1.0456, rel=2e-3)
    assert carried(1e6, Profile(bandwidth=1e8, loss=0.1)) == pytest.approx(carried(1e6, Profile(bandwidth=1e8)) / 0.9)


def test_work_in_sessions_is_scaled_to_what_real_answers_took() -> None:
    alone, cores = rates().rates, 2
    slower = {**alone, **{name: 1.7 * value for name, value in alone.items() if name != "way"}}
    slower["round"] = alone["round"] + 0.7 * alone["round.cpu"]
    setting = Setting(Network(Profile()), replace(rates(), rates=slower | {"session": 0.0}), Placement(cores))
    subject = read_subject("stories")
    measured = []
    for prompt in (8, 64):
        found = times(subject, prompt, 8, setting)
        measured.append((prompt, found[0], sum(found[1:]) / 7))
    scaled = in_session(alone, cores, subject, measured)
    assert scaled["session.work"] == pytest.approx(1.7, rel=0.01)
    assert scaled["norm"] == pytest.approx(1.7 * alone["norm"], rel=0.01)
    assert (scaled["session"], scaled["way"]) == (alone["session"], alone["way"])  # these were measured in sessions
