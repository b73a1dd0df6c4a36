"""Masked pre-training by a recipe: batches, sheets, runs without labels, and what follows them."""

import contextlib
import csv
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.masked import DECODER, HIDDEN, IMAGES, masked_model
from support.shared import shared_folder

import vit_keras
from training.__main__ import main
from training.data.datasets import find_splits
from training.data.examples import Examples
from training.data.masking import masked_batches
from training.data.pipeline import training_batches
from training.fit import fit
from training.recipe import Recipe, load_recipe
from training.reports.reconstructions import inpaint
from training.tasks import TASKS
from training.tasks.masked import Masked, MaskedTargets
from vit_keras import InputError, Patches, Preprocessing, build_mae, build_mim

MAE = Recipe().replace(task="mae", seed=3)


def masks(recipe, first=0, fixed=False, grid=(4, 6)):
    """What is hidden in the steps before the fourth"""
    recipe = recipe.replace(batch_size=5, dataset="", train_crop=None, augment=())
    task = TASKS[recipe.task]
    assert isinstance(task, Masked)
    if fixed:
        batches = tf.data.Dataset.from_tensors((tf.zeros((5, 8, 8, 3)),)).repeat(4)
        batches = masked_batches(batches, task.draw(recipe.masking, grid), recipe.execution.seed)
    else:
        pixels = np.zeros((10, 8, 8, 3), "uint8")
        examples = Examples.from_pixels(pixels, [0] * 10, ("image",), list(map(str, range(10))))
        targets = MaskedTargets(examples, task.draw(recipe.masking, grid))
        batches = training_batches(examples, recipe, Preprocessing(8), targets, first=first, last=4)
    found = list(batches.as_numpy_iterator())
    assert all(batch["images"].shape == (5, 8, 8, 3) for batch in found)
    return np.stack([next(a for name, a in batch.items() if name != "images") for batch in found])


def test_masks_depend_on_the_seed_and_the_batch_alone():
    noise = masks(MAE)

    assert noise.shape == (4, 5, 24)
    assert len(np.unique(noise)) == noise.size
    np.testing.assert_array_equal(masks(MAE, first=2), noise[2:])
    fixed = masks(MAE, fixed=True)
    np.testing.assert_array_equal(masks(MAE, fixed=True), fixed)
    assert not np.isin(fixed, noise).any()
    assert not np.isin(masks(MAE.replace(seed=4)), noise).any()


def test_mim_hides_as_many_patches_as_asked_for():
    hidden = masks(MAE.replace(task="mim", mask_ratio=0.6))

    assert set(np.unique(hidden)) == {0, 1}
    assert (hidden.sum(axis=2) == 24 - int(24 * 0.4)).all()
    # Each patch is hidden in its turn: 0.625 of 20 images.
    assert hidden.sum(axis=(0, 1)).min() >= 6


def test_squares_are_hidden_as_a_whole():
    recipe = MAE.replace(task="mim", mask_unit=2, mask_ratio=0.6)

    hidden = masks(recipe).reshape(-1, 4, 6)

    squares = hidden.reshape(-1, 2, 2, 3, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 6, 4)
    assert (squares == squares[..., :1]).all()
    assert (squares[..., 0].sum(axis=1) == 4).all()  # of six, two stay
    assert masks(recipe, grid=(3, 5)).shape == (4, 5, 15)  # cut where the grid is odd
    with pytest.raises(InputError, match="mask_unit=2 leaves one square of 2x2 patches"):
        masks(recipe, grid=(2, 2))


@pytest.mark.parametrize("build", [build_mae, build_mim])
def test_inpainting_changes_hidden_patches_alone(build):
    model, inputs = masked_model(build)

    found = inpaint(model, inputs)

    cut, hidden = Patches(4), HIDDEN == 1
    original, masked, filled = (
        np.asarray(cut(images)) for images in (IMAGES, found["masked"], found["filled in"])
    )
    for images in (masked, filled):
        np.testing.assert_array_equal(images[~hidden], original[~hidden])
    np.testing.assert_array_equal(masked[hidden], 0)
    answer = model.predict_on_batch(inputs)
    if build is build_mae:  # undone: less the patch's mean, over its deviation
        known = original[hidden]
        deviation = np.sqrt(known.var(axis=1, ddof=1, keepdims=True) + 1e-6)
        expected = answer["prediction"][hidden] * deviation + known.mean(axis=1, keepdims=True)
    else:
        expected = np.asarray(cut(answer))[hidden]
    np.testing.assert_allclose(filled[hidden], expected, atol=1e-5)


def copy_flat(photographs, folder):
    """Copies the images of all classes into one folder"""
    folder.mkdir()
    for path in photographs.rglob("*.*"):
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
    return folder


@pytest.fixture
def pile(photographs, tmp_path):
    """A flat folder of images without labels"""
    return copy_flat(photographs, tmp_path / "pile")


def test_images_without_labels_may_lie_anywhere(photographs, pile):
    assert len(find_splits(str(pile), 3, labelled=False)["train"]()) == 24
    (found,) = [find_splits(str(photographs), 3, labelled=False)["train"]()]
    assert len(found) == 24
    assert found.class_names == ("image",)
    with pytest.raises(InputError, match="holds no folders of images"):
        find_splits(str(pile), 3)


def test_a_pile_is_read_without_what_tools_hide_in_it(pile):
    for name in (".thumbs", "__MACOSX", "test"):
        (pile / name).mkdir()
        shutil.copy(pile / "red-05.jpg", pile / name / "more.jpg")

    found = find_splits(str(pile), 3, labelled=False)

    assert set(found) == {"train"}
    assert len(found["train"]()) == 25


def test_a_pile_of_nothing_or_one_asks_for_images(pretraining, tmp_path):
    (tmp_path / "few").mkdir()
    few = pretraining.replace(dataset=str(tmp_path / "few"))
    with pytest.raises(InputError, match=r"holds no images; files must end in .*\.webp\.$"):
        fit(few, tmp_path / "run")
    shutil.copy(next(iter(pathlib.Path(pretraining.data.dataset).glob("*.jpg"))), tmp_path / "few")
    with pytest.raises(InputError, match=r"has 1 image\(s\); .* one each. Add images\.$"):
        fit(few, tmp_path / "run")


@pytest.fixture(scope="module")
def pretraining(recipe, photographs, tmp_path_factory):
    """A recipe that pre-trains an MAE on images without labels"""

    def build(folder):
        copy_flat(photographs, folder / "pile")

    folder = shared_folder(tmp_path_factory, "pile", build) / "pile"
    return recipe.replace(
        dataset=str(folder),
        task="mae",
        sheet_every=2,
        decoder={"width": 24, "depth": 1, "heads": 2, "mlp_width": 48},
    )


@pytest.fixture(scope="module")
def mae_run(pretraining, tmp_path_factory):
    """The run folder of that recipe, and what the run printed"""

    def build(folder):
        with open(folder / "printed.txt", "w") as file, contextlib.redirect_stdout(file):
            fit(pretraining, folder / "run")

    folder = shared_folder(tmp_path_factory, "mae_run", build)
    return folder / "run", (folder / "printed.txt").read_text()


@pytest.mark.slow
def test_pretraining_needs_no_labels(mae_run, recipe):
    run, printed = mae_run

    evaluation = json.loads((run / "evaluation.json").read_text())
    found = {path.name for path in run.iterdir()}
    assert found == {"config.json", "curves.png", "evaluation.json", "history.csv", "inpainting",
                     "inpainting.png", "model.keras", "throughput.csv", "report.html", "report.md",
                     "tensorboard"}  # fmt: skip
    assert [path.name for path in (run / "inpainting").iterdir()] == ["epoch-002.png"]
    assert Image.open(run / "inpainting.png").size[0] > 500
    assert f"--weights {run} --data" in (run / "report.md").read_text()
    with open(run / "history.csv") as file:
        history = list(csv.DictReader(file))
    best = min(float(row["val_loss"]) for row in history)
    assert evaluation["loss"] == pytest.approx(best, rel=1e-5)  # on the same images and masks
    model = vit_keras.load_model(run / "model.keras")
    assert model.decoder == DECODER
    assert "MAE of 75% of the patches; images: 18 train, 6 validation" in printed
    for command in ("evaluate", "predict"):
        arguments = [command, str(run / "model.keras"), str(recipe.data.dataset)]
        arguments.insert(2, "--data") if command == "evaluate" else None
        with pytest.raises(SystemExit, match="has no classes; fine-tune it first"):
            main(arguments)


@pytest.mark.slow
@pytest.mark.parametrize("pretrain", ["mae", "mim"])
def test_encoders_of_masked_models_are_fine_tuned(pretraining, mae_run, recipe, tmp_path, pretrain):
    run, _ = mae_run
    if pretrain == "mim":
        run = tmp_path / "masked"
        fit(pretraining.replace(task="mim", epochs=1), run)

    tuned = fit(recipe.replace(weights=str(run)), tmp_path / "tuned")

    assert tuned
    assert tuned["accuracy"] > 0.6  # red against blue
    model = vit_keras.load_model(tmp_path / "tuned" / "model.keras")
    assert model.class_names == ("blue", "red")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pretrain", "policy"), [("mae", "mixed_float16"), ("mim", "mixed_bfloat16")]
)
def test_pretraining_runs_in_half_precision_compiled_with_averages(
    pretraining, tmp_path, pretrain, policy
):
    changes = {
        "mixed_precision": policy,
        "task": pretrain,
        "jit_compile": True,
        "ema_momentum": 0.5,
    }

    evaluation = fit(pretraining.replace(**changes), tmp_path / "run")

    assert evaluation
    assert np.isfinite(evaluation["loss"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("weights=x.npz", "weights must be left at its default with task=mae"),
        ("trainable=lora", "trainable must be left at its default"),
        ("teacher=x.keras", "teacher must be left at its default"),
        ("progressive_resizing=0.5,0.5", "progressive_resizing must be left at its default"),
    ],
)
def test_what_has_no_place_in_pretraining_is_refused(override, message):
    with pytest.raises(InputError, match=message):
        load_recipe("mae_pretrain", [override])
