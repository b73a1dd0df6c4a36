"""`python -m training compare`: groups of runs, mean and deviation, and changes of accuracy."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
from scipy.stats import t
from support.pages import Page

from training.__main__ import main
from training.reports.compare import disagreement, format_mean
from training.reports.compared_runs import group_runs, read_run
from vit_keras.utils.statistics import change_of_accuracy


@pytest.fixture
def variation(run_folder, tmp_path):
    """Makes copies of the finished run with another seed, recipe or other predictions."""

    def make(name, correct, seed=0, images="image", **fields):
        run = tmp_path / name
        shutil.copytree(run_folder, run)
        record = json.loads((run / "config.json").read_text())
        record["recipe"] |= {"seed": seed, **fields}
        (run / "config.json").write_text(json.dumps(record))
        evaluation = json.loads((run / "evaluation.json").read_text())
        evaluation |= {"accuracy": sum(correct) / len(correct), "images": len(correct)}
        (run / "evaluation.json").write_text(json.dumps(evaluation))
        with open(run / "predictions.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("image", "true", "predicted", "probability"))
            for number, one in enumerate(correct):
                rows.writerow((f"{images}-{number}", "red", "red" if one else "blue", 0.9))
        return run

    return make


def cells(text, start):
    """Cells of the first row of a Markdown table whose first cell is `start`."""
    (line, *_) = (line for line in text.splitlines() if line.startswith(f"| {start} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_runs_that_differ_only_in_the_seed_form_a_group(variation):
    paths = [
        variation("a0", [1, 1]),
        variation("b0", [1, 1], epochs=9),
        variation("a1", [1, 0], seed=1),
        variation("c0", [1, 1], augment=[]),
    ]

    groups = group_runs([read_run(path) for path in paths])

    assert {name: [run.path for run in runs] for name, runs in groups.items()} == {
        "A": [str(paths[0]), str(paths[2])],
        "B": [str(paths[1])],
        "C": [str(paths[3])],
    }
    assert [run.seed for run in groups["A"]] == [0, 1]
    assert groups["A"][1].correct.tolist() == [True, False]


def test_mean_comes_with_the_sample_standard_deviation():
    assert format_mean([0.8, 0.84], ".1%") == "82.0% ± 2.8%"  # 0.04 / sqrt(2)
    assert format_mean([1.0, 2.0, 6.0], ".2f") == "3.00 ± 2.65"  # sqrt((4 + 1 + 9) / 2)
    assert format_mean([0.8], ".1%") == format_mean([0.8, 0.8], ".1%") == "80.0%"


def test_change_of_accuracy_is_that_of_matched_pairs():
    before = np.array([True] * 6 + [False] * 4)
    after = np.array([True] * 5 + [False] * 2 + [True] * 3)  # 3 gained, 1 lost

    change, low, high = change_of_accuracy([before], [after])

    assert change == pytest.approx(0.2)
    middle, moved = 2 / 12, 5 / 12  # Agresti and Min: two images more, one of them moved
    half = 1.96 * math.sqrt((moved - middle**2) / 12)
    assert (low, high) == pytest.approx((middle - half, middle + half))
    # Two copies of a run are no more evidence about images than one.
    assert change_of_accuracy([before] * 2, [after] * 2) == pytest.approx((change, low, high))
    assert change_of_accuracy([before], [before])[0] == 0


def test_disagreement_is_the_fraction_of_images_with_different_predictions(variation):
    a, b, c = (
        read_run(variation(name, correct))
        for name, correct in (("a", [1, 1, 0, 0]), ("b", [1, 0, 0, 0]), ("c", [0, 0, 0, 0]))
    )

    assert disagreement([(a, b)]) == 0.25
    assert disagreement([(a, b), (a, c)]) == 0.375


def test_command_prints_and_writes_the_comparison(variation, tmp_path, capsys):
    ten = np.arange(10)
    runs = [
        variation("a0", ten < 6),
        variation("a1", ten < 7, seed=1),
        variation("b0", ten < 8, epochs=9),
        variation("b1", ten < 10, seed=1, epochs=9),
    ]

    main(["compare", *map(str, runs), "--out", str(tmp_path / "out")])

    text = capsys.readouterr().out
    assert cells(text, "seeds")[1:] == ["0, 1", "0, 1"]
    assert cells(text, "images")[1:] == ["10 validation", "10 validation"]
    assert cells(text, "accuracy")[1:] == ["65.0% ± 7.1%", "90.0% ± 14.1%"]
    assert cells(text, "lowest to highest")[1:] == ["60.0% to 70.0%", "80.0% to 100.0%"]
    assert cells(text, "epochs")[1:] == ["3", "9"]
    assert cells(text, "runs")[1] == f"{runs[0]}, {runs[1]}"
    assert "| seed " not in text
    assert "| learning_rate" not in text
    change = cells(text, "B against A")
    assert change[1] == "+25.0"
    # Welch: variances 0.005 and 0.02 of two runs each.
    freedom = (0.0025 + 0.01) ** 2 / (0.0025**2 + 0.01**2)
    half = 100 * math.sqrt(0.0025 + 0.01) * t.ppf(0.975, freedom)
    assert change[3] == f"{25 - half:+.1f} to {25 + half:+.1f}"
    assert change[4:] == ["25.0%", "15.0%"]  # (2 + 4 + 1 + 3) / 40, (1 + 2) / 20
    page = Page(tmp_path / "out" / "compare.html")
    assert len(page.addresses) == 1
    assert page.addresses[0].startswith("data:image/png")
    assert "65.0% ± 7.1%" in page.texts
    assert (tmp_path / "out" / "compare.png").exists()


def test_accuracies_on_different_images_are_not_compared(variation, capsys):
    runs = variation("a", [1, 0]), variation("b", [1, 1], images="other", epochs=9)

    main(["compare", *map(str, runs)])

    text = capsys.readouterr().out
    assert "Evaluated on other images than A: B." in text
    assert "B against A" not in text


def test_folder_without_a_finished_run_is_a_one_line_error(run_folder, tmp_path):
    with pytest.raises(SystemExit, match="nowhere is not a run folder: it has no config.json"):
        main(["compare", str(run_folder), str(tmp_path / "nowhere")])
    shutil.copytree(run_folder, tmp_path / "half")
    (tmp_path / "half" / "report.md").unlink()
    with pytest.raises(SystemExit, match="is not finished; resume it with: python -m training fit"):
        main(["compare", str(run_folder), str(tmp_path / "half")])
