"""A report is one file that loads nothing else; it describes the run and escapes names."""

import base64
import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from support.pages import Page
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from training.reports.figures import image_grid
from training.reports.html import write_page
from training.reports.markdown import escape, markdown_table
from training.reports.metrics import format_classes, reliability
from training.runs.folder import RunFolder, read_columns


def test_html_report_contains_its_pictures_and_loads_nothing(run_folder):
    page = Page(run_folder / "report.html")

    start = "data:image/png;base64,"
    assert all(address.startswith(start) for address in page.addresses)
    sizes = [
        Image.open(io.BytesIO(base64.b64decode(address[len(start) :]))).size
        for address in page.addresses
    ]
    assert len(sizes) == 5
    assert min(min(size) for size in sizes) > 200
    text = (run_folder / "report.html").read_text()
    assert "content=\"default-src 'none'; img-src data:" in text
    assert not {"script", "link", "iframe", "a"} & page.tags
    assert "url(" not in text


def test_both_reports_describe_the_run(run_folder, recipe):
    evaluation = json.loads((run_folder / "evaluation.json").read_text())
    texts = " ".join(Page(run_folder / "report.html").texts)

    headings = (
        "Training",
        "Confusion matrix",
        "The most confident mistakes",
        "Calibration",
        "Classes",
        "Environment",
        "Recipe",
    )
    for heading in headings:
        assert f"\n## {heading}\n" in (run_folder / "report.md").read_text()
        assert heading in texts
    for fact in (
        f"{evaluation['accuracy']:.1%}",
        "of 6 validation images, which also chose the model",
        "18 train, 6 validation",
        f"{evaluation['parameters']:,} parameters",
        "3 epochs in ",
        f"{evaluation['epoch_seconds']:.1f} s each with validation (median)",
        f"expected calibration error is {evaluation['ece']:.1%}",
        recipe.data.dataset,
    ):
        assert fact in texts
    assert evaluation["seconds"] > evaluation["training_seconds"] > 0


def test_predictions_agree_with_the_evaluation(run_folder):
    evaluation = json.loads((run_folder / "evaluation.json").read_text())
    with open(run_folder / "predictions.csv") as file:
        rows = list(csv.DictReader(file))

    correct = [row["true"] == row["predicted"] for row in rows]
    assert np.mean(correct) == pytest.approx(evaluation["accuracy"])
    assert all(f"/{row['true']}/" in row["image"] for row in rows)
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)  # there are two classes


def test_throughput_and_tensorboard_hold_the_learning_rate(run_folder):
    throughput = read_columns(run_folder / "throughput.csv")
    # 4 steps of 4 images: warm-up to 0.003 in the first epoch, then half a cosine down to 0.
    epochs, rates = throughput["learning_rate"]
    assert epochs == [1, 2, 3]
    assert rates == pytest.approx([0.003, 0.0015, 0])
    assert throughput["images"][1] == [16, 16, 16]

    logged = EventAccumulator(str(run_folder / "tensorboard" / "train"))
    logged.Reload()
    events = logged.Tensors("epoch_learning_rate")
    assert [float(make_ndarray(event.tensor_proto)) for event in events] == pytest.approx(rates)
    assert {"epoch_loss", "epoch_accuracy"} <= set(logged.Tags()["tensors"])


def test_duration_is_the_sum_of_epochs_and_their_medians(tmp_path):
    (tmp_path / "throughput.csv").write_text(
        "epoch,learning_rate,images,seconds,validation_seconds\n"
        "0,0.1,100,10,2\n1,0.1,100,2,1\n2,0,100,4,1\n"
    )

    assert RunFolder(tmp_path).duration() == {
        "epochs": 3,
        "training_seconds": 20.0,
        "epoch_seconds": 5.0,
        "images_a_second": 25.0,
    }
    assert RunFolder(tmp_path / "none").duration() == {}


def test_reliability_counts_images_and_accuracy_in_bins_of_confidence():
    confidence = np.array([0.95, 0.95, 0.6, 0.61])  # 0.6 = 9 / 15 is in the bin below it
    probabilities = np.stack([confidence, 1 - confidence], axis=1)

    images, accuracy, mean = reliability(probabilities, np.array([0, 1, 0, 1]))

    assert images.tolist() == [0] * 8 + [1, 1] + [0] * 4 + [2]
    assert accuracy[[8, 9, 14]].tolist() == [1, 0, 0.5]
    assert mean[[8, 9, 14]] == pytest.approx([0.6, 0.61, 0.95])
    ece = images @ np.abs(accuracy - mean) / 4
    assert ece == pytest.approx((0.4 + 0.61 + 2 * 0.45) / 4)


@pytest.mark.parametrize(
    "name",
    [
        "<b>x|y</b>",
        "<script>alert(1)</script>",
        "a_b _c_ __d__",
        "*x* `y` ~~z~~",
        r"\|\<",
        "007",
        "[x](http://y.z)",
        "![x](http://y.z/p.png)",
        "&lt;&amp;",
        "C #",
        "$x_1$",
        "<http://y.z>",
    ],
)
def test_names_are_shown_as_they_are(name, tmp_path):
    scores = {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "images": 4}
    text = f"{escape(name)}\n\n{format_classes({'per_class': {name: scores}})}"

    write_page(tmp_path / "page", name, text)

    page = Page(tmp_path / "page.html")
    assert page.texts.count(name) == 4  # title, heading, paragraph, cell
    assert page.addresses == []
    assert not {"b", "script", "em", "strong", "code", "del", "a", "img"} & page.tags
    cells = page.texts[len(page.texts) - page.texts[::-1].index(name) :]
    assert [cell for cell in cells if cell.strip()] == ["0.500", "0.250", "0.333", "4"]
    assert (tmp_path / "page.md").read_text().startswith(f"# {escape(name)}\n")


def test_markdown_table_writes_cells_as_they_are():
    table = markdown_table([("007", 1.0), ("b", "1e3")], ("name", "value"))

    assert table.splitlines()[2:] == ["| 007    | 1.0     |", "| b      | 1e3     |"]


def test_image_grid_draws_row_by_row():
    images = [np.full((2, 3), number / 5) for number in range(5)]

    figure = image_grid(images, 3, (1, 1), titles=["a", "b"], margin=(0.5, 0))

    assert figure.get_size_inches().tolist() == [3.5, 2]
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 1, 1, 0]
    assert np.asarray(figure.axes[3].images[0].get_array()).max() == 0.6
    assert [axes.get_title() for axes in figure.axes[:3]] == ["a", "b", ""]
    assert not any(axes.axison for axes in figure.axes)
