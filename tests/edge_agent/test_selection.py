"""Choosing a variant: the decision as a pure function, the measurement on a real release."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge_agent import selection
from edge_agent.bare import describe
from edge_agent.config import SelectionConfig
from edge_agent.selection import candidates, choose, measure, quality_of, select
from shared.errors import BackendError, DigestError, NoVariantError, UsageError
from shared.manifest import load_manifest
from shared.messages import SelectionRow

QUICK = SelectionConfig(measure_seconds=0.001)


def row(variant, p50=10.0, quality=0.97, p99=None, size=1000, **more):
    return SelectionRow(
        variant=variant,
        runtime="onnxruntime",
        precision="fp32",
        bytes=size,
        p50_us=p50,
        p99_us=p99 or (None if p50 is None else p50 * 2),
        quality=quality,
        **more,
    )


def why(rows, config):
    return {r.variant: (r.chosen, r.why) for r in choose(rows, config)}


def test_the_fastest_within_the_drop_wins():
    found = why([row("a", 20, 0.975), row("b", 10, 0.97), row("c", 5, 0.954)], SelectionConfig())
    assert found == {
        "a": (False, "2.0 times as slow as b"),
        "b": (True, "fastest within 1.0 point of the best"),
        "c": (False, "2.1 points below the best"),
    }


def test_a_drop_of_exactly_the_limit_is_allowed():
    assert why([row("a", 20, 0.97), row("b", 10, 0.96)], SelectionConfig())["b"][0]


def test_a_larger_drop_lets_a_faster_one_win():
    found = why([row("a", 20, 0.975), row("c", 5, 0.954)], SelectionConfig(quality_drop=0.025))
    assert found["c"] == (True, "fastest within 2.5 points of the best")


def test_goal_quality_takes_the_best_and_breaks_ties_by_speed():
    config = SelectionConfig(goal="quality")
    found = why([row("a", 20, 0.97), row("b", 10, 0.97), row("c", 5, 0.96)], config)
    assert found["b"] == (True, "best quality")
    assert found["c"] == (False, "1.0 point below the best")
    assert found["a"] == (False, "2.0 times as slow as b")


def test_the_tail_limit_excludes_and_the_best_is_then_among_the_rest():
    found = why([row("a", 10, 0.99, p99=31_000), row("b", 20, 0.95)], SelectionConfig(p99_ms=20))
    assert found == {
        "a": (False, "p99 31 ms, over the limit of 20 ms"),
        "b": (True, "the only one that can run here"),
    }


def test_size_excludes():
    found = why([row("a", size=5000), row("b", size=100)], SelectionConfig(max_bytes=1000))
    assert found["a"] == (False, "5000 bytes, over the limit of 1000")
    assert found["b"][0]


def test_a_named_variant_is_taken_however_slow():
    found = why([row("a", 1), row("b", 900)], SelectionConfig(variant="b"))
    assert found == {"a": (False, "the configuration wants b"), "b": (True, "named in the configuration")}


def test_what_was_not_measured_keeps_its_reason():
    found = why([row("a", None, why="not downloaded"), row("b")], SelectionConfig())
    assert found["a"] == (False, "not downloaded")


def test_nothing_fits_nothing_is_chosen():
    assert not any(r.chosen for r in choose([row("a", p99=9e9)], SelectionConfig(p99_ms=1)))
    assert choose([], SelectionConfig()) == []


def test_an_unknown_quality_loses_against_a_known_one():
    assert why([row("a", 50, 0.5), row("b", 1, None)], SelectionConfig())["a"][0]


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(0.1, 1e6)), st.one_of(st.none(), st.floats(0, 1)), st.integers(1, 9999)
        ),
        max_size=8,
    ),
    st.builds(
        SelectionConfig,
        goal=st.sampled_from(["latency", "quality"]),
        quality_drop=st.floats(0, 1),
        p99_ms=st.one_of(st.none(), st.floats(0.001, 1000)),
        max_bytes=st.one_of(st.none(), st.integers(1, 9999)),
    ),
)
def test_at_most_one_is_chosen_it_keeps_the_limits_and_every_row_says_why(values, config):
    rows = [
        row(f"v{i}", p50, quality, size=size, why="" if p50 else "broken")
        for i, (p50, quality, size) in enumerate(values)
    ]
    result = choose(rows, config)
    assert [r.variant for r in result] == [r.variant for r in rows]
    assert all(r.why for r in result)
    chosen = [r for r in result if r.chosen]
    fit = [
        r
        for r in rows
        if r.p50_us is not None
        and (config.p99_ms is None or r.p99_us <= config.p99_ms * 1000)
        and (config.max_bytes is None or r.bytes <= config.max_bytes)
    ]
    assert len(chosen) == bool(fit)
    for r in chosen:
        assert r.variant in {f.variant for f in fit}


def test_quality_is_accuracy_else_the_first_number(release):
    variant = load_manifest(release).variants[0]
    assert quality_of(msgspec.structs.replace(variant, quality={"f1": 0.3, "accuracy": 0.9})) == 0.9
    assert quality_of(msgspec.structs.replace(variant, quality={"f1": 0.3})) == 0.3
    assert quality_of(msgspec.structs.replace(variant, quality={})) is None


def test_a_real_release_is_measured_and_one_is_chosen(release):
    manifest = load_manifest(release)
    chosen, rows = select(manifest, release, QUICK)
    assert [r.variant for r in rows] == [v.id for v in manifest.variants]
    assert [r.variant for r in rows if r.chosen] == [chosen.id]
    for r in rows:
        assert 0 < r.p50_us <= r.p99_us
        assert r.rss_mib >= 0


def test_variants_for_another_machine_are_left_out(release, monkeypatch):
    manifest = load_manifest(release)
    pi = msgspec.structs.replace(manifest.variants[0], meant_for=("armv7l",))
    manifest = msgspec.structs.replace(manifest, variants=(pi, *manifest.variants[1:]))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert pi.id not in [v.id for v in candidates(manifest, QUICK)]
    assert select(manifest, release, QUICK)[1][0].why == "meant for armv7l, this is x86_64"
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    assert candidates(manifest, QUICK)[0].id == pi.id


def test_variants_over_the_size_limit_are_not_even_downloaded(release):
    manifest = load_manifest(release)
    small = min(v.file.bytes for v in manifest.variants)
    assert [v.file.bytes for v in candidates(manifest, SelectionConfig(max_bytes=small))] == [small]


def test_files_that_were_not_downloaded_are_skipped_and_damaged_ones_are_not(own_release):
    manifest = load_manifest(own_release)
    (own_release / manifest.variants[0].file.path).unlink()
    _, rows = select(manifest, own_release, QUICK)
    assert rows[0].why == "not downloaded"
    (own_release / manifest.variants[1].file.path).write_bytes(b"")
    with pytest.raises(DigestError):
        select(manifest, own_release, QUICK)


def test_no_backend_at_all_names_every_reason(release, monkeypatch):
    monkeypatch.setattr("edge_agent.backends.find_spec", lambda name: None)
    with pytest.raises(NoVariantError, match=r"digits/1 can run here: fp32-onnx: backend onnxruntime not installed"):
        select(load_manifest(release), release, QUICK)


def test_a_variant_that_its_backend_refuses_does_not_spoil_the_others(release, monkeypatch):
    real = selection.measure

    def measure(manifest, path, variant, **options):
        if variant.id == "fp32-onnx":
            raise BackendError("the runtime refuses it")
        return real(manifest, path, variant, **options)

    monkeypatch.setattr(selection, "measure", measure)
    chosen, rows = select(load_manifest(release), release, QUICK)
    assert chosen.id != "fp32-onnx"
    assert rows[0].why == "the runtime refuses it"


@pytest.fixture
def counted(monkeypatch):
    calls = []
    real = selection.measure

    def measure(manifest, path, variant, **options):
        calls.append(variant.id)
        return real(manifest, path, variant, **options)

    monkeypatch.setattr(selection, "measure", measure)
    return calls


def test_the_second_start_reads_the_cache_and_decides_anew(release, tmp_path, counted):
    manifest, cache = load_manifest(release), tmp_path / "selection.json"
    first, rows = select(manifest, release, QUICK, cache=cache)
    assert len(counted) == 4
    second, again = select(manifest, release, QUICK, cache=cache)
    assert len(counted) == 4
    assert (second.id, again) == (first.id, rows)
    other = next(v.id for v in manifest.variants if v.id != first.id)
    forced = msgspec.structs.replace(QUICK, variant=other)
    assert select(manifest, release, forced, cache=cache)[0].id == other
    assert len(counted) == 4


def test_another_device_release_or_thread_count_is_measured_anew(release, tmp_path, counted, monkeypatch):
    manifest, cache = load_manifest(release), tmp_path / "selection.json"
    select(manifest, release, QUICK, cache=cache)
    select(manifest, release, QUICK, threads=2, cache=cache)
    assert len(counted) == 8
    monkeypatch.setattr(selection, "fingerprint", lambda: "another")
    select(manifest, release, QUICK, threads=2, cache=cache)
    assert len(counted) == 12
    select(msgspec.structs.replace(manifest, version=2), release, QUICK, threads=2, cache=cache)
    assert len(counted) == 16


@pytest.mark.parametrize("content", [b"", b"{", b'{"release": 3}', b"\xff\xfe"])
def test_a_damaged_cache_is_measured_over(release, tmp_path, counted, content):
    cache = tmp_path / "selection.json"
    cache.write_bytes(content)
    select(load_manifest(release), release, QUICK, cache=cache)
    select(load_manifest(release), release, QUICK, cache=cache)
    assert len(counted) == 4


def test_goal_energy_takes_the_least_energy_within_the_drop():
    rows = [row("a", 20, 0.975), row("b", 10, 0.97), row("c", 5, 0.9), row("d", 1, 0.97)]
    energy = {"a": 300.0, "b": 400.0, "c": 10.0}
    found = {r.variant: (r.chosen, r.why) for r in choose(rows, SelectionConfig(goal="energy"), energy)}
    assert found == {
        "a": (True, "least energy (300 uJ) within 1.0 point of the best"),
        "b": (False, "1.3 times the energy of a"),
        "c": (False, "7.5 points below the best"),
        "d": (False, "its energy could not be measured"),
    }


def test_energy_is_refused_in_one_line_where_it_cannot_be_measured(release, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_agent.energy.POWERCAP", tmp_path)
    with pytest.raises(UsageError, match='goal "energy" needs a device that measures it, and this one does not: no'):
        select(load_manifest(release), release, SelectionConfig(goal="energy"))


def test_energy_is_measured_once_and_kept(release, tmp_path, monkeypatch, counted):
    class Meter:
        def __init__(self):
            self.total = 0

        def consumed_uj(self):
            self.total += 7000
            return self.total

    monkeypatch.setattr(selection, "EnergyMeter", Meter)
    manifest, cache = load_manifest(release), tmp_path / "new" / "selection.json"
    config = msgspec.structs.replace(QUICK, goal="energy", quality_drop=1.0)
    asked = []
    chosen, rows = select(manifest, release, config, cache=cache, progress=asked.append)
    assert "uJ" in next(r.why for r in rows if r.chosen)
    first = manifest.variants[0].id
    assert asked[:2] == [f"measuring {first}", f"measuring the energy of {first}"]
    assert len(asked) == 2 * len(manifest.variants)
    energy = msgspec.json.decode(cache.read_bytes())["energy_uj"]
    assert chosen.id == min(energy, key=energy.get)
    assert all(0 < value <= 7000 / (selection.LEAST_RUNS + selection.WARM_UP) for value in energy.values())
    assert select(manifest, release, config, cache=cache, progress=asked.append)[0].id == chosen.id
    assert len(asked) == 2 * len(manifest.variants)


def test_the_energy_of_a_variant_that_cannot_run_is_its_reason(release, monkeypatch):
    monkeypatch.setattr(selection, "EnergyMeter", object)

    def broken(*_, **__):
        raise BackendError("the runtime refuses it")

    monkeypatch.setattr(selection, "measure_energy", broken)
    with pytest.raises(NoVariantError, match="the runtime refuses it"):
        select(load_manifest(release), release, msgspec.structs.replace(QUICK, goal="energy"))


def bare_model(path, inputs):
    """A file that adds up each of its inputs; strings are passed on."""
    nodes = [
        helper.make_node("Identity", [name], [f"out_{name}"])
        if kind == TensorProto.STRING
        else helper.make_node("Cast", [name], [f"out_{name}"], to=TensorProto.FLOAT)
        for name, kind, _ in inputs
    ]
    outputs = [
        helper.make_tensor_value_info(
            f"out_{name}", TensorProto.STRING if kind == TensorProto.STRING else TensorProto.FLOAT, shape
        )
        for name, kind, shape in inputs
    ]
    graph = helper.make_graph(
        nodes, "bare", [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs], outputs
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    "inputs",
    [
        [("x", TensorProto.FLOAT, ["n", 4])],
        [("x", TensorProto.FLOAT, ["n", 4, "length"])],
        [("a", TensorProto.UINT8, ["n", 2]), ("b", TensorProto.INT64, ["n", 3])],
        [("text", TensorProto.STRING, ["n", 1])],
        [("on", TensorProto.BOOL, ["n", 2]), ("x", TensorProto.DOUBLE, ["n", 2])],
    ],
    ids=["plain", "open size", "two inputs", "text", "bool and double"],
)
def test_a_bare_file_is_measured_on_random_samples(tmp_path, inputs):
    path = bare_model(tmp_path / "model.onnx", inputs)
    manifest = describe(path)
    found = measure(manifest, tmp_path, manifest.variants[0], seconds=0.001)
    assert 0 < found.p50_us <= found.p99_us


def test_a_release_whose_golden_file_is_gone_is_still_measured(own_release):
    (own_release / "golden.npz").unlink()
    chosen, _ = select(load_manifest(own_release), own_release, QUICK)
    assert chosen
