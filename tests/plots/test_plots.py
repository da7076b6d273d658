import builtins
import struct
from pathlib import Path

import numpy as np
import pytest

from jaxnn import plots
from jaxnn.inspect.calibration import Reliability

pytest.importorskip("matplotlib", reason="plots are drawn by matplotlib")

RNG = np.random.default_rng(0)
HISTORY = [
    {
        "epoch": i,
        "train_loss": 2 / i,
        "test_loss": 2.2 / i,
        "train_accuracy": 1 - 0.5 / i,
        "test_accuracy": 1 - 0.6 / i,
    }
    for i in range(1, 11)
]
LABELS = RNG.integers(0, 10, 300)
PREDICTED = np.where(RNG.random(300) < 0.85, LABELS, RNG.integers(0, 10, 300))
NAMES = ["aeroplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

FOUND = RNG.uniform(0, 16, (2, 3, 4)), RNG.random((2, 3)), np.array([[0, 1, 1], [1, 0, -1]])
TRUE = FOUND[0][:, :2], np.array([[0, 0], [1, -1]])
FOUND[0][..., 2:] += FOUND[0][..., :2]


def size(path):
    """Width and height from the PNG's header."""
    data = Path(path).read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", data[16:24])


FORECASTED = plots.Forecasted("a sine", np.arange(24), np.sin(np.arange(20)), {8: np.ones((3, 4)), 20: np.ones((3, 4))})
CALLS = {
    "curves": lambda path: plots.curves(HISTORY, path),
    "curves, loss only": lambda path: plots.curves([{"epoch": 1, "train_loss": 1.0}], path),
    "curves, a lost loss": lambda path: plots.curves([*HISTORY, {"epoch": 11, "train_loss": None}], path),
    "confusion": lambda path: plots.confusion(LABELS, PREDICTED, path),
    "confusion, names": lambda path: plots.confusion(LABELS, PREDICTED, path, NAMES),
    "confusion, 2": lambda path: plots.confusion(LABELS % 2, PREDICTED % 2, path),
    "confusion, 40": lambda path: plots.confusion(np.arange(40), np.arange(40), path),
    "detections": lambda path: plots.detections(
        RNG.integers(0, 255, (2, 16, 24, 1), np.uint8), FOUND, TRUE, path, ["no", "yes"], title="found"
    ),
    "detections, colour": lambda path: plots.detections(
        RNG.random((2, 16, 24, 3)), FOUND, TRUE, path, ["no", "yes"], columns=1
    ),
    "filters, grey": lambda path: plots.filters(RNG.normal(size=(3, 3, 1, 32)), path),
    "filters, colour": lambda path: plots.filters(RNG.normal(size=(5, 5, 3, 6)), path),
    "filters, deep": lambda path: plots.filters(RNG.normal(size=(3, 3, 16, 4)), path),
    "filters, zero": lambda path: plots.filters(np.zeros((3, 3, 1, 1)), path),
    "predictions": lambda path: plots.predictions(
        RNG.integers(0, 255, (32, 8, 8, 1), np.uint8), LABELS[:32], PREDICTED[:32], path
    ),
    "predictions, names": lambda path: plots.predictions(
        RNG.normal(size=(16, 32, 32, 3)), LABELS[:16], PREDICTED[:16], path, NAMES
    ),
    "predictions, one": lambda path: plots.predictions(RNG.random((1, 8, 8, 3)), [1], [0], path, ["no", "yes"]),
    "spread": lambda path: plots.spread({"0.1": [HISTORY, HISTORY], "1": [HISTORY, HISTORY[:2]], "9": [[]]}, path),
    "spread, one loss": lambda path: plots.spread({"0.1": [HISTORY[:1]]}, path, metric="test_loss"),
    "by setting": lambda path: plots.by_setting({0.1: [0.9, 0.8], 1: [np.nan, 0.7], 9: [np.nan]}, path, x="a", y="b"),
    "forecasts": lambda path: plots.forecasts([FORECASTED] * 3, path),
    "transcripts": lambda path: plots.transcripts(
        [plots.Heard(RNG.random((20, 8)), np.eye(3)[[0, 1, 1, 0, 2]], "a b", text) for text in ("a b", "b")],
        path,
        "-ab",
        hop=0.01,
        edges=(0, 4000),
    ),
    "reliability": lambda path: plots.reliability(
        {name: Reliability(np.array([np.nan, 0.8]), np.array([np.nan, 0.7]), np.array([0, 3])) for name in "ab"}, path
    ),
    "highlights": lambda path: plots.highlights(
        [["a", "fine", "film"], ["dull"]],
        [[0, 2, -1], [0]],
        path,
        names=["good", "bad"],
        wrong=[False, True],
        title="t",
    ),
    "highlights, letters": lambda path: plots.highlights(["ab c" * 40], [RNG.random(160)], path, names=["x"]),
    "images": lambda path: plots.images(RNG.normal(size=(5, 9, 12)), path, list("abcde"), title="maps"),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_png_is_written_whole(call):
    CALLS[call]("plot.png")
    width, height = size("plot.png")
    assert width > 200
    assert height > 150
    assert [path.name for path in Path().iterdir()] == ["plot.png"]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    seen, save = [], FigureCanvasAgg.print_png
    monkeypatch.setattr(FigureCanvasAgg, "print_png", lambda self, path: seen.append(self.figure) or save(self, path))
    return seen


def said(figure):
    """The texts of a figure's legends."""
    return [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_epochs_are_whole_numbers(figures, epochs):
    plots.curves(HISTORY[:epochs], "p.png")
    plots.compare({"a": HISTORY[:epochs]}, "p.png", metric="train_loss")
    plots.spread({"a": [HISTORY[:epochs]]}, "p.png")
    for axes in (axes for figure in figures for axes in figure.axes):
        low, high = axes.get_xlim()
        shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert shown == list(range(1, epochs + 1))
        assert axes.get_xlabel() == "epoch"


def test_axes_and_legends_are_in_words(figures):
    plots.curves(HISTORY, "p.png")
    plots.compare({"a": [{"epoch": 1, "train_grad_norm": 2.0}]}, "p.png", metric="train_grad_norm")
    plots.spread({"rate 1": [HISTORY, HISTORY]}, "p.png", metric="test_accuracy")
    CALLS["by setting"]("p.png")
    curves, compare, spread, rates = figures
    assert said(curves)[:2] == ["training, last 0.2", "test, last 0.22"]
    assert compare.axes[0].get_ylabel() == "training gradient norm"
    assert spread.axes[0].get_ylabel() == "test accuracy in %"
    assert "mean ± standard deviation" in spread.axes[0].get_legend().get_title().get_text()
    assert sorted(said(rates)) == ["a run", "mean ± standard deviation", "some diverged"]


def test_several_metrics_of_several_runs_have_a_plot_each_with_training_dashed(figures):
    metrics = ["train_loss", "test_loss", "test_accuracy"]
    lost = [{"epoch": 1, "train_loss": None, "test_loss": 1.0, "test_accuracy": 0.5}]
    plots.compare({"a": HISTORY, "b": lost}, "p.png", metrics)
    loss, accuracy = figures[0].axes
    assert [axes.get_ylabel() for axes in (loss, accuracy)] == ["loss", "test accuracy in %"]
    assert [line.get_linestyle() for line in loss.lines] == ["--", "-", "-"]
    assert said(figures[0])[2:] == ["b, test, last 1", "a, last 94.00 %", "b, last 50.00 %"]
    with pytest.raises(ValueError, match="histories: expected records of 'test_f1', got none in 'a'"):
        plots.compare({"a": HISTORY}, "p.png", ["test_f1"])
    with pytest.raises(ValueError, match="metric: expected at least one name"):
        plots.compare({"a": HISTORY}, "p.png", [])


def test_a_forecast_of_the_future_has_a_name_beside_those_that_are_judged(figures):
    plots.forecasts([FORECASTED._replace(made={8: np.ones((3, 4))}), FORECASTED], "p.png", name="LSTM", interval="80%")
    (legend,) = figures[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "measured",
        "LSTM and its 80% interval, made at the dot",
        "LSTM and its 80% interval, the future",
    ]
    line = figures[0].axes[0].lines[1]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(7, 12))
    np.testing.assert_array_equal(line.get_ydata(), [np.sin(7), 1, 1, 1, 1])


@pytest.mark.parametrize("channels", [1, 3, 16])
def test_filters_have_a_key_for_their_colours(figures, channels):
    kernel = RNG.normal(size=(3, 3, channels, 4))
    plots.filters(kernel, "p.png")
    weights = kernel if channels == 3 else kernel.mean(2)
    *_, bar = figures[0].axes
    assert bar.get_ylabel() == "weight"
    np.testing.assert_allclose(bar.get_ylim(), np.array([-1, 1]) * np.abs(weights).max(), rtol=1e-6)
    assert ("grey is 0" in figures[0].get_suptitle().replace("\n", " ")) == (channels == 3)


def test_a_selection_is_not_taken_for_an_accuracy(figures):
    picture, chosen = RNG.random((2, 8, 8, 1)), "1 right and 1 wrong, chosen from 359 test pictures"
    plots.predictions(picture, [0, 1], [0, 0], "p.png")
    plots.predictions(picture, [0, 1], [0, 0], "p.png", title=chosen, columns=1)
    own, given = (figure.get_suptitle().replace("\n", " ") for figure in figures)
    assert own == "1 right and 1 wrong; wrong ones in red, with the true class"
    assert given == chosen
    first, second = (text.get_position() for text in figures[1].axes[0].texts)
    assert first[0] == second[0]
    assert first[1] < second[1]


def test_of_many_predictions_half_are_wrong_ones(figures):
    truth = np.arange(20) % 2
    plots.predictions(RNG.random((20, 8, 8, 1)), truth, np.zeros(20, int), "p.png", most=5)
    told = figures[0].get_suptitle().replace("\n", " ")
    assert told.startswith("3 right and 2 wrong, chosen from 20 test pictures (accuracy 50.00 %)")
    (axes,) = figures[0].axes
    assert [text.get_text() for text in axes.texts] == ["0, is 1", "0, is 1", "0", "0", "0"]


def test_a_hyperparameter_of_zero_is_on_a_linear_axis(figures):
    plots.by_setting({0.0: [0.9], 0.5: [0.8]}, "p.png", x="dropout", y="accuracy", log=False)
    axes = figures[0].axes[0]
    assert axes.get_xscale() == "linear"
    assert axes.get_xlim()[0] < 0


@pytest.mark.parametrize(("threshold", "told"), [(0.5, ["a  0.90"]), (0.75, ["a missed", "a  0.90"])])
def test_a_box_is_right_from_the_threshold_on(figures, threshold, told):
    box = np.array([[[0, 0, 10, 10]]])
    found = box * [1, 1, 1, 0.6], np.array([[0.9]]), np.array([[0]])  # an intersection over union of 0.6
    plots.detections(np.zeros((1, 16, 16, 1)), found, (box, found[2]), "p.png", ["a"], threshold=threshold)
    assert [text.get_text() for text in figures[0].axes[0].texts] == told


def test_the_blank_may_be_the_last_label(figures):
    plots.transcripts([plots.Heard(np.eye(4), np.eye(3), "ab", "ab")], "p.png", "ab-", hop=1.0, blank=2)
    assert [line.get_linestyle() for line in figures[0].axes[1].lines] == ["-", "-", ":"]


def test_pictures_of_any_size_stand_apart_in_reading_order(figures):
    plots.images([RNG.random(shape) for shape in ((9, 12), (4, 4), (6, 30), (8, 2))], "p.png", list("abcd"), columns=3)
    (axes,) = figures[0].axes
    boxes = [image.get_extent() for image in axes.images]
    assert all(
        abs((right - left) / (bottom - top) - width / height) < 1e-6
        for (left, right, bottom, top), (height, width) in zip(boxes, ((9, 12), (4, 4), (6, 30), (8, 2)), strict=True)
    )
    assert boxes[0][1] < boxes[1][0] < boxes[1][1] < boxes[2][0]
    assert max(bottom for _, _, bottom, _ in boxes[:3]) < boxes[3][3]
    assert boxes[3][1] < boxes[1][0]


def test_no_global_state_of_pyplot_is_touched():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    CALLS["curves"]("plot.png")
    assert pyplot.get_fignums() == before


def test_a_plot_that_fails_leaves_the_old_one():
    Path("plot.png").write_bytes(b"old")
    with pytest.raises(ValueError, match="history: "):
        plots.curves([], "plot.png")
    assert Path("plot.png").read_bytes() == b"old"


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"pip install .*\[experiments\]"):
        CALLS["curves"]("plot.png")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.confusion([0, 1], [0], "p.png"), "predicted: expected integer classes"),
        (lambda: plots.confusion([0.5], [0], "p.png"), "labels: expected integer classes"),
        (lambda: plots.confusion([-1], [0], "p.png"), "labels: expected classes from 0, got -1"),
        (lambda: plots.confusion([0, 2], [0, 2], "p.png", ["a", "b"]), "class_names: expected at least 3"),
        (lambda: plots.filters(np.ones((3, 3)), "p.png"), r"kernel: expected .*got shape \(3, 3\)"),
        (lambda: plots.images(np.ones((2, 4, 4, 2)), "p.png"), "pictures: expected"),
        (lambda: plots.images(np.ones((2, 4, 4)), "p.png", ["one"]), "titles: expected one per picture, 2, got 1"),
        (lambda: plots.images(np.ones((2, 4, 4)), "p.png", columns=0), "columns: "),
        (lambda: plots.spread({"a": [[]]}, "p.png"), "groups: expected at least one history"),
        (lambda: plots.by_setting({0.1: []}, "p.png", x="a", y="b"), "results: expected at least one"),
        (lambda: plots.reliability({}, "p.png"), "groups: expected at least one classifier"),
        (lambda: plots.predictions(np.ones((2, 4, 4, 1)), [0], [0], "p.png"), "images: expected one a label, 1, got 2"),
        (lambda: plots.forecasts([], "p.png"), "series: expected at least one"),
        (
            lambda: plots.forecasts([FORECASTED._replace(made={21: np.ones((3, 2))})], "p.png"),
            "made: expected forecasts that begin at step 1 to 20 and end before step 24, .* got one of 2 steps from 21",
        ),
        (lambda: plots.transcripts([], "p.png", "ab", hop=1.0), "heard: expected at least one recording"),
        (
            lambda: plots.transcripts([plots.Heard(np.eye(3), np.eye(3), "", "")], "p.png", "ab", hop=1.0),
            r"heard: expected .*\(steps, 2\), got \[\(3, 3\)\]",
        ),
        (lambda: plots.attention([np.eye(3)], "p.png", ["abc"], ["xy"]), r"weights: expected .*\[\(2, 3\)\], got"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
