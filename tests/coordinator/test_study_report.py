"""report.html as a file: what it says is true of the data, what is missing is said, nothing of the data is markup."""

from __future__ import annotations

import importlib.util
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import made_results
import pytest

pytest.importorskip("altair", reason="the [study] extra is not installed")
pytest.importorskip("vl_convert", reason="the [study] extra is not installed")


from tacit.coordinator.numbers import size
from tacit.coordinator.study.records import Case, Crossing, Prediction, Results
from tacit.coordinator.study.report import figures, save_plot, words, write_report
from tacit.coordinator.study.report import theme as colours
from tacit.coordinator.study.report.cases import TPOT, TTFT, Cases, Spread
from tacit.coordinator.study.report.parts import Absent
from tacit.coordinator.study.report.plane import areas, contour, edges, maps_of, refined
from tacit.coordinator.study.report.scales import spread_out
from tacit.coordinator.study.report.sections import sections
from tacit.coordinator.study.report.token import kind_of, merged, token_of
from tacit.errors import ConfigError, UsageError

LIMIT = 1_000_000
EVERY = {
    *(f"{metric}-{axis}" for metric in ("ttft", "tpot") for axis in ("rtt", "bandwidth")),
    *(f"{phase}-by-{by}" for phase in ("token", "prompt") for by in ("gate", "layer")),
    *("shares", "layers", "planes", "dealing", "crossover", "timeline", "accuracy", "lines"),
}


class Outline(HTMLParser):
    """Every tag with its attributes, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture(scope="module")
def results() -> Results:
    return made_results.results()


@pytest.fixture(scope="module")
def small() -> Results:
    """All figures, each with little in it: drawn fast."""
    return made_results.results(networks=("lan", "wan"), lengths=((8, 4),), repetitions=2, side=6)


@pytest.fixture(scope="module")
def page(results, tmp_path_factory) -> str:
    return write_report(results, tmp_path_factory.mktemp("study")).read_text(encoding="utf-8")


def test_every_figure_is_there(results, page):
    assert set(figures(results)) == EVERY
    assert {found["id"] for found in Outline(page).all("figure")} == EVERY
    assert "Not in this report" not in page


def test_the_page_needs_nothing_else(page):
    outline = Outline(page)
    assert len(page.encode()) < LIMIT
    assert not re.search(r"https?:|@import|url\((?!#)", page)
    assert not {tag for tag, _ in outline.tags} & {"script", "link", "img", "iframe", "object", "embed", "use", "image"}
    for _, attributes in outline.tags:
        assert (attributes.get("href") or "#").startswith("#")
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]


def test_places_and_names_within_the_page_exist_once(page):
    outline = Outline(page)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in outline.tags:
        for reference in (attributes.get("aria-labelledby") or "").split():
            assert reference in ids
        if (attributes.get("href") or "").startswith("#"):
            assert attributes["href"][1:] in ids
    for reference in re.findall(r"url\(#([^)]+)\)", page):
        assert reference in ids


def test_pictures_and_tables_are_named(page):
    outline = Outline(page)
    pictures = [svg for svg in outline.all("svg") if svg.get("class") == "chart"]
    assert len(pictures) == 2 * len(EVERY)
    assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in pictures)
    assert len(outline.all("caption")) == len(outline.all("table")) == len(EVERY) + 1
    assert all(cell.get("scope") in ("col", "row", "rowgroup") for cell in outline.all("th"))
    assert [tag for tag, _ in outline.tags if tag in ("header", "nav", "main", "footer")] == [
        "header",
        "nav",
        "main",
        "footer",
    ]
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_what_the_summaries_say_is_so(results):
    found = figures(results)
    cases = Cases(results)
    pair = {
        case.network: cases.spread(case, TPOT)
        for case in cases.all
        if case.protocol == "pair" and case.prompt_tokens == 8
    }
    slowest, fastest = (words.milliseconds(pair[name].p50) for name in ("global", "lan"))
    assert f"with pair {fastest} at" in found["tpot-rtt"].summary
    assert f"and {slowest} at" in found["tpot-rtt"].summary
    assert f"with pair {slowest} at" in found["tpot-bandwidth"].summary
    assert "59 rounds a token, 14 in each of 4 layers" in found["layers"].summary
    assert "takes 59 rounds and 62.0 kB between the compute peers; the dealer sends 2.20 MB" in plain(
        found["planes"].summary
    )
    assert "118 of them between the compute peers" in found["timeline"].summary


def test_a_summary_changes_with_the_data(results):
    everywhere = replace(results, crossings=[each for each in results.crossings if each.bandwidth_mbit > 100])
    assert "pair is predicted to be the fastest everywhere" in figures(everywhere)["crossover"].summary
    turned = replace(
        results,
        crossings=[
            replace(each, protocol={"pair": "crypten", "crypten": "pair"}[each.protocol])
            for each in everywhere.crossings
        ],
    )
    assert "crypten is predicted to be the fastest everywhere" in figures(turned)["crossover"].summary


@pytest.mark.parametrize(
    ("off", "verdict", "starts"),
    [
        (1.0, "within 20 %", "All of"),
        (1.19, "within 20 %", "All of"),
        (1.5, "50 % too high", "None of"),
        (0.7, "30 % too low", "None of"),
    ],
)
def test_the_verdict_on_predictions(results, off, verdict, starts):
    cases = Cases(results)
    predictions = [
        Prediction(case, off * cases.spread(case, TTFT).p50, off * cases.spread(case, TPOT).p50, 59, 1.0, 1.0, 1.0)
        for case in cases.all
    ]
    figure = figures(replace(results, predictions=predictions))["accuracy"]
    assert figure.summary.startswith(starts)
    assert {plain(row[-1]) for row in figure.table.rows} == {verdict}


def test_percentiles_are_linear_between_neighbours():
    spread = Spread.of([5.0, 1.0, 2.0, 3.0, 4.0])
    assert (spread.n, spread.mean, spread.p50) == (5, 3.0, 3.0)
    assert spread.p90 == pytest.approx(4.6)
    assert spread.p99 == pytest.approx(4.96)
    assert Spread.of([]) is None


@pytest.mark.parametrize(
    ("change", "gone", "reason"),
    [
        (
            {"sites": []},
            {"token-by-gate", "token-by-layer", "prompt-by-gate", "prompt-by-layer", "layers"},
            "no timing of the",
        ),
        ({"lines": []}, {"lines"}, "were not compared with"),
        ({"transfers": []}, {"timeline"}, "no message of a token"),
        ({"predictions": []}, {"accuracy"}, "no case was both"),
        ({"crossings": []}, {"crossover"}, "nothing was predicted over"),
    ],
)
def test_what_is_missing_is_left_out(small, change, gone, reason):
    less = replace(small, **change)
    assert set(figures(less)) == EVERY - gone
    absent = [part for section in sections(Cases(less)) for part in section.parts if isinstance(part, Absent)]
    assert {part.name for part in absent} == gone
    assert any(reason in part.reason for part in absent)


def test_what_is_missing_is_said(small, tmp_path):
    less = replace(small, sites=[], lines=[], transfers=[], predictions=[], crossings=[])
    outline = Outline(write_report(less, tmp_path).read_text(encoding="utf-8"))
    said = "".join(outline.words)
    assert "Not in this report" in said
    assert {figure["id"] for figure in outline.all("figure")} == set(figures(less))
    for section in sections(Cases(less)):
        for part in section.parts:
            assert not isinstance(part, Absent) or part.reason in said


def test_one_case_alone(tmp_path):
    one = made_results.results(protocols=("pair",), networks=("wan",), lengths=((8, 16),), repetitions=1)
    assert set(figures(one)) >= {"shares", "planes", "layers", "timeline", "accuracy"}
    assert not {"ttft-rtt", "tpot-bandwidth", "crossover"} & set(figures(one))
    page = write_report(one, tmp_path).read_text(encoding="utf-8")
    assert "no two networks of different round-trip time" in page
    assert "only one protocol over a network, pair," in page


def test_a_study_without_answers_still_says_why(tmp_path):
    case = Case("pair", "wan", "stories", 8, 16)
    none = Results(made_results.provenance(), 5, 1, missing={case.key: "no coordinator answers at 127.0.0.1:1"})
    page = write_report(none, tmp_path).read_text(encoding="utf-8")
    assert "This study has no measured answers." in page
    assert "no coordinator answers at 127.0.0.1:1" in page
    assert not Outline(page).all("figure")


HOSTILE = "<script>alert(1)</script>\"'&\x00'+signal"


def test_names_are_never_markup(tmp_path):
    """Names come from results.json, which anyone may have written."""
    bad = made_results.results(
        models=(HOSTILE, "other</svg><img src=x onerror=alert(1)>"), lengths=((8, 4),), networks=("wan", "lan")
    )
    bad.provenance = replace(bad.provenance, packages={HOSTILE: "</style>"}, system=HOSTILE, made=HOSTILE)
    bad.missing = {HOSTILE: HOSTILE}
    bad.sites = [replace(site, gate=f"{HOSTILE}{site.gate}", site=HOSTILE) for site in bad.sites]
    bad.transfers = [
        replace(each, sender=f"{each.sender}'</text>" if each.sender == "dealer" else each.sender)
        for each in bad.transfers
    ]
    bad.lines = [replace(line, what=HOSTILE, how=HOSTILE) for line in bad.lines]
    page = write_report(bad, tmp_path).read_text(encoding="utf-8")
    outline = Outline(page)
    assert not [tag for tag, attributes in outline.tags if tag in ("script", "img") or "onerror" in attributes]
    assert "\x00" not in page
    assert "<script>" in "".join(outline.words)


def test_a_large_study_stays_small(tmp_path):
    networks = [f"rtt={rtt}ms,bandwidth={rate}mbit" for rtt in (1, 5, 20, 80, 200) for rate in (10, 100, 1000)]
    large = made_results.results(
        protocols=("plain", "pair", "crypten"),
        networks=networks,
        models=tuple(f"model-{number}" for number in range(4)),
        lengths=((8, 8), (64, 8), (256, 8)),
        repetitions=2,
    )
    assert len(large.cases()) > 350
    page = write_report(large, tmp_path).read_bytes()
    assert len(page) < LIMIT


def test_lines_that_differ_by_pair_are_no_point_on_an_axis(results):
    case = Case("pair", "wan; client:peer-0=global", "stories", 8, 16)
    mixed = replace(results, answers=[*results.answers, replace(results.answers[-1], case=case)])
    assert all("client:peer-0" not in row[0] for row in figures(mixed)["tpot-rtt"].table.rows)


def test_plots_for_documents(small, tmp_path):
    svg = save_plot(small, "tpot-rtt", tmp_path / "plot.svg").read_text()
    assert svg.startswith("<svg")
    assert "prefers-color-scheme: dark" in svg
    png = save_plot(small, "crossover", tmp_path / "plot.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="no plot 'nothing': it has ttft-rtt"):
        save_plot(small, "nothing", tmp_path / "plot.svg")
    with pytest.raises(UsageError, match=r"written as \.svg or \.png"):
        save_plot(small, "crossover", tmp_path / "plot.gif")


def test_without_its_packages_it_says_what_to_install(results, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "altair" else found(name, *rest)
    )
    with pytest.raises(ConfigError, match=r"altair.*pip install 'tacit\[study\]'"):
        write_report(results, tmp_path)


def test_a_page_that_cannot_be_written_is_an_error(results, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report(replace(results, answers=[], sites=[], lines=[], crossings=[], transfers=[]), tmp_path / "taken")


def _seen(colour: str, blindness: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    """As someone with that colour blindness sees it (Machado, Oliveira, Fernandes 2009, full severity), in linear light."""
    values = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return tuple(sum(a * b for a, b in zip(row, linear, strict=True)) for row in blindness)


def _lab(linear: tuple[float, ...]) -> tuple[float, float, float]:
    matrix = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    white = (0.9505, 1.0, 1.089)
    x, y, z = (
        (max(0.0, sum(a * b for a, b in zip(row, linear, strict=True))) / w) ** (1 / 3)
        for row, w in zip(matrix, white, strict=True)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("theme", [colours.LIGHT, colours.DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    "blindness",
    [
        ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
        ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ],
    ids=["protanopia", "deuteranopia"],
)
def test_the_first_three_colours_stay_apart(theme, blindness):
    """Most charts use no more than three; each also has a shape, a dash or a pattern."""
    labs = [_lab(_seen(theme[name], blindness)) for name in ("c1", "c2", "c3")]
    for number, one in enumerate(labs):
        for other in labs[:number]:
            assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 20


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0, 1e300])
def test_numbers_that_cannot_be_are_left_out_and_said(small, tmp_path, wrong):
    first, second, *rest = small.answers
    odd = replace(
        small,
        answers=[replace(first, ttft_ms=wrong), replace(second, itl_ms=[1.0, wrong]), *rest],
        lines=[replace(small.lines[0], shaped_ms=wrong)],
        predictions=[],
        sites=[],
        transfers=[],
        crossings=[replace(each, tpot_ms=wrong) for each in small.crossings],
    )
    said = "".join(Outline(write_report(odd, tmp_path).read_text(encoding="utf-8")).words)
    assert f"{2 + 1 + len(small.crossings)} records of results.json whose numbers cannot be" in said
    assert f"{len(rest)} measured answers" in said


def test_predictions_alone_make_a_page(small, tmp_path):
    """What an estimate has: nothing was measured, and nothing claims to have been."""
    alone = replace(small, answers=[], lines=[], transfers=[])
    found = figures(alone)
    assert set(found) >= {"ttft-rtt", "tpot-rtt", "token-by-gate", "layers", "crossover"}
    assert not {"accuracy", "shares", "planes", "lines"} & set(found)
    assert found["tpot-rtt"].summary.startswith("Predicted time per token: with pair ")
    assert "Filled marks" not in found["tpot-rtt"].reading
    assert found["token-by-gate"].reading.startswith("From the model of costs")
    said = "".join(Outline(write_report(alone, tmp_path).read_text(encoding="utf-8")).words)
    assert "Predicted latency" in said
    assert "nothing was measured" in said


def test_lines_varied_one_by_one_are_compared_with_their_like():
    """From 10 to 1000 Mbit/s at one round trip, not from a near slow line to a far fast one."""
    networks = [f"rtt={rtt}ms,bandwidth={rate}mbit" for rtt in (1, 20, 200) for rate in (10, 1000)]
    swept = made_results.results(protocols=("pair",), networks=networks, lengths=((8, 4),), repetitions=1)
    cases = Cases(swept)
    medians = {case.network: words.milliseconds(cases.spread(case, TPOT).p50) for case in cases.all}
    found = figures(swept)
    slow, fast = medians["rtt=20ms,bandwidth=10mbit"], medians["rtt=20ms,bandwidth=1000mbit"]
    said = plain(f"with pair (round trip 20 ms) {slow} at 10 Mbit/s and {fast} at 1 Gbit/s")
    assert said in plain(found["tpot-bandwidth"].summary)
    assert "Each line has one bandwidth" in found["tpot-rtt"].reading


@pytest.mark.parametrize("kind", ["log", "linear"])
def test_texts_beside_lines_do_not_cover_each_other(kind):
    scale = pytest.importorskip("altair").Scale(type=kind, domain=[1.0, 1000.0])
    places = spread_out([2.0, 2.1, 2.2, 900.0, 901.0, 999.0], scale, 200, 13)

    def pixel(value):
        return 200 * (math.log(value) / math.log(1000) if kind == "log" else (value - 1) / 999)

    pixels = [pixel(place) for place in places]
    assert all(after - before >= 13 - 1e-6 for before, after in pairwise(pixels))
    assert pixels[0] >= -1e-6
    assert pixels[-1] <= 200 + 1e-6


def _crossing(protocol: str, rtt: float, bandwidth: float, tpot: float) -> Crossing:
    return Crossing(protocol, "stories", rtt, bandwidth, tpot)


def test_the_map_is_interpolated_where_it_is_coarse(results):
    """One protocol pays for rounds, the other for bytes: the border is where 10 rtt equals 1000 / bandwidth."""
    sides = (1.0, 10.0, 100.0)
    crossings = [
        _crossing(protocol, rtt, bandwidth, tpot)
        for rtt in sides
        for bandwidth in sides
        for protocol, tpot in (("pair", 10 * rtt), ("crypten", 1000 / bandwidth))
    ]
    (found,) = maps_of(Cases(replace(results, crossings=crossings)))
    fine = refined(found)
    assert len(fine.rtts) >= 25
    for (rtt, bandwidth), times in fine.cells.items():
        assert times["pair"] == pytest.approx(10 * rtt)
        assert times["crypten"] == pytest.approx(1000 / bandwidth)
    assert fine.winner(fine.rtts[3], fine.bandwidths[3]) == "pair"
    assert fine.winner(fine.rtts[-3], fine.bandwidths[-3]) == "crypten"
    for line in contour(fine, 50.0):
        for rtt, bandwidth in line:
            assert min(10 * rtt, 1000 / bandwidth) == pytest.approx(50.0, rel=0.1)
    covered = sum(
        math.log(float(str(area["x2"])) / float(str(area["x"])))
        * math.log(float(str(area["y2"])) / float(str(area["y"])))
        for area in areas(fine)
    )
    lefts, bottoms = edges(fine.rtts), edges(fine.bandwidths)
    assert covered == pytest.approx(math.log(lefts[-1] / lefts[0]) * math.log(bottoms[-1] / bottoms[0]))


def test_a_contour_is_one_line_across_the_map(results):
    (found,) = maps_of(
        Cases(replace(results, crossings=[each for each in results.crossings if each.bandwidth_mbit > 100]))
    )
    (line,) = contour(found, 300.0)
    assert len(line) > 10
    assert len(set(line)) == len(line)


def test_a_token_begins_with_what_the_client_sends(results):
    cases = Cases(results)
    (first, *_) = [case for case in cases.all if case.protocol == "pair"]
    token = token_of(first, results.transfers)
    assert token is not None
    assert token.step == 2
    assert min(each.sent_ms for each in token.messages if kind_of(each) != "from the dealer") == 0
    assert max(each.read_ms for each in token.messages if kind_of(each) != "from the dealer") == pytest.approx(
        token.end_ms
    )
    assert sum(kind_of(each) == "online" for each in token.messages) == 2 * 59
    own = [each for each in results.transfers if each.case == first and each.step == 2]
    assert len(token.messages) + token.ahead == len(own)
    assert token.bytes + token.ahead_bytes == sum(each.bytes for each in own)
    many = replace(token, messages=[each for each in token.messages for _ in range(20)])
    assert len(merged(many)) < 300
    assert sum(each.bytes for each in merged(many)) == sum(each.bytes for each in many.messages)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0 ms"),
        (0.0512, "51.2 µs"),
        (0.9999, "1.00 ms"),
        (36.0, "36.0 ms"),
        (999.7, "1.00 s"),
        (59999.9, "60.0 s"),
        (150e3, "2.5 min"),
    ],
)
def test_times_are_written_as_people_read_them(value, said):
    assert plain(words.milliseconds(value)) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0 B"), (999, "999 B"), (62_000, "62.0 kB"), (2_204_000, "2.20 MB"), (3e12, "3.00 TB")]
)
def test_sizes_are_written_as_people_read_them(value, said):
    assert plain(size(value)) == said
