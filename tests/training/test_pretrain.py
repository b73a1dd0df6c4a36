"""Masked pre-training: masks, images without labels, runs, and fine-tuning of their encoders."""

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
    """The masks, or noise, of the steps first..3."""
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
    steps = list(batches.as_numpy_iterator())
    assert all(batch["images"].shape == (5, 8, 8, 3) for batch in steps)
    return np.stack([next(a for name, a in batch.items() if name != "images") for batch in steps])


def test_masks_depend_only_on_seed_and_step():
    noise = masks(MAE)

    assert noise.shape == (4, 5, 24)
    assert len(np.unique(noise)) == noise.size
    np.testing.assert_array_equal(masks(MAE, first=2), noise[2:])
    fixed = masks(MAE, fixed=True)
    np.testing.assert_array_equal(masks(MAE, fixed=True), fixed)
    assert not np.isin(fixed, noise).any()
    assert not np.isin(masks(MAE.replace(seed=4)), noise).any()


def test_mim_hides_the_given_fraction_of_patches():
    hidden = masks(MAE.replace(task="mim", mask_ratio=0.6))

    assert set(np.unique(hidden)) == {0, 1}
    assert (hidden.sum(axis=2) == 24 - int(24 * 0.4)).all()
    # Every patch is hidden in some images; on average, in 0.625 of 20.
    assert hidden.sum(axis=(0, 1)).min() >= 6


def test_mask_unit_hides_whole_squares_of_patches():
    recipe = MAE.replace(task="mim", mask_unit=2, mask_ratio=0.6)

    hidden = masks(recipe).reshape(-1, 4, 6)

    squares = hidden.reshape(-1, 2, 2, 3, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 6, 4)
    assert (squares == squares[..., :1]).all()
    assert (squares[..., 0].sum(axis=1) == 4).all()  # two of six stay visible
    assert masks(recipe, grid=(3, 5)).shape == (4, 5, 15)  # incomplete squares at the border
    with pytest.raises(InputError, match="mask_unit=2 leaves one square of 2x2 patches"):
        masks(recipe, grid=(2, 2))


@pytest.mark.parametrize("build", [build_mae, build_mim])
def test_inpainting_changes_only_hidden_patches(build):
    model, inputs = masked_model(build)

    result = inpaint(model, inputs)

    cut, hidden = Patches(4), HIDDEN == 1
    original, masked, filled = (
        np.asarray(cut(images)) for images in (IMAGES, result["masked"], result["filled in"])
    )
    for images in (masked, filled):
        np.testing.assert_array_equal(images[~hidden], original[~hidden])
    np.testing.assert_array_equal(masked[hidden], 0)
    answer = model.predict_on_batch(inputs)
    if build is build_mae:  # predicts patches minus their mean, divided by their deviation
        patches = original[hidden]
        deviation = np.sqrt(patches.var(axis=1, ddof=1, keepdims=True) + 1e-6)
        expected = answer["prediction"][hidden] * deviation + patches.mean(axis=1, keepdims=True)
    else:
        expected = np.asarray(cut(answer))[hidden]
    np.testing.assert_allclose(filled[hidden], expected, atol=1e-5)


def copy_flat(photographs, folder):
    """Copies the images of all classes into one folder."""
    folder.mkdir()
    for path in photographs.rglob("*.*"):
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
    return folder


@pytest.fixture
def unlabelled(photographs, tmp_path):
    """A folder of images without labels."""
    return copy_flat(photographs, tmp_path / "unlabelled")


def test_unlabelled_images_may_lie_anywhere_in_the_folder(photographs, unlabelled):
    assert len(find_splits(str(unlabelled), 3, labelled=False)["train"]()) == 24
    examples = find_splits(str(photographs), 3, labelled=False)["train"]()
    assert len(examples) == 24
    assert examples.class_names == ("image",)
    with pytest.raises(InputError, match="holds no folders of images"):
        find_splits(str(unlabelled), 3)


def test_unlabelled_images_in_hidden_folders_are_ignored(unlabelled):
    for name in (".thumbs", "__MACOSX", "test"):
        (unlabelled / name).mkdir()
        shutil.copy(unlabelled / "red-05.jpg", unlabelled / name / "more.jpg")

    splits = find_splits(str(unlabelled), 3, labelled=False)

    assert set(splits) == {"train"}
    assert len(splits["train"]()) == 25


def test_pretraining_with_one_image_or_none_is_an_error(pretraining, tmp_path):
    (tmp_path / "few").mkdir()
    few = pretraining.replace(dataset=str(tmp_path / "few"))
    with pytest.raises(InputError, match=r"holds no images; files must end in .*\.webp\.$"):
        fit(few, tmp_path / "run")
    shutil.copy(next(iter(pathlib.Path(pretraining.data.dataset).glob("*.jpg"))), tmp_path / "few")
    with pytest.raises(InputError, match=r"has 1 image\(s\); .* one each. Add images\.$"):
        fit(few, tmp_path / "run")


@pytest.fixture(scope="module")
def pretraining(recipe, photographs, tmp_path_factory):
    """A recipe that pre-trains an MAE on images without labels."""

    def build(folder):
        copy_flat(photographs, folder / "images")

    folder = shared_folder(tmp_path_factory, "unlabelled", build) / "images"
    return recipe.replace(
        dataset=str(folder),
        task="mae",
        sheet_every=2,
        decoder={"width": 24, "depth": 1, "heads": 2, "mlp_width": 48},
    )


@pytest.fixture(scope="module")
def mae_run(pretraining, tmp_path_factory):
    """The run folder of `pretraining`, and the text that the run printed."""

    def build(folder):
        with open(folder / "printed.txt", "w") as file, contextlib.redirect_stdout(file):
            fit(pretraining, folder / "run")

    folder = shared_folder(tmp_path_factory, "mae_run", build)
    return folder / "run", (folder / "printed.txt").read_text()


@pytest.mark.slow
def test_pretraining_run_has_loss_pictures_and_a_model_without_classes(mae_run, recipe):
    run, printed = mae_run

    evaluation = json.loads((run / "evaluation.json").read_text())
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "curves.png",
        "evaluation.json",
        "history.csv",
        "inpainting",
        "inpainting.png",
        "model.keras",
        "throughput.csv",
        "report.html",
        "report.md",
        "tensorboard",
    }
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
    saved, images = str(run / "model.keras"), str(recipe.data.dataset)
    for arguments in (["evaluate", saved, "--data", images], ["predict", saved, images]):
        with pytest.raises(SystemExit, match="has no classes; fine-tune it first"):
            main(arguments)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["mae", "mim"])
def test_encoder_of_a_masked_model_can_be_fine_tuned(pretraining, mae_run, recipe, tmp_path, task):
    run, _ = mae_run
    if task == "mim":
        run = tmp_path / "masked"
        fit(pretraining.replace(task="mim", epochs=1), run)

    tuned = fit(recipe.replace(weights=str(run)), tmp_path / "tuned")

    assert tuned
    assert tuned["accuracy"] > 0.6  # red against blue
    model = vit_keras.load_model(tmp_path / "tuned" / "model.keras")
    assert model.class_names == ("blue", "red")


@pytest.mark.slow
@pytest.mark.parametrize(("task", "policy"), [("mae", "mixed_float16"), ("mim", "mixed_bfloat16")])
def test_pretraining_supports_half_precision_compilation_and_ema(
    pretraining, tmp_path, task, policy
):
    changes = {
        "mixed_precision": policy,
        "task": task,
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
def test_fine_tuning_settings_in_pretraining_are_an_error(override, message):
    with pytest.raises(InputError, match=message):
        load_recipe("mae_pretrain", [override])
