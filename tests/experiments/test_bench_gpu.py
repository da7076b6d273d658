"""The benchmark for accelerators: its plan, its files, and its sides on the device of the tests."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments.bench import gpu, timing, workers
from experiments.bench.case import Case, Side
from experiments.bench.sides import accelerator
from jaxnn.functional.recurrent import algorithms

TOYS = "tests.experiments.bench_toys:"
NAMES = ("recurrent", "conv", "cifar10")


def case(*functions, units=1, **options):
    return Case("toy", tuple(Side(name, TOYS + name) for name in functions), options, units)


@pytest.fixture
def planned(monkeypatch):
    """Replaces the plan by these cases."""
    return lambda *cases: monkeypatch.setattr(gpu, "plan", lambda *_: [gpu.Step("conv", each) for each in cases])


@pytest.mark.parametrize("small", [False, True])
def test_the_plan_names_sides_that_exist_and_each_case_once(small):
    steps = gpu.plan(NAMES, small)
    assert {step.workload for step in steps} == set(NAMES)
    assert len({step.case.title for step in steps}) == len(steps)
    root = Path(workers.__file__).parent / "sides"
    for step in steps:
        json.dumps(dict(step.case.options))
        assert step.case.sides[0].name.startswith("jaxnn")
        for side in step.case.sides:
            file, function = side.builder.split(":")
            assert f"\ndef {function}(" in (root / f"{file[1:]}.py").read_text(encoding="utf-8")
            assert side.options.get("algorithm", "auto") in algorithms.ALGORITHMS


def test_the_plan_spans_the_shapes_in_help():
    options = [step.case.options for step in gpu.plan(("recurrent",), small=False)]
    spans = {name: {o[name] for o in options} for name in ("batch", "time", "hidden", "dtype", "train")}
    assert (min(spans["batch"]), max(spans["batch"])) == (1, 64)
    assert (min(spans["time"]), max(spans["time"])) == (256, 16_384)
    assert (min(spans["hidden"]), max(spans["hidden"])) == (64, 1024)
    assert (spans["dtype"], spans["train"]) == ({"float32", "bfloat16"}, {True, False})


def test_each_shape_occurs_once_before_any_occurs_again():
    steps = gpu.plan(("recurrent",), small=False)
    gated = [step.case.options for step in steps if step.case.options["train"]]
    gated = [options for options in gated if options["kind"] in ("lstm", "gru")]
    for turn in range(0, len(gated), len(gpu.SHAPES)):
        seen = gated[turn : turn + len(gpu.SHAPES)]
        assert [(o["batch"], o["time"], o["hidden"]) for o in seen] == list(gpu.SHAPES)
        assert len({(o["kind"], o["dtype"]) for o in seen}) == 4


def test_algorithms_of_nvidia_are_sides_in_their_dtypes():
    for algorithm, types in gpu.OF_NVIDIA.items():
        name = f"jaxnn, {algorithm}"
        large, small = ([step.case for step in gpu.plan(("recurrent",), size)] for size in (False, True))
        assert {case.options["dtype"] for case in large if name in [side.name for side in case.sides]} == set(types)
        assert not any(name == side.name for case in small for side in case.sides)


def test_workloads_are_interleaved_each_in_its_order():
    steps = gpu.plan(NAMES, small=False)
    assert {step.workload for step in steps[: len(steps) // 2]} == set(NAMES)
    conv = [step.case.title for step in steps if step.workload == "conv"]
    assert conv == [step.case.title for step in gpu.plan(("conv",), small=False)]


def test_tables_and_json_have_the_results_and_why_sides_are_missing(tmp_path, monkeypatch, capsys, planned):
    planned(case("ready", "too_large", "lacking", units=2, examples=100))
    monkeypatch.setattr(gpu.jax, "default_backend", lambda: "gpu")
    gpu.main(gpu.Options(run=tmp_path / "run"))
    record = json.loads((tmp_path / "run" / "gpu.json").read_text(encoding="utf-8"))
    assert record["device"]["kind"] == jax.devices()[0].device_kind
    assert record["versions"]["jax"] == jax.__version__
    assert not record["small"]
    (result,) = record["results"]
    side = result["sides"]["ready"]
    assert (side["compiling"], side["peak"]) == (1.5, 7 * 2**20)
    assert side["median"] >= 0.001 / 2
    assert timing.LEAST <= len(side["rounds"]) <= gpu.MOST
    assert result["seconds_per_example"] == {"ready": side["median"] / 100}
    why = {"too_large": "the memory is not enough (32 GiB)", "lacking": "haiku is not installed"}
    assert result["not_measured"] == why
    assert not list((tmp_path / "run").glob(".gpu*"))
    printed = capsys.readouterr().out
    assert "not measured: too_large: the memory is not enough (32 GiB)" in printed
    assert "examples a second" in printed


def test_with_small_shapes_every_side_must_serve(tmp_path, planned):
    planned(case("ready", "lacking"))
    gpu.main(gpu.Options(run=tmp_path / "a", small=True))
    planned(case("ready", "wrong"))
    with pytest.raises(ValueError, match=r"--small: .* 1 that failed: toy: wrong: ValueError: cannot serve \[\]"):
        gpu.main(gpu.Options(run=tmp_path / "b", small=True))


def test_a_fault_of_the_benchmark_ends_it():
    with pytest.raises(TypeError, match="a fault"):
        gpu.measure(case("faulty"), 0.0)


def test_cases_beyond_the_time_are_left_out(capsys):
    assert list(gpu.measured([gpu.Step("conv", case("ready"))] * 2, -1.0)) == []
    assert "2 cases are left out: the time is up" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": float("nan")}, "--minutes: expected a finite positive number, got nan"),
        ({"only": ()}, "--only: expected at least one workload, got none"),
    ],
)
def test_errors_name_the_wrong_option(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        gpu.main(gpu.Options(run=tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_works_take_turns_in_alternating_order(monkeypatch):
    monkeypatch.setattr(timing, "SLOW", float("inf"))  # no time is compared here
    called = []
    works = {name: lambda name=name: called.append(name) for name in "ab"}
    rounds = timing.in_turn(works, 60.0, most=3)
    assert "".join(called) == "ab" + "ab" + "ab" + "ba" + "ab"  # two calls before, then three rounds
    assert {name: len(taken) for name, taken in rounds.items()} == {"a": 3, "b": 3}


def test_a_work_that_is_far_slower_is_timed_once(monkeypatch):
    monkeypatch.setattr(timing, "SLOW", -1.0)  # every work, so that no time is compared here
    assert [len(taken) for taken in timing.in_turn({"a": lambda: None}, 0.0).values()] == [1]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("side", ["jaxnn_recurrence", "flax_recurrence", "torch_recurrence"])
def test_layers_of_all_libraries_run_in_bfloat16(side, train):
    if side == "torch_recurrence":
        pytest.importorskip("torch")
    more = {"algorithm": "scan"} if side == "jaxnn_recurrence" else {}
    shape = {"batch": 2, "time": 3, "features": 4, "hidden": 4}
    ready = getattr(accelerator, side)(kind="gru", **shape, dtype="bfloat16", train=train, **more)
    results = ready.work()
    if side != "torch_recurrence":
        y = results[0] if train else results
        assert (y.shape, y.dtype) == ((2, 3, 4), "bfloat16")
        assert {leaf.dtype.name for leaf in jax.tree.leaves(results)} == {"bfloat16"}
        assert ready.compiling > 0
        assert ready.peak > y.nbytes


def test_both_sides_of_a_convolution_compute_the_same():
    (layer,) = [step.case for step in gpu.plan(("conv",), small=True)]
    options = {**layer.options, "dtype": "float32"}
    ours, theirs = (accelerator.convolution(**options, **side.options).work() for side in layer.sides)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_pytorch_without_the_device_of_jax_is_refused(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(accelerator.jax, "default_backend", lambda: "tpu")
    (side,) = [side for side in gpu.plan(("recurrent",), small=True)[0].case.sides if side.name == "PyTorch"]
    result = gpu.measure(Case("toy", (side,), gpu.plan(("recurrent",), small=True)[0].case.options), 0.0)
    assert result.missing["PyTorch"].startswith("RuntimeError: PyTorch ")
    assert result.missing["PyTorch"].endswith(": no support for tpu")
    assert result.timings == {}


def test_a_device_is_described_in_a_line():
    client = SimpleNamespace(platform_version="PJRT C API\ncuda 12090")
    device = SimpleNamespace(platform="gpu", device_kind="NVIDIA H100", client=client)
    assert gpu.describe(device) == "NVIDIA H100, PJRT C API cuda 12090"
    assert gpu.describe(jax.devices("cpu")[0])
