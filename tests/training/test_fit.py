"""A run fills a folder with its model, history, evaluation and report."""

import csv
import itertools
import json
import re
import shutil

import keras
import numpy as np
import pytest
from PIL import Image
from support.shared import shared_folder
from support.tiny import TINY, photograph
from support.trainers import class_trainer

import vit_keras
from training.callbacks import BestModel
from training.data.datasets import find_splits
from training.data.examples import split_off
from training.data.pipeline import evaluation_batches
from training.fit import fit
from training.model.optimizer import AdamW
from vit_keras import InputError, load_model


def test_run_folder_has_model_config_history_and_report(run_folder, recipe):
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


def test_saved_model_has_class_names_and_no_optimizer(run_folder):
    model = load_model(run_folder / "model.keras")

    assert model.class_names == ("blue", "red")
    assert vit_keras.get_config(model).image_size == (16, 24)
    assert not model.compiled


def test_evaluation_is_that_of_the_saved_model_on_validation_images(run_folder):
    evaluation = json.loads((run_folder / "evaluation.json").read_text())

    assert evaluation["split"] == "validation"
    assert evaluation["images"] == 6
    assert evaluation["accuracy"] > 0.8  # red against blue
    history = list(csv.DictReader((run_folder / "history.csv").open()))
    best = max(float(row["val_accuracy"]) for row in history)
    assert evaluation["accuracy"] == pytest.approx(best)


@pytest.mark.slow
def test_validation_reads_large_images_at_full_size(recipe, tmp_path):
    # Training images of this size are shrunk before they are kept in memory.
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


def test_samples_alternate_between_classes(run_folder):
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


def test_model_description_names_weights_dataset_and_epoch(run_folder, recipe):
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
def test_saved_model_has_the_validated_weights(recipe, tmp_path, options):
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


def test_float16_training_scales_the_loss(recipe):
    model = vit_keras.build_vit("vit_b16", image_size=(16, 24), num_classes=2, **TINY)
    half = recipe.replace(mixed_precision="mixed_float16")

    assert isinstance(
        class_trainer(model, half, 4, 3).optimizer, keras.optimizers.LossScaleOptimizer
    )
    assert isinstance(class_trainer(model, recipe, 4, 3).optimizer, AdamW)


def test_best_model_is_replaced_by_an_equal_or_better_one(tmp_path):
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
    """Images with special characters in class names, one of them unreadable, and a run on them."""

    def build(folder):
        for colour in ("red", "blue"):
            shutil.copytree(photographs / colour, folder / "data" / f"{colour} $x_$ | y")
        (folder / "data" / "red $x_$ | y" / "00.jpg").write_bytes(b"\xff\xd8 not really")
        fit(recipe.replace(dataset=str(folder / "data"), epochs=1), folder / "run")

    folder = shared_folder(tmp_path_factory, "odd_run", build)
    return folder / "data", folder / "run"


@pytest.mark.slow
def test_few_unreadable_images_are_listed_and_many_are_an_error(recipe, odd_run, tmp_path):
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
    # A run that stopped before training does not block its folder.
    with pytest.raises(InputError, match="3 of 24 images cannot be read"):
        fit(wrong, tmp_path / "three")


@pytest.mark.slow
def test_report_escapes_class_names(odd_run):
    _, run = odd_run

    assert r"| red \$x\_\$ \| y " in (run / "report.md").read_text()
    assert ">red $x_$ | y</td>" in (run / "report.html").read_text()
