"""A run ends in a folder with all that was promised; mistakes end before training."""

import csv
import dataclasses
import io
import itertools
import json
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.shared import shared_folder
from support.tiny import TINY, photograph
from support.trainers import class_trainer

import vit_keras
from training.__main__ import main
from training.augment.images import fold_in
from training.callbacks import BestModel
from training.data.datasets import find_splits
from training.data.examples import split_off
from training.data.pipeline import evaluation_batches
from training.fit import fit
from training.model.optimizer import AdamW
from training.reports.figures import confusion, mistakes
from training.reports.metrics import evaluate
from training.tasks.classification import predict_probabilities
from vit_keras import InputError, load_model


def test_run_folder_holds_model_record_history_and_report(run_folder, recipe):
    names = {path.name for path in run_folder.iterdir()}
    assert names == {
        "model.keras",
        "config.json",
        "history.csv",
        "throughput.csv",
        "evaluation.json",
        "tensorboard",
        "samples",
        "predictions.csv",
        "report.md",
        "report.html",
        "curves.png",
        "confusion.png",
        "mistakes.png",
        "attention.png",
        "calibration.png",
    }

    record = json.loads((run_folder / "config.json").read_text())
    assert record["recipe"] == json.loads(json.dumps(recipe.as_dict()))
    assert record["seed"] == 0
    assert record["versions"]["keras"] == keras.__version__
    history = list(csv.DictReader((run_folder / "history.csv").open()))
    assert [row["epoch"] for row in history] == ["0", "1", "2"]
    assert float(history[2]["loss"]) < float(history[0]["loss"])


def test_model_of_a_run_knows_its_classes_and_carries_no_optimizer(run_folder):
    model = load_model(run_folder / "model.keras")

    assert model.class_names == ("blue", "red")
    assert vit_keras.get_config(model).image_size == (16, 24)
    assert not model.compiled


def test_evaluation_is_of_the_saved_model_on_the_images_held_out(run_folder):
    found = json.loads((run_folder / "evaluation.json").read_text())

    assert found["split"] == "validation"
    assert found["images"] == 6
    assert found["accuracy"] > 0.8  # red against blue
    history = list(csv.DictReader((run_folder / "history.csv").open()))
    best = max(float(row["val_accuracy"]) for row in history)
    assert found["accuracy"] == pytest.approx(best)


@pytest.mark.slow
def test_reports_are_of_the_files_as_they_are_however_large(recipe, tmp_path):
    # Far above the size at which training images are kept in memory.
    for colour, rgb in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        (tmp_path / "data" / colour).mkdir(parents=True)
        for index in range(4):
            image = photograph(index, rgb, size=(331, 217))
            image.save(tmp_path / "data" / colour / f"{index}.png")
    data = recipe.replace(dataset=str(tmp_path / "data"), epochs=1)
    fit(data, tmp_path / "run")

    model = load_model(tmp_path / "run" / "model.keras")
    _, validation = split_off(find_splits(data.data.dataset, 3)["train"](), 0.25, 0)
    trainer = class_trainer(model, data, 1, 1)
    loss, _ = trainer.evaluate(evaluation_batches(validation, model.preprocessing, 2), verbose=0)
    (row,) = csv.DictReader((tmp_path / "run" / "history.csv").open())
    assert loss == pytest.approx(float(row["val_loss"]), rel=1e-5)
    samples = list((tmp_path / "run" / "samples").iterdir())
    assert [min(Image.open(sample).size) for sample in samples] == [48, 48]


def test_samples_take_turns_between_the_classes(run_folder):
    files = sorted((run_folder / "samples").iterdir())

    assert [file.name for file in files[:3]] == ["00-blue.png", "01-red.png", "02-blue.png"]
    assert len(files) == 6
    hues = [np.asarray(Image.open(file)).mean(axis=(0, 1)).argmax() for file in files]
    assert hues == [2, 0, 2, 0, 2, 0]  # blue, red, ...


@pytest.mark.slow
def test_same_recipe_gives_the_same_model(run_folder, recipe, tmp_path):
    fit(recipe, tmp_path / "again")

    first = load_model(run_folder / "model.keras").get_weights()
    again = load_model(tmp_path / "again" / "model.keras").get_weights()
    assert all((a == b).all() for a, b in zip(first, again, strict=True))


def test_the_model_says_which_weights_it_has(run_folder, recipe):
    model = load_model(run_folder / "model.keras")
    evaluation = json.loads((run_folder / "evaluation.json").read_text())

    start = f"weights of vit_b16 trained on {recipe.data.dataset}, after epoch "
    assert re.fullmatch(re.escape(start) + "[123]", model.description)
    assert evaluation["model"] == model.description
    assert f"| {model.description}; chosen on" in (run_folder / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"ema_momentum": 0.5}, {"mixed_precision": "mixed_bfloat16"}, {"balance": "weights"}],
)
def test_saved_model_is_the_one_validated(recipe, tmp_path, options):
    run = tmp_path / "run"
    changed = recipe.replace(epochs=2, validate_every=2, **options)
    fit(changed, run)

    first, last = csv.DictReader((run / "history.csv").open())
    assert first["val_loss"] in ("", "NA")
    model = load_model(run / "model.keras")
    train = find_splits(recipe.data.dataset, 3)["train"]()
    _, validation = split_off(train, recipe.data.validation_fraction, recipe.execution.seed)
    batches = evaluation_batches(validation, model.preprocessing, 6)
    trainer = class_trainer(model, changed, 1, 1)
    loss, accuracy = trainer.evaluate(batches, verbose=0)
    assert loss == pytest.approx(float(last["val_loss"]), rel=1e-4)
    assert accuracy == pytest.approx(float(last["val_accuracy"]))
    assert model.description.startswith("moving average (momentum 0.5)") == (
        "ema_momentum" in options
    )
    assert keras.config.dtype_policy().name == "float32"


def test_float16_scales_its_loss(recipe):
    model = vit_keras.build_vit("vit_b16", image_size=(16, 24), num_classes=2, **TINY)
    half = recipe.replace(mixed_precision="mixed_float16")

    assert isinstance(
        class_trainer(model, half, 4, 3).optimizer, keras.optimizers.LossScaleOptimizer
    )
    assert isinstance(class_trainer(model, recipe, 4, 3).optimizer, AdamW)


def test_best_model_replaces_the_last_whole_and_ties_go_to_the_later(tmp_path):
    model = vit_keras.build_vit("vit_b16", image_size=(16, 24), num_classes=2, **TINY)
    save = BestModel(model, tmp_path / "model.keras")
    written = []
    for epoch, accuracy in enumerate([0.2, 0.5, 0.4, None, 0.5]):
        logs = {} if accuracy is None else {"val_accuracy": accuracy, "val_loss": 1.0}
        save.on_epoch_end(epoch, logs)
        written.append((tmp_path / "model.keras").stat().st_ino)

    save.on_epoch_end(5, {"val_accuracy": 0.9, "val_loss": float("nan")})
    assert save.epoch == 5
    assert [a == b for a, b in itertools.pairwise(written)] == [
        False,
        True,
        True,
        False,
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


@pytest.fixture(scope="module")
def odd_run(recipe, photographs, tmp_path_factory):
    """A folder of images with special characters in class names, one unreadable; a run on it"""

    def build(folder):
        for colour in ("red", "blue"):
            shutil.copytree(photographs / colour, folder / "data" / f"{colour} $x_$ | y")
        (folder / "data" / "red $x_$ | y" / "00.jpg").write_bytes(b"\xff\xd8 not really")
        fit(recipe.replace(dataset=str(folder / "data"), epochs=1), folder / "run")

    folder = shared_folder(tmp_path_factory, "odd_run", build)
    return folder / "data", folder / "run"


@pytest.mark.slow
def test_few_unreadable_images_are_listed_and_many_stop_the_run(recipe, odd_run, tmp_path):
    data, run = odd_run
    (line,) = (run / "unreadable.txt").read_text().splitlines()
    assert line.startswith(str(data / "red $x_$ | y" / "00.jpg") + "\t")

    shutil.copytree(data, tmp_path / "data")
    for name in ("01.png", "02.bmp"):
        (tmp_path / "data" / "red $x_$ | y" / name).write_bytes(b"")
    wrong = recipe.replace(dataset=str(tmp_path / "data"), epochs=1)
    with pytest.raises(InputError, match="3 of 24 images cannot be read .* max_unreadable=0.05"):
        fit(wrong, tmp_path / "three")
    assert len((tmp_path / "three" / "unreadable.txt").read_text().splitlines()) == 3
    assert not (tmp_path / "three" / "model.keras").exists()
    # What it left behind does not stand in the way of the next try.
    with pytest.raises(InputError, match="3 of 24 images cannot be read"):
        fit(wrong, tmp_path / "three")


def test_validation_images_that_are_all_broken_are_refused(recipe, photographs, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(photographs, tmp_path / split)
    for path in (tmp_path / "val").rglob("*.*"):
        path.write_bytes(b"")

    with pytest.raises(InputError, match="none of 24 images can be read"):
        fit(recipe.replace(dataset=str(tmp_path)), tmp_path / "run")


def test_a_recipe_without_data_asks_for_it(recipe, tmp_path):
    with pytest.raises(InputError, match="name one with --data FOLDER"):
        fit(recipe.replace(dataset=""), tmp_path / "run")


@pytest.mark.slow
def test_class_names_may_hold_any_characters(odd_run):
    _, run = odd_run

    assert r"| red \$x\_\$ \| y " in (run / "report.md").read_text()
    assert ">red $x_$ | y</td>" in (run / "report.html").read_text()


def test_classes_that_cannot_be_learned_are_refused(recipe, photographs, tmp_path):
    wrong = recipe.replace(dataset=str(tmp_path))
    shutil.copytree(photographs / "red", tmp_path / "red")
    with pytest.raises(InputError, match="only the class 'red'; training needs"):
        fit(wrong, tmp_path / "run")
    (tmp_path / "green").mkdir()
    with pytest.raises(InputError, match="class 'green' has no readable training images"):
        fit(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_run_folders_in_use_are_refused(recipe, run_folder, tmp_path):
    with pytest.raises(InputError, match="holds a finished run; choose another"):
        fit(recipe, run_folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        fit(recipe, tmp_path / "file")
    killed = tmp_path / "killed"
    shutil.copytree(run_folder, killed)
    (killed / "report.md").unlink()
    with pytest.raises(
        InputError, match=f"an unfinished run; resume it with --resume {killed}, or choose"
    ):
        fit(recipe, killed)


@pytest.mark.slow
@pytest.mark.parametrize(("good_epoch", "accumulation"), [(False, 1), (True, 1), (True, 2)])
def test_a_diverging_run_says_where(recipe, tmp_path, good_epoch, accumulation):
    step, epoch = (7, 2) if good_epoch else (3, 1)  # counted from 1, 4 steps an epoch

    def spoil(images, labels, seed):
        due = tf.reduce_all(seed == fold_in((0, step - 1), 100))
        return images + tf.where(due, np.nan, 0.0), labels

    wild = recipe.replace(augment=(spoil,), epochs=2, gradient_accumulation_steps=accumulation)
    run = tmp_path / "run"

    with pytest.raises(InputError) as stopped:
        fit(wild, run)

    kept = f"the last good model is {run / 'model.keras'}" if good_epoch else "no model yet"
    message = str(stopped.value)
    # Up from 0 in the 4 steps of the first epoch, then down a cosine to the 8th.
    rate = 0.0015 if step == 3 else 0.003 * (0.5 + 0.5 * np.cos(np.pi * (6 - 4) / 4))
    assert f"finite at step {step} of epoch {epoch} (learning rate {rate:.3g})" in message
    assert f"); {kept}. Try a lower learning_rate than 0.003" in message


@pytest.mark.slow
def test_a_rate_that_is_too_high_says_so(recipe, tmp_path):
    wild = recipe.replace(learning_rate=1e30, global_clipnorm=0.0, warmup_epochs=0)

    with pytest.raises(
        InputError,
        match=r"finite at step \d+ of epoch 1 \(learning rate .*\); no model yet. Try a lower",
    ):
        fit(wild, tmp_path / "run")


def test_metrics_by_hand(photographs):
    examples = find_splits(str(photographs), 3)["train"]().subset(np.array([0, 1, 12, 13]))
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])

    found = evaluate(probabilities, examples)

    assert found["accuracy"] == 0.75
    # Wilson's, z = 1.96: (0.75 + z^2 / 8 -+ z sqrt(0.1875 / 4 + z^2 / 64)) / (1 + z^2 / 4)
    assert found["interval"] == pytest.approx([0.3006, 0.9544], abs=1e-4)
    # In bins of their own: 0.9 and right, 0.8 and wrong, 0.6 and right, 0.7 and right.
    assert found["ece"] == pytest.approx((0.1 + 0.8 + 0.4 + 0.3) / 4)
    assert "top5_accuracy" not in found
    assert found["per_class"]["blue"]["precision"] == 1.0
    assert found["per_class"]["blue"]["recall"] == 0.5
    assert found["per_class"]["red"]["precision"] == pytest.approx(2 / 3)
    assert found["per_class"]["red"]["f1"] == pytest.approx(0.8)


def test_pictures_take_class_names_literally(photographs):
    examples = find_splits(str(photographs), 3)["train"]()
    examples = dataclasses.replace(examples, class_names=("a $x_$ b", "c"))
    wrong = np.eye(2)[1 - examples.labels]

    for draw in (mistakes, confusion):
        picture = io.BytesIO()
        draw(wrong, examples).savefig(picture)  # mathematics would be parsed here, and fail
        assert Image.open(picture).size[0] > 300


def test_evaluate_command_prints_and_writes(run_folder, photographs, capsys, tmp_path):
    out = tmp_path / "evaluation.json"

    main(
        ["evaluate", str(run_folder / "model.keras"), "--data", str(photographs), "--out", str(out)]
    )

    printed = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert f"Accuracy {found['accuracy']:.1%} on 24 images, 95 % interval " in printed
    assert "| blue" in printed
    examples = find_splits(str(photographs), 3)["train"]()
    model = load_model(run_folder / "model.keras")
    again = predict_probabilities(model, examples).argmax(1) == examples.labels
    assert found["accuracy"] == again.mean()


def test_mirror_images_are_averaged_where_that_is_asked_for(run_folder, photographs):
    model = load_model(run_folder / "model.keras")
    examples = find_splits(str(photographs), 3)["train"]().subset(np.arange(3))
    mirrored = dataclasses.replace(
        examples, read=lambda index: tf.reverse(examples.read(index), axis=[1])
    )

    averaged = predict_probabilities(model, examples, flip=True)

    both = [predict_probabilities(model, images) for images in (examples, mirrored)]
    np.testing.assert_allclose(averaged, np.mean(both, axis=0), atol=1e-5)
    assert np.abs(averaged - both[0]).max() > 1e-5


def test_evaluate_refuses_classes_the_model_does_not_know(run_folder):
    with pytest.raises(SystemExit, match="Error: the model has no class 'T-shirt/top'"):
        main(["evaluate", str(run_folder / "model.keras"), "--data", "fashion_mini"])


def test_predict_command_takes_files_folders_and_globs_and_carries_on(
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
    right = sum(line.split(": ")[1].split()[0] in line.split(": ")[0] for line in lines)
    assert right >= 14
    assert all(line.endswith("%") for line in lines)


def test_predict_refuses_what_is_no_model(tmp_path):
    with pytest.raises(SystemExit, match="Error: nothing.keras does not exist"):
        main(["predict", "nothing.keras", str(tmp_path)])


def test_help_needs_no_tensorflow():
    for module in ("training", "export"):
        code = f"""
import sys, {module}.__main__ as command
try:
    command.main(["--help"])
except SystemExit:
    assert not {{"tensorflow", "keras", "numpy"}} & set(sys.modules)
"""
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.slow
def test_no_write_permission_is_one_line(tmp_path, obey_permissions):
    (tmp_path / "locked").mkdir(mode=0o555)
    out = str(tmp_path / "locked" / "run")
    command = [sys.executable, "-m", "training", "fit", "fashion_mini", "--out", out]
    result = subprocess.run(command, capture_output=True, text=True, preexec_fn=obey_permissions)

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("Error: [Errno 13] Permission denied")
    assert "Traceback" not in result.stderr
