"""Dates: how they are written, which are kept out of training; the experiment learns and leaves its picture."""

import datetime
import json

import numpy as np
import pytest

from experiments import seq2seq
from experiments.data import dates

FRIDAY = datetime.date(2021, 3, 5)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (dates.Form(dates.IN_WORDS[0], "5th", "Mar", "'21", "Friday, "), "Friday, 5th Mar '21"),
        (dates.Form(dates.IN_WORDS[4], "05", "MAR", "2021", ""), "the 05 of MAR 2021"),
        (dates.Form(dates.IN_DIGITS[0], "5", "03", "2021", "Fri "), "Fri 5.03.2021"),
        (dates.Form(dates.IN_DIGITS[1], "05", "3", "'21", ""), "3/05/'21"),
        (dates.Form(dates.IN_DIGITS[2], "05", "03", "2021", ""), "2021-03-05"),
    ],
)
def test_a_form_writes_a_date(form, text):
    assert form.write(FRIDAY) == text


def test_ordinals():
    form = dates.Form("{day}", "5th", "3", "2021", "")
    ends = {
        1: "1st",
        2: "2nd",
        3: "3rd",
        4: "4th",
        11: "11th",
        12: "12th",
        13: "13th",
        21: "21st",
        22: "22nd",
        23: "23rd",
    }
    assert {d: form.write(FRIDAY.replace(day=d)) for d in ends} == ends


def test_no_text_has_two_readings():
    trained, unseen = dates.forms()
    rng = np.random.default_rng(0)
    read = {}
    for number in rng.integers(0, 36_525, 300):
        day = dates.FIRST + datetime.timedelta(int(number))
        for form in (*trained, *unseen):
            assert read.setdefault(form.write(day), day) == day


def test_unseen_forms_are_made_of_parts_that_are_trained_on():
    trained, unseen = dates.forms()
    assert unseen
    assert not set(trained) & set(unseen)
    for part in range(5):
        assert {form[part] for form in unseen} <= {form[part] for form in trained}


def test_held_out_dates_are_never_trained_on():
    trained, _ = dates.forms()
    train, _ = dates.generate(3000, trained, 0, test=False)
    test, _ = dates.generate(300, trained, 0, test=True)
    of_training, of_test = ({dates.decode(w[1:]) for w in part.written} for part in (train, test))
    assert not of_training & of_test
    assert all(dates.held_out(datetime.date.fromisoformat(day)) for day in of_test)


def test_tokens_are_the_text_and_the_iso_form():
    trained, _ = dates.forms()
    batch, texts = dates.generate(50, trained, 0, test=False)
    for read, length, text in zip(batch.read, batch.lengths, texts, strict=True):
        assert "".join(dates.READ[token - 3] for token in read[:length]) == text
        assert not read[length:].any()
    assert (batch.written[:, 0] == dates.START).all()
    assert (batch.written[:, -1] == dates.END).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [("5 März", "--read: .* got 'z', 'ä' in"), ("", "--read: expected 1 to"), ("1" * 99, "got 99 in")],
)
def test_a_date_that_cannot_be_read_is_named(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        seq2seq.main(seq2seq.Options(read=(text,), run=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_experiment_learns_and_leaves_its_picture(tmp_path, capsys):
    run = tmp_path / "run"
    seq2seq.main(
        seq2seq.Options(examples=512, tests=64, epochs=4, hidden=16, embed=8, beams=2, read=("5 Mar 2021",), run=run)
    )
    result = json.loads((run / "result.json").read_text())
    assert sum("greedy" in name or "beam" in name for name in result) == 4
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["train_loss"] < 0.95 * records[0]["train_loss"]
    # What teacher forcing calls right is what greedy search writes.
    assert result["greedy, forms that were trained on"] == pytest.approx(records[-1]["test_accuracy"])
    assert (run / "attention.png").stat().st_size > 0
    assert list(run.glob("checkpoints/[0-9]*"))
    assert "5 Mar 2021 -> " in capsys.readouterr().out
