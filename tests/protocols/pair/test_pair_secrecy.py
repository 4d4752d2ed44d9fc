"""What is opened says nothing: uniform, independent of the input, never twice under one mask. Planted leaks are found.

All of it by `pair_gates.examine`: chi-square on the four lowest and the four highest bits of every opened value (each
party's message, the sum, the sum less either party's own mask), of differences within and between openings, of what the
dealer sends; two-sample chi-square between two inputs; repeated values. Thresholds are fixed in `uniformity`: a false alarm
of one family of tests has probability below 1e-6 (Bonferroni).
"""

from collections.abc import Callable

import numpy as np
import pytest
import tacit.protocols.pair.lift as lift_module
import tacit.protocols.pair.softmax as softmax_module
import test_pair_attention
import test_pair_lift
from pair_gates import GATES, Gate, examine, judge
from pair_plans import GPT2, LLAMA, Model, on_shares, random_model, smaller
from tacit.kernels.prg import Prg, Purpose
from tacit.protocols.pair.party import BLOCK, Dealer, Party, Stream
from tacit.protocols.pair.scales import WINDOW
from tacit.protocols.pair.secret import low
from three_parties import run, words
from uniformity import ALPHA, Family, chi2_tail, flat_p, repeats_p, same_p


@pytest.mark.parametrize("name", GATES)
def test_what_a_gate_opens_says_nothing(name: str) -> None:
    family = examine(GATES[name]())
    assert len(family.p) > 30
    assert not family.failures(), f"of {len(family.p)} tests"


# Whole models ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> Model:
    spec = smaller(
        {"llama": LLAMA, "gpt2": GPT2}[request.param], width=16, hidden=24, heads=2, kv_heads=2, layers=1, context=16
    )
    return random_model(spec)


PROMPTS = [0] * 8, [39, 3, 17, 28, 5, 11, 39, 2]


def test_what_a_model_opens_says_nothing(model: Model) -> None:
    runs = [[on_shares(model, prompt, watch=True).run for _ in range(10)] for prompt in PROMPTS]
    family = judge(runs)
    assert len(family.p) > 300
    assert not family.failures(), f"of {len(family.p)} tests"


def test_two_prompts_leave_the_same_traffic(model: Model) -> None:
    """Kinds, fields, lengths and order of all messages on all links; and the dealer hears nothing at all in a step."""
    traffic = []
    for prompt in PROMPTS:
        links = on_shares(model, prompt, [prompt[0]], [prompt[1]]).run.links
        traffic.append({name: [(m.kind, m.fields, len(m.body)) for m in said] for name, said in links.items()})
    assert traffic[0] == traffic[1]
    assert traffic[0]["0->2"] == traffic[0]["1->2"] == []
    assert len(traffic[0]["0->1"]) > 30
    assert all(kind == "open" and set(fields) == {"step", "round"} for kind, fields, _ in traffic[0]["0->1"])
    assert all(set(fields) == {"step", "number"} for _, fields, _ in traffic[0]["2->0"] + traffic[0]["2->1"])


def test_one_input_twice_opens_other_values(model: Model) -> None:
    one, other = (on_shares(model, PROMPTS[1], watch=True).run.openings for _ in range(2))
    for a, b in zip(one, other, strict=True):
        if a.bits >= 40 and len(a.total) >= 16:
            assert not (a.total == b.total).any()


def test_a_cached_row_is_opened_once(model: Model) -> None:
    """A step of one token opens one row of queries, keys and values each, however many rows are cached."""
    size = {"llama": 3, "gpt2": 2}[model.spec.architecture] * model.spec.heads * model.spec.head_size
    openings = on_shares(model, PROMPTS[1], [3], [4], watch=True).run.openings
    for step in (1, 2):
        first = [
            o for o in openings if o.step == step and len(o.shape) == 3 and o.shape[1:] == (2, model.spec.head_size)
        ]
        assert all(o.shape[0] == 1 for o in first)
        assert sum(len(o.total) for o in first) >= size


# Streams --------------------------------------------------------------------------------------------------------------


def test_no_stream_is_used_twice_and_both_ends_use_the_same(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[int, list[tuple[int, int, int, int]]] = {}
    original = Prg.words

    def spy(self: Prg, purpose: Purpose, step: int, gate: int, count: int) -> np.ndarray:
        used.setdefault(id(self), []).append((purpose, step, gate, count))
        keep.append(self)
        return original(self, purpose, step, gate, count)

    keep: list[Prg] = []  # so that no id comes back
    monkeypatch.setattr(Prg, "words", spy)
    on_shares(model, PROMPTS[0], [1], [2])
    lists = list(used.values())
    assert len(lists) == 4  # two ends of two seeds
    for names in lists:
        assert len({n[:3] for n in names}) == len(names)
    ends = sorted((sorted(names) for names in lists), key=len)
    assert ends[0] == ends[1]  # the dealer and peer 1 draw masks and roots
    assert ends[2] == ends[3]  # the dealer and peer 0 draw pads too
    assert {n[0] for n in ends[1]} == {Purpose.MASK, Purpose.ROOT}
    assert {n[0] for n in ends[3]} == set(Purpose)


@pytest.mark.parametrize(
    "counts", [[1, 5, BLOCK, 3], [BLOCK - 1, 1, 1], [BLOCK - 1, 2, 7], [0, BLOCK + 1, 0, 2 * BLOCK, 9] + [1000] * 20]
)
def test_a_streams_words_are_handed_out_once(counts: list[int]) -> None:
    """No word comes twice, requests are whole, and the same requests at the other end give the same words."""
    seed = words(4).tobytes()
    one, other = (Stream(Prg(seed), Purpose.MASK, 3) for _ in range(2))
    drawn = [one.words(count).copy() for count in counts]
    assert [len(d) for d in drawn] == counts
    assert len(np.unique(np.concatenate(drawn))) == sum(counts)  # 64-bit words: chance repeats have probability 2^-34
    for d, count in zip(drawn, counts, strict=True):
        assert np.array_equal(other.words(count), d)


def test_a_step_cannot_be_dealt_twice() -> None:
    def deal(d: Dealer) -> None:
        for _ in range(2):
            d.begin(4)
            d.mask(3)

    with pytest.raises(ValueError, match="used before"):
        run(lambda p: None, deal)


# Planted leaks: each must be found ------------------------------------------------------------------------------------


def planted(change: Callable[[np.ndarray], np.ndarray]) -> tuple[type[Party], type[Dealer]]:
    """Parties and a dealer that agree, correctly, on masks changed at each end."""

    class LeakyParty(Party):
        def mask(self, count: int) -> np.ndarray:
            return change(super().mask(count))

    class LeakyDealer(Dealer):
        def mask(self, count: int) -> np.ndarray:
            return change(self._words(0, Purpose.MASK, count)) + change(self._words(1, Purpose.MASK, count))

    return LeakyParty, LeakyDealer


def reused(m: np.ndarray) -> np.ndarray:
    half = len(m) // 2
    return np.concatenate([m[:half], m[:half], m[2 * half :]])


def once_reused(m: np.ndarray) -> np.ndarray:
    """Only two of all values share a mask."""
    m = m.copy()
    m[77:80] = m[3:6]
    return m


PLANTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], tuple[str, ...]]] = {
    "one mask for two halves": (reused, ("lift, 40 bits", "norm", "attention with RoPE", "attention without")),
    "one mask for two values": (once_reused, ("lift, 40 bits", "lift, 64 bits")),
    "mask short by 4 bits": (lambda m: low(m, 36), ("lift, 40 bits", "lift, 64 bits")),
    "mask short by 2 bits": (lambda m: low(m, 38), ("lift, 40 bits",)),
    "mask short by 1 bit": (lambda m: low(m, 19), ("lift, 20 bits",)),
    "low bit of the mask is 0": (lambda m: m & ~np.uint64(1), tuple(GATES)),
    "one bit of the mask leans to 0": (
        lambda m: m & (words(len(m)) | words(len(m)) | ~np.uint64(1)),
        ("lift, 40 bits", "table"),
    ),
    "no mask": (lambda m: np.zeros_like(m), tuple(GATES)),
}


@pytest.mark.parametrize(("plant", "name"), [(p, n) for p, (_, names) in PLANTS.items() for n in names])
def test_planted_masks_are_found(plant: str, name: str) -> None:
    gate = GATES[name]()
    family = examine(Gate(gate.job, min(gate.sessions, 8 if "attention" in name else 4)), *planted(PLANTS[plant][0]))
    assert family.failures()


@pytest.mark.parametrize("who", [0, 1])
def test_a_mask_of_one_party_alone_is_found(who: int) -> None:
    """The sum is uniform then, and yet the other party can take its own mask away: the views catch it."""

    class Lazy(Party):
        def mask(self, count: int) -> np.ndarray:
            out = super().mask(count)
            return np.zeros_like(out) if self.role == who else out

    class Accomplice(Dealer):
        def mask(self, count: int) -> np.ndarray:
            return self._words(1 - who, Purpose.MASK, count)

    for name in ("lift, 40 bits", "norm", "table"):
        failures = examine(GATES[name](), Lazy, Accomplice).failures()
        assert any(f"message of {who}" in f or f"less mask of {1 - who}" in f for f in failures)
        assert not any("sum low" in f or "sum high" in f for f in failures)


class Replaying(Party):
    """Streams named without the step: the second step of a session gets the first one's masks again."""

    def begin(self, step: int) -> None:
        super().begin(step)
        self._streams = {purpose: Stream(self._prg, purpose, 0) for purpose in Purpose}


class ReplayingDealer(Dealer):
    def begin(self, step: int) -> None:
        super().begin(step)
        self._streams = tuple({purpose: Stream(prg, purpose, 0) for purpose in Purpose} for prg in self._prgs)


def test_a_mask_kept_for_another_step_is_refused_and_else_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="used before"):
        examine(GATES["lifts of two steps"](), Replaying, ReplayingDealer)
    monkeypatch.setattr(Prg, "_claim", lambda *_: None)
    failures = examine(GATES["lifts of two steps"](), Replaying, ReplayingDealer).failures()
    assert any("opening 1 less 0" in f for f in failures)


@pytest.mark.parametrize("name", ["norm", "attention with RoPE"])
def test_a_stream_that_does_not_move_on_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request cut from the front of the block: the gates stay right, and two openings share masks."""
    move_on = Stream.words

    def stuck(self: Stream, count: int) -> np.ndarray:
        out = move_on(self, count)
        if count < BLOCK:
            self._at = 0
        return out

    monkeypatch.setattr(Stream, "words", stuck)
    gate = GATES[name]()
    failures = examine(Gate(gate.job, 8)).failures()
    assert any(" less " in f for f in failures)


def test_dealt_values_without_their_pad_are_found() -> None:
    """Corrections in the clear: shares of R >> n and its top bit, to peer 1."""

    class Bare(Party):
        def take(self, count: int, bits: int) -> np.ndarray:
            out = super().take(count, bits)
            return np.zeros_like(out) if self.role == 0 else out

    class BareDealer(Dealer):
        def _words(self, party: int, purpose: Purpose, count: int) -> np.ndarray:
            out = super()._words(party, purpose, count)
            return np.zeros_like(out) if purpose == Purpose.PAD else out

    failures = examine(GATES["lift, 40 bits"](), Bare, BareDealer).failures()
    assert any("2->1" in f for f in failures)


def test_a_lift_without_its_offset_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoOffset(lift_module.LiftOpening):
        def __init__(self, party: Party, x: object, bits: int) -> None:
            super().__init__(party, x, bits)  # type: ignore[arg-type]
            if party.role == 0:
                self.masked = self.masked - np.uint64(1 << (bits - 2))

        def finish(self, opened_value: np.ndarray) -> lift_module.Lifted:
            out = super().finish(opened_value)
            alpha = out.alpha + np.uint64(1 << (self.bits - 2))
            return lift_module.Lifted(alpha, out.p, out.minus, out.b, out.bits, out.frac)

    monkeypatch.setattr(lift_module, "LiftOpening", NoOffset)
    monkeypatch.setattr(test_pair_lift, "lift", lift_module.lift)
    with pytest.raises(AssertionError):
        test_pair_lift.test_lift_is_exact(40)
    with pytest.raises(AssertionError):
        test_pair_lift.test_lift_is_exact_for_every_value_of_a_small_ring()


def test_a_score_key_at_the_difference_of_the_tops_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """(r - t W)_h is not r_h - t_h: the low part of r decides the window too."""
    right = softmax_module.deal_keys
    plan = test_pair_attention.PLAN

    def wrong(d: Dealer, table: object, r: np.ndarray, factors: np.ndarray | None = None) -> None:
        if table is plan.exp:
            r = (r >> np.uint64(WINDOW)) << np.uint64(WINDOW)
        right(d, table, r, factors)  # type: ignore[arg-type]

    monkeypatch.setattr(softmax_module, "deal_keys", wrong)
    with pytest.raises(AssertionError):
        test_pair_attention.test_softmax_of_random_scores(6, 0)


def test_a_product_without_its_wrap_term_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(party: Party, x: lift_module.Lifted, y: lift_module.Lifted) -> object:
        return lift_module.product(
            party, x, lift_module.Lifted(y.alpha, y.p * np.uint64(0), y.minus, y.b, y.bits, y.frac)
        )

    monkeypatch.setattr(test_pair_lift, "product", forgetful)
    with pytest.raises(AssertionError):
        test_pair_lift.test_products_of_lifted_values_are_exact(40, 24, False)


# The statistics themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "dof", "p"), [(24.996, 15, 0.05), (37.697, 15, 0.001), (7.261, 15, 0.95), (3.841, 1, 0.05)]
)
def test_tail_of_chi_square(x: float, dof: int, p: float) -> None:
    """Against printed tables (Abramowitz and Stegun 26.8)."""
    assert abs(chi2_tail(x, dof) - p) < 2e-4


def test_p_values_of_uniform_words_are_uniform() -> None:
    """So the thresholds mean what they say: 2000 p-values, 5 % of them below 0.05 within 6 deviations; none extreme."""
    p = []
    for _ in range(1000):
        bins = np.bincount((words(1024) & np.uint64(15)).astype(int), minlength=16)
        p += [flat_p(bins), same_p(bins, np.bincount((words(700) >> np.uint64(60)).astype(int), minlength=16))]
    share = np.mean(np.array(p) < 0.05)
    assert abs(share - 0.05) < 6 * np.sqrt(0.05 * 0.95 / len(p))
    assert min(p) > ALPHA / len(p)
    assert repeats_p(words(4096), 64) == 1.0
    assert repeats_p(np.repeat(words(2), 2048), 64) < 1e-100


def test_a_family_needs_enough_values() -> None:
    with pytest.raises(ValueError, match="too few"):
        Family().uniform("few", words(100), 20)
