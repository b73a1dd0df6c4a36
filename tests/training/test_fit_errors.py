"""Mistakes end a run before training, or say where it stopped."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from training.augment.images import fold_in
from training.fit import fit
from vit_keras import InputError


def test_validation_images_of_which_none_can_be_read_are_an_error(recipe, photographs, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(photographs, tmp_path / split)
    for path in (tmp_path / "val").rglob("*.*"):
        path.write_bytes(b"")

    with pytest.raises(InputError, match="none of 24 images can be read"):
        fit(recipe.replace(dataset=str(tmp_path)), tmp_path / "run")


def test_recipe_without_a_dataset_is_an_error(recipe, tmp_path):
    with pytest.raises(InputError, match="name one with --data FOLDER"):
        fit(recipe.replace(dataset=""), tmp_path / "run")


def test_single_class_or_class_without_images_is_an_error(recipe, photographs, tmp_path):
    wrong = recipe.replace(dataset=str(tmp_path))
    shutil.copytree(photographs / "red", tmp_path / "red")
    with pytest.raises(InputError, match="only the class 'red'; training needs"):
        fit(wrong, tmp_path / "run")
    (tmp_path / "green").mkdir()
    with pytest.raises(InputError, match="class 'green' has no readable training images"):
        fit(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_run_folder_with_other_files_is_an_error(recipe, run_folder, tmp_path):
    with pytest.raises(InputError, match="holds a finished run; choose another"):
        fit(recipe, run_folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        fit(recipe, tmp_path / "file")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run_folder, unfinished)
    (unfinished / "report.md").unlink()
    with pytest.raises(
        InputError, match=f"an unfinished run; resume it with --resume {unfinished}, or choose"
    ):
        fit(recipe, unfinished)


@pytest.mark.slow
@pytest.mark.parametrize(("good_epoch", "accumulation"), [(False, 1), (True, 1), (True, 2)])
def test_error_of_a_diverging_run_names_step_learning_rate_and_last_model(
    recipe, tmp_path, good_epoch, accumulation
):
    step, epoch = (7, 2) if good_epoch else (3, 1)  # counted from 1, 4 steps an epoch

    def spoil(images, labels, seed):
        due = tf.reduce_all(seed == fold_in((0, step - 1), 100))
        return images + tf.where(due, np.nan, 0.0), labels

    diverging = recipe.replace(augment=(spoil,), epochs=2, gradient_accumulation_steps=accumulation)
    run = tmp_path / "run"

    with pytest.raises(InputError) as stopped:
        fit(diverging, run)

    saved = f"the last good model is {run / 'model.keras'}" if good_epoch else "no model yet"
    message = str(stopped.value)
    # Linear warm-up in the 4 steps of the first epoch, then half a cosine until the 8th.
    rate = 0.0015 if step == 3 else 0.003 * (0.5 + 0.5 * np.cos(np.pi * (6 - 4) / 4))
    assert f"finite at step {step} of epoch {epoch} (learning rate {rate:.3g})" in message
    assert f"); {saved}. Try a lower learning_rate than 0.003" in message


@pytest.mark.slow
def test_error_of_a_too_high_learning_rate_suggests_a_lower_one(recipe, tmp_path):
    diverging = recipe.replace(learning_rate=1e30, global_clipnorm=0.0, warmup_epochs=0)

    with pytest.raises(
        InputError,
        match=r"finite at step \d+ of epoch 1 \(learning rate .*\); no model yet. Try a lower",
    ):
        fit(diverging, tmp_path / "run")


@pytest.mark.slow
def test_missing_write_permission_is_a_one_line_error(tmp_path, obey_permissions):
    (tmp_path / "locked").mkdir(mode=0o555)
    out = str(tmp_path / "locked" / "run")
    command = [sys.executable, "-m", "training", "fit", "fashion_mini", "--out", out]
    result = subprocess.run(command, capture_output=True, text=True, preexec_fn=obey_permissions)

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("Error: [Errno 13] Permission denied")
    assert "Traceback" not in result.stderr
