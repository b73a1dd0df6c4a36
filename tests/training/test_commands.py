"""The commands `evaluate` and `predict`, and --help."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from training.__main__ import main
from training.data.datasets import find_splits
from training.tasks.classification import predict_probabilities
from vit_keras import load_model


def test_evaluate_prints_and_writes_the_evaluation(run_folder, photographs, capsys, tmp_path):
    out = tmp_path / "evaluation.json"

    main(
        ["evaluate", str(run_folder / "model.keras"), "--data", str(photographs), "--out", str(out)]
    )

    printed = capsys.readouterr().out
    evaluation = json.loads(out.read_text())
    assert f"Accuracy {evaluation['accuracy']:.1%} on 24 images, 95 % interval " in printed
    assert "| blue" in printed
    examples = find_splits(str(photographs), 3)["train"]()
    model = load_model(run_folder / "model.keras")
    correct = predict_probabilities(model, examples).argmax(1) == examples.labels
    assert evaluation["accuracy"] == correct.mean()


@pytest.mark.parametrize(("name", "noted"), [("photographs", True), ("photographs2", False)])
def test_evaluate_notes_that_images_were_trained_on(
    run_folder, photographs, tmp_path, capsys, name, noted
):
    shutil.copytree(photographs, tmp_path / "photographs2")
    data = {"photographs": f"{photographs}/", "photographs2": str(tmp_path / "photographs2")}[name]

    out = tmp_path / "evaluation.json"
    main(["evaluate", str(run_folder / "model.keras"), "--data", data, "--out", str(out)])

    note = "Note: these are the images the model was trained on."
    assert (note in capsys.readouterr().err) == noted


def test_flip_averages_each_image_with_its_mirror_image(run_folder, photographs):
    model = load_model(run_folder / "model.keras")
    examples = find_splits(str(photographs), 3)["train"]().subset(np.arange(3))
    mirrored = dataclasses.replace(
        examples, read=lambda index: tf.reverse(examples.read(index), axis=[1])
    )

    averaged = predict_probabilities(model, examples, flip=True)

    both = [predict_probabilities(model, images) for images in (examples, mirrored)]
    np.testing.assert_allclose(averaged, np.mean(both, axis=0), atol=1e-5)
    assert np.abs(averaged - both[0]).max() > 1e-5


def test_evaluate_with_classes_that_the_model_does_not_have_is_an_error(run_folder):
    with pytest.raises(SystemExit, match="Error: the model has no class 'T-shirt/top'"):
        main(["evaluate", str(run_folder / "model.keras"), "--data", "fashion_mini"])


def test_predict_takes_files_folders_and_globs_and_continues_after_errors(
    run_folder, photographs, capsys, tmp_path
):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"")
    model = str(run_folder / "model.keras")
    missing = tmp_path / "missing.jpg"
    images = [
        str(broken),
        str(missing),
        str(photographs / "red" / "*.jpg"),
        str(photographs / "blue"),
    ]

    with pytest.raises(SystemExit) as stopped:
        main(["predict", model, *images, "--top", "1"])

    assert stopped.value.code == 1
    printed = capsys.readouterr()
    errors = printed.err.strip().splitlines()
    assert errors[0] == f"Error: {broken}: Input is empty."
    assert errors[1].startswith(f"Error: no image at {missing}")
    assert len(errors) == 2
    lines = printed.out.splitlines()
    assert len(lines) == 4 + 12
    correct = sum(line.split(": ")[1].split()[0] in line.split(": ")[0] for line in lines)
    assert correct >= 14
    assert all(line.endswith("%") for line in lines)


def test_predict_without_a_model_file_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="Error: nothing.keras does not exist"):
        main(["predict", "nothing.keras", str(tmp_path)])


def test_help_does_not_import_tensorflow():
    for module in ("training", "export"):
        code = f"""
import sys, {module}.__main__ as command
try:
    command.main(["--help"])
except SystemExit:
    assert not {{"tensorflow", "keras", "numpy"}} & set(sys.modules)
"""
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
