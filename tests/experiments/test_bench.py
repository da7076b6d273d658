"""The benchmark with sides that need no library: the order of the rounds, the missing sides, and the files."""

import json
import sys
from contextlib import closing
from pathlib import Path

import pytest

from experiments.bench import __main__ as bench
from experiments.bench import checkpoint, choices, measure, memory, network, picture, plan, report, workers, workloads
from experiments.bench.case import Case, Settings, Side
from experiments.bench.timing import ratio, summary
from experiments.bench.workloads import layers

TOYS = "tests.experiments.bench_toys:"
CORES = workers.usable_cores()[:1]
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the peak of resident memory")


@pytest.fixture(scope="module")
def pool():
    with closing(workers.Workers(CORES)) as started:
        yield started


def toy(side, function, **options):
    return Side(side, TOYS + function, options=options)


def test_a_summary_has_the_quartiles_of_a_unit_and_the_time_to_compile():
    timing = summary([1.0, 2.0, 3.0, 4.0, 5.0], first=10.0, units=2, peak=7)
    assert (timing.lower, timing.median, timing.upper) == (1.0, 1.5, 2.0)
    assert (timing.compiling, timing.peak, timing.rounds) == (7.0, 7, [0.5, 1.0, 1.5, 2.0, 2.5])
    assert summary([2.0], first=1.0).compiling == 0


def test_a_ratio_is_taken_round_by_round():
    assert ratio(summary([2.0, 20.0, 6.0]), summary([1.0, 10.0, 2.0])) == 2.0


@linux
def test_peak_memory_is_what_a_call_adds():
    size = 64 * 2**20
    held = bytearray(b"x") * size  # memory held before the call does not count
    added = memory.peak(lambda: bytearray(b"x") * size)
    assert 0.9 * size < added < 1.5 * size
    assert memory.peak(lambda: None) < 0.2 * size
    assert len(held) == size


@linux
def test_a_worker_has_its_cores_before_any_library(pool):
    assert pool.ask("jax", do="build", side="a", builder=TOYS + "surroundings", options={})["seconds"] >= 0


@linux
def test_a_worker_reports_seconds_and_memory_and_prints_elsewhere(pool):
    size = 64 * 2**20
    request = {"side": "a", "builder": TOYS + "allocating", "options": {"size": size}}
    assert pool.ask("jax", do="build", **request)["seconds"] > 0
    answer = pool.ask("jax", do="run", side="a", calls=1, memory=True)
    assert 0.9 * size < answer["peak"] < 1.5 * size
    assert answer["seconds"] > 0


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("peerless", "haiku is not installed"),
        ("absent", "ModuleNotFoundError: No module named 'haiku_is_not_here'"),
        ("wrong", "ValueError: cannot serve []"),
        ("dying", "process ended (3)"),
    ],
)
def test_a_worker_reports_why_it_cannot_serve(pool, function, why):
    with pytest.raises(workers.Refusal) as refused:
        pool.ask("jax", do="build", side="a", builder=TOYS + function, options={})
    assert str(refused.value) == why


def test_a_worker_that_does_not_answer_is_ended():
    with closing(workers.Worker("jax", CORES)) as worker, pytest.raises(workers.Refusal, match="no answer in"):
        worker.ask(0.5, do="build", side="a", builder=TOYS + "sleeping", options={"seconds": 60})
    assert not worker.alive


def test_sides_take_turns_and_the_result_names_those_that_fail(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "ROUND", 0.0)
    log = str(tmp_path / "log")
    sides = (
        toy("jaxnn", "sleeping", seconds=0.001, log=log, name="A"),
        toy("slow", "sleeping", seconds=0.002, log=log, name="B"),
        toy("none", "peerless"),
        toy("broken", "breaking"),
    )
    result = measure.measure(Case("toy", sides, {}, units=2), pool, 0.0)
    turns = (tmp_path / "log").read_text(encoding="utf-8").split()
    assert turns == ["A"] * 2 + ["B"] * 2 + ["A", "B", "B", "A", "A", "B"]  # 2 calls, then LEAST rounds
    assert set(result.timings) == {"jaxnn", "slow"}
    assert result.missing == {"none": "haiku is not installed", "broken": "RuntimeError: broke"}
    assert all(len(timing.rounds) == measure.LEAST for timing in result.timings.values())
    table = report.case_table(result).splitlines()
    assert table[0].split("|")[1:4] == [" side  ", " / jaxnn ", " / best peer "]
    assert report.best_peer(result) == "slow"


def test_without_warming_up_the_first_call_counts(pool, tmp_path):
    log = str(tmp_path / "log")
    sides = (toy("jaxnn", "sleeping", seconds=0.01, log=log, name="A"), toy("x", "sleeping", seconds=0.3))
    result = measure.measure(Case("toy", sides, {}, warm_up=False), pool, 0.0)
    assert (tmp_path / "log").read_text(encoding="utf-8").split() == ["A"]
    assert {name: len(timing.rounds) for name, timing in result.timings.items()} == {"jaxnn": 1, "x": 1}


def test_a_side_that_is_far_slower_is_timed_once(pool, monkeypatch):
    monkeypatch.setattr(measure, "SLOW", -1.0)  # every side, so that no time is compared here
    result = measure.measure(Case("toy", (toy("jaxnn", "sleeping", seconds=0.001),), {}), pool, 0.0)
    assert len(result.timings["jaxnn"].rounds) == 1


def test_a_fresh_case_starts_a_process_for_every_call(pool, tmp_path):
    log = str(tmp_path / "log")
    sides = (toy("jaxnn", "sleeping", seconds=0.0, log=log, name="A"), toy("none", "wrong"))
    result = measure.measure(Case("toy", sides, {}, fresh=True), pool, 0.0)
    assert (tmp_path / "log").read_text(encoding="utf-8").split() == ["A", "A"]  # the first does not count
    assert list(result.timings) == ["jaxnn"]
    assert result.missing == {"none": "ValueError: cannot serve []"}


def test_the_whole_command_writes_tables_json_and_a_picture(tmp_path, monkeypatch, capsys):
    def cases(settings):
        sides = (
            toy("jaxnn", "sleeping", seconds=0.001),
            toy("PyTorch", "sleeping", seconds=0.001),
            toy("x", "peerless"),
        )
        return [Case("one", sides, {}), Case("two", sides[:1], {}), Case("none", sides[2:], {})]

    monkeypatch.setattr(measure, "MOST", measure.LEAST)
    monkeypatch.setitem(workloads.WORKLOADS, "lenet", workloads.Workload(cases, 1.0))
    monkeypatch.setattr(bench.machine, "jax_of", lambda python: "9.9")
    also = Path(sys.executable)
    bench.main(bench.Options(only=("lenet",), threads=(1,), minutes=60.0, also=also, run=tmp_path / "run"))
    record = json.loads((tmp_path / "run" / "bench.json").read_text(encoding="utf-8"))
    one, two, none = record["results"]
    assert (one["workload"], one["threads"], one["case"], one["best_peer"]) == ("lenet", 1, "one", "PyTorch")
    assert list(one["sides"]) == ["jaxnn", "jaxnn, JAX 9.9", "PyTorch"]
    assert one["sides"]["jaxnn"]["median"] >= 0.001
    assert one["not_measured"] == {"x": "haiku is not installed"}
    assert two["best_peer"] is None
    assert none["sides"] == {}
    assert record["versions"]["jax"]
    assert (tmp_path / "run" / "bench.png").stat().st_size > 0
    printed = capsys.readouterr().out
    assert "not measured: x: haiku is not installed" in printed
    assert "[1/3, " in printed
    assert "lenet, 1 core: one" in printed


def test_cases_beyond_the_time_are_left_out(tmp_path, monkeypatch, capsys):
    cases = [plan.Step("lenet", 1, Case("late", (), {}), 1.0)]
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        assert list(plan.measured(cases, CORES, -1.0, log)) == []
    assert "left out: the time is up" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": (0,)}, "--threads: expected 1 to"),
        ({"threads": (10_000,)}, "--threads: expected 1 to"),
        ({"minutes": 0.0}, "--minutes: expected a finite positive number, got 0.0"),
        ({"also": Path("no/python")}, "--also: expected a Python, got no/python"),
        ({"also": Path("false")}, "--also: expected a Python with jax, flax and optax, got false"),
    ],
)
def test_errors_name_the_wrong_option(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        bench.main(bench.Options(run=tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("quick", [False, True])
def test_every_workload_names_sides_that_exist(quick, tmp_path):
    steps = plan.steps(list(workloads.WORKLOADS), (2, 1), Settings(tmp_path, quick))
    assert list(dict.fromkeys(step.threads for step in steps)) == [2, 1]
    assert len({(step.workload, step.threads, step.case.title) for step in steps}) == len(steps)
    root = Path(workers.__file__).parent / "sides"
    for step in steps:
        json.dumps(dict(step.case.options))
        assert step.case.sides[0].name.startswith("jaxnn")
        assert len({side.name for side in step.case.sides}) == len(step.case.sides)
        for side in step.case.sides:
            file, function = side.builder.split(":")
            assert f"\ndef {function}(" in (root / f"{file[1:]}.py").read_text(encoding="utf-8")
            assert side.worker in workers.LIBRARIES


def test_the_floor_counts_the_arithmetic_of_the_network():
    spec = network.NETWORKS["cifar10"]
    assert spec.features == 2304
    # 2 * (30*30*27*32 * 2 + (13*13*288*64 + 2304*512 + 5120) * 3): no gradient of the pictures
    assert spec.flops(train=True) == 2 * (777600 * 2 + (3115008 + 1179648 + 5120) * 3)
    assert spec.flops(train=False) == 2 * (777600 + 3115008 + 1179648 + 5120)


def test_without_results_there_is_no_picture(tmp_path):
    picture.draw([], tmp_path / "bench.png")
    assert not list(tmp_path.iterdir())


def test_the_cost_of_a_checkpoint_is_reported(tmp_path, capsys):
    checkpoint.main(checkpoint.Options(examples=2, batch_size=2, rounds=1, folder=tmp_path))
    printed = capsys.readouterr().out
    assert "of which save() blocks" in printed
    assert "more time (median of 1 rounds)" in printed
    assert not list(tmp_path.iterdir())


def test_the_folder_to_measure_must_exist():
    with pytest.raises(ValueError, match="--folder: expected a folder that exists, got nowhere"):
        checkpoint.main(checkpoint.Options(folder=Path("nowhere")))


def test_choices_are_compared_with_every_formulation_and_plain_lax():
    layer = layers.Layer("conv", (2, 5, 5, 8), (3, 3, 8, 4), ((1, 1), (1, 1)))
    for kind in ("conv", "conv_dx", "conv_dw"):
        *times, chosen, best, beside = choices.compare(layer, kind, eigen=True, looped=True, seconds=0.001)
        assert len(times) == len(choices.FORMULATIONS) + 1
        assert chosen in choices.FORMULATIONS
        assert float(best) > 0
        assert float(beside) > 0
