"""The page: whole for every kind of task, true to its numbers, safe with any name, and small."""

from __future__ import annotations

import html
import re
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest

from cloud_trainer.card import card
from cloud_trainer.data import Dataset
from cloud_trainer.evaluation.bootstrap import Interval
from cloud_trainer.evaluation.comparison import compare
from cloud_trainer.gates import Gates, better, decide
from cloud_trainer.package import Measured
from cloud_trainer.report import CurveView, NetworkView, TrialView, courses, report
from cloud_trainer.report.png import pixels, png
from cloud_trainer.report.samples import look_of
from shared.manifest import SampleSpec
from tests.cloud_trainer.report.made import KINDS, bare, changed, made

VOID = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Fails where a tag is closed that is not open."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(page):
    """The page's text, after looking at its form."""
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(svg)
        assert "nan" not in svg.replace("nano", "")
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    return html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)))


@pytest.fixture(scope="module")
def full():
    return {kind: made(kind, n=400) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_whole_page_in_the_order_of_the_seven_steps(full, kind):
    page = report(full[kind])
    text = checked(page)
    assert len(page) < 1_500_000
    steps = [int(number) for number in re.findall(r'<span class="step">(\d)</span>', page)]
    assert steps == [1, 2, 3, 4, 5, 6, 7]
    best = max(full[kind].measured, key=lambda one: next(iter(one.variant.quality.values())))
    assert f"answers of {best.variant.id}" in text
    assert "95 % interval" in text
    assert "Robustness" in text
    assert "weight4-onnx was left out:" in text
    assert "student without teacher" in text


@pytest.mark.parametrize("kind", KINDS)
def test_manifest_and_variants_alone_are_enough(kind):
    text = checked(report(bare(kind)))
    assert "Variants" in text or "variants" in text
    assert "int8-litert" in text
    assert "Training" not in text


def test_variants_without_a_measured_quality():
    data = bare("text-classification")
    one = data.measured[0]
    unknown = Measured(msgspec.structs.replace(one.variant, quality={}), {})
    assert "Nobody has measured" in checked(report(changed(data, measured=(unknown,))))


def test_numbers_on_the_page_are_those_of_the_manifest(full):
    data = full["image-classification"]
    text = checked(report(data))
    for one in data.measured:
        assert f"{100 * one.variant.quality['accuracy']:.2f} %" in text
        assert f"{one.variant.file.bytes / 1024:.1f} KiB" in text
    assert "99.42 %" in text  # agreement with torch
    assert "quantization-aware training, 3 epochs" in text


def test_names_are_never_taken_for_html(full):
    data = full["text-classification"]
    evil = '<img src=x onerror="alert(1)">&'
    labels = (evil, *data.manifest.labels[1:])
    x = data.test.x.copy()
    x[:] = evil
    groups = np.array([evil] * 200 + ["other"] * 200)
    test = Dataset(x, data.test.y, labels, groups=groups)
    manifest = msgspec.structs.replace(data.manifest, labels=labels)
    page = report(changed(data, manifest=manifest, test=test, counts={evil: 3}, left_out={evil: evil}, cost=(evil,)))
    checked(page)
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_forty_classes_have_a_matrix_and_a_hundred_a_list_of_mistakes():
    forty = report(made("image-classification", classes=40, n=2000))
    checked(forty)
    assert "confusion matrix" in forty
    hundred = report(made("tabular-classification", classes=100, n=3000))
    text = checked(hundred)
    assert "confusion matrix" not in hundred
    assert "The most frequent of the" in text
    assert len(hundred) < 1_500_000


def test_two_classes_have_a_roc(full):
    assert "ROC" in checked(report(made("tabular-classification", classes=2, n=300)))
    assert "ROC" not in checked(report(full["tabular-classification"]))


def test_all_right_has_no_mistakes_to_show():
    data = made("tabular-classification", classes=3, n=90)
    scores = np.full((90, 3), 0.05)
    scores[np.arange(90), data.test.y] = 0.9
    perfect = Measured(
        msgspec.structs.replace(data.measured[0].variant, quality={"accuracy": 1.0, "samples": 90.0}),
        {"test": {"scores": scores, "index": data.test.y}},
    )
    text = checked(report(changed(data, measured=(perfect,))))
    assert "None: all 90 test samples are answered right." in text


def test_single_sample_constant_answers_and_missing_values_do_not_break_the_page():
    data = made("tabular-regression", n=3)
    y = np.full(3, 7.0, np.float32)
    flat = Measured(
        msgspec.structs.replace(data.measured[0].variant, quality={"r2": 0.0, "mae": 0.0, "samples": 3.0}),
        {"test": {"value": y.astype(np.float64)}},
    )
    test = Dataset(data.test.x, y, columns=data.test.columns)
    reference = np.full((60, 4), np.nan)
    curves = (CurveView("student", "r2", (float("nan"), 0.0), (), (), (-3.0, float("nan"))),)
    checked(report(changed(data, measured=(flat,), test=test, reference=reference, curves=curves, robustness=None)))


def test_ranking_in_long_form_shows_queries():
    rng = np.random.default_rng(0)
    data = made("recommendation", n=200)
    groups = np.repeat([f"query {i}" for i in range(20)], 10)
    test = Dataset(
        rng.normal(0, 1, (200, 4)).astype(np.float32), rng.integers(0, 3, 200).astype(np.float32), groups=groups
    )
    one = Measured(data.measured[0].variant, {"test": {"value": rng.normal(0, 1, 200)}})
    manifest = msgspec.structs.replace(data.manifest, labels=())
    text = checked(report(changed(data, measured=(one,), test=test, manifest=manifest)))
    assert "query 0" in text
    assert "most relevant there is" in text


def test_gates_say_whether_they_passed(full):
    right = np.arange(100) < 60
    passed = decide("m", 2, 1, (better(right, np.arange(100) < 90),))
    failed = Gates(False, "no", "m", 2, 1, passed.gates)
    assert "Gates: passed" in checked(report(changed(full["text-classification"], gates=passed)))
    assert "class=warning><h2>Gates: not passed" in report(changed(full["text-classification"], gates=failed))


def test_only_trials_that_nothing_beats_are_on_the_front():
    trials = [TrialView("a", 100, 0.8), TrialView("b", 200, 0.7), TrialView("c", 300, 0.9), TrialView("d", 300, 0.85)]
    assert [t.name for t in courses.front_of(trials)] == ["a", "c"]


def test_names_of_networks_do_not_lie_on_each_other():
    same = [
        NetworkView("a", "student", 1000, 0.9),
        NetworkView("b", "student without teacher", 1000, 0.899),
        NetworkView("c", "teacher", 1010, 0.9),
    ]
    svg = courses.pareto([], same, "accuracy")
    places = [float(y) for y, bold in re.findall(r'<text x="[\d.]+" y="([\d.]+)"[^>]*?(font-weight="600")', svg)]
    assert len(places) == 3
    assert min(abs(a - b) for i, a in enumerate(places) for b in places[:i]) >= 14


def test_curves_of_the_first_loop_are_shown_too():
    class Old:
        name, loss, accuracy = "teacher", (1.0, 0.5), (0.6, 0.8)

    found = CurveView.of(Old())
    assert (found.train_loss, found.validation_score) == ((1.0, 0.5), (0.6, 0.8))
    assert CurveView.of(found) == found


def test_png_holds_the_pixels():
    rng = np.random.default_rng(0)
    for shape in ((5, 7), (6, 4, 3)):
        picture = rng.integers(0, 256, shape).astype(np.uint8)
        data = png(picture)
        width, height = struct.unpack(">II", data[16:24])
        assert (height, width) == shape[:2]
        at = data.index(b"IDAT")
        size = struct.unpack(">I", data[at - 4 : at])[0]
        rows = np.frombuffer(zlib.decompress(data[at + 4 : at + 4 + size]), np.uint8).reshape(height, -1)
        assert np.array_equal(rows[:, 1:].reshape(shape), picture)


def test_large_pictures_are_thinned_out():
    assert max(pixels(np.zeros((2000, 1000)), 0, 1).shape) <= 160


def test_samples_are_shown_as_what_they_are():
    def look(spec, x, **more):
        return look_of(spec, Dataset(x, np.zeros(len(x)), **more))

    words = np.array([["a", "b"]], object)
    assert look(SampleSpec("str", ()), np.array(["a"], object)) == "text"
    assert look(SampleSpec("str", (2,)), words) == "history"
    assert look(SampleSpec("str", (2,)), words, columns=("p", "q")) == "row"
    assert look(SampleSpec("uint8", (8, 8), "image"), np.zeros((1, 8, 8))) == "image"
    assert look(SampleSpec("float32", (8, 3)), np.zeros((1, 8, 3))) == "lines"
    assert look(SampleSpec("int16", (800,)), np.zeros((1, 800)), rate=8000.0) == "wave"
    assert look(SampleSpec("float32", (4,)), np.zeros((1, 4))) == "row"


def test_variants_are_compared_on_the_same_resamples(full):
    data = full["image-classification"]
    pairs = [(m.variant, m.outputs["test"]) for m in data.measured]
    found = compare(data.judge, pairs, data.test.y, data.test.groups)
    assert set(found) == {m.variant.id for m in data.measured}
    assert found["fp32-onnx"].to_fp32 is None
    accuracy = {m.variant.id: m.variant.quality["accuracy"] for m in data.measured}
    change = found["int8-arm-onnx"].to_fp32
    assert change.value == pytest.approx(accuracy["int8-arm-onnx"] - accuracy["fp32-onnx"], abs=1e-5)
    assert list(found["int8-onnx"].figures) == ["accuracy"]
    every = compare(data.judge, pairs[:1], data.test.y, every=True)
    assert {"macro_f1", "balanced_accuracy", "nll"} <= set(every["fp32-onnx"].figures)


@pytest.mark.parametrize("kind", KINDS)
def test_card_has_the_main_figures_with_their_intervals(full, kind):
    data = full[kind]
    variants = [m.variant for m in data.measured]
    compared = compare(data.judge, [(m.variant, m.outputs["test"]) for m in data.measured], data.test.y)
    text = card(data.manifest, variants, data=data.counts, values=None, left_out={"x": "too bad"}, compared=compared)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(variants)
    assert " – " in lines[2]
    assert "x was left out: too bad." in text
    assert "like the ones that it was trained on" in text
    if kind == "recommendation":
        assert "and 170 more" in text


def test_interval_that_was_given_is_shown(full):
    data = full["tabular-regression"]
    network = NetworkView("trees", "teacher", None, 0.912, Interval(0.912, 0.9012, 0.9231, 100))
    assert "0.901 – 0.923" in checked(report(changed(data, networks=(network,))))


def test_report_and_figures_need_neither_torch_nor_matplotlib():
    code = (
        "import sys, cloud_trainer.report, cloud_trainer.card, cloud_trainer.corruptions; "
        "print([m for m in ('torch', 'matplotlib', 'scipy', 'sklearn') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
