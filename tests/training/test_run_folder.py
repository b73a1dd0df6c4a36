"""Run folders: state, files, and a folder that version 0.1.0 wrote."""

import numpy as np
import pytest
from support.checkpoints import FIXTURES

from training.augment.batches import flip
from training.recipe import read_recipe
from training.runs.checkpoint import latest_checkpoint
from training.runs.folder import RunFolder
from vit_keras import InputError

SAVED = FIXTURES / "run_folder"


def test_state_follows_the_files(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.state == "new"
    run.path.mkdir()
    run.config.write_text("{}")
    assert run.state == "new"  # it stopped before training
    run.checkpoints.mkdir()
    assert run.state == "unfinished"
    run.report.write_text("")
    assert run.state == "finished"


@pytest.mark.parametrize(
    ("names", "resume", "message"),
    [
        (["photo.jpg"], False, "is not empty"),
        (["config.json", "history.csv"], False, "unfinished run; resume it with --resume"),
        (["config.json", "report.md"], False, "holds a finished run"),
        (["config.json", "report.md"], True, "holds a finished run"),
    ],
)
def test_folders_of_other_runs_are_refused(tmp_path, names, resume, message):
    for name in names:
        (tmp_path / name).write_text("{}")

    with pytest.raises(InputError, match=message):
        RunFolder(tmp_path).check_usable(resume)


@pytest.mark.parametrize(
    ("names", "resume"),
    [([], False), (["config.json"], False), (["config.json", "history.csv"], True)],
)
def test_new_folders_and_resumed_runs_are_usable(tmp_path, names, resume):
    for name in names:
        (tmp_path / name).write_text("{}")

    RunFolder(tmp_path).check_usable(resume)
    RunFolder(tmp_path / "none").check_usable(resume)


def test_a_second_lock_is_refused(tmp_path):
    with (
        RunFolder(tmp_path).lock(),
        pytest.raises(InputError, match="another process is training"),
        RunFolder(tmp_path).lock(),
    ):
        pass


def test_a_recipe_saved_by_version_0_1_0_is_read():
    recipe = read_recipe(SAVED / "config.json")

    assert recipe.task == "classification"
    assert recipe.data.balance == "weights"
    assert recipe.model.config["stochastic_depth"] == 0.1
    assert recipe.augmentation.augment[0] is flip
    assert recipe.augmentation.progressive_resizing == ((0.5, 0.5),)
    assert recipe.optimization.gradient_accumulation_steps == 2
    assert recipe.execution.jit_compile is False


def test_a_checkpoint_saved_by_version_0_1_0_is_read():
    checkpoint = latest_checkpoint(RunFolder(SAVED).checkpoints)

    assert checkpoint is not None
    assert checkpoint.step == 7
    assert checkpoint.best == {"best": 0.5, "epoch": 1}
    np.testing.assert_array_equal(checkpoint.groups["model"][0], [0, 1, 2])
    assert [len(checkpoint.groups[name]) for name in ("model", "optimizer", "metrics")] == [2, 1, 0]
