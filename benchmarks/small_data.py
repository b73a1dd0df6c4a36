"""A ViT with few labels, with and without pre-training or a teacher -> a Markdown table.

python -m benchmarks.small_data pretraining --data FOLDER --seeds 3 --out results
python -m benchmarks.small_data teacher --seeds 3 --out results

pretraining: 500 images per class of a labelled folder (CIFAR-10 as JPEG: `train`, `test`) keep
their labels. One model learns from those for the whole time. The other first fills in hidden
patches of all images (MAE), and learns from the labels for the rest of the time. The numbers of
epochs make both take about the same time; the table has the seconds.

teacher: DeiT's Ti on Fashion-MNIST for one epoch, from labels only, and with a distillation token
and a teacher: the CCT of the recipe `fashion_mnist`, trained once.

The contestants run one after another, seed by seed. Time is counted as in benchmarks/accuracy.py.
The folder of --out keeps results and trained models; finished runs are not repeated.
"""

import argparse
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from tabulate import tabulate

from benchmarks.clock import Clock
from benchmarks.machine import describe_machine
from training.augment.batches import resized_crop_of_border
from training.fit import fit
from training.recipe import Recipe, load_recipe
from training.runs.folder import RunFolder
from vit_keras.utils.files import write_json

LABELLED = 500  # images per class
SMALL = {
    "variant": "vit_mini4",
    "config": {"width": 96, "depth": 4, "mlp_width": 384, "pooling": "mean"},
}
Result = dict[str, Any]


def main() -> None:
    """Runs the contestants of an experiment and prints the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.small_data")
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", type=pathlib.Path, help="folder of labelled images of 32 px")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each contestant")
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="folder that keeps the runs"
    )
    arguments = parser.parse_args()
    if arguments.experiment == "pretraining" and not arguments.data:
        parser.error("the experiment pretraining needs --data FOLDER.")

    contestants = EXPERIMENTS[arguments.experiment]
    results: dict[str, list[Result]] = {name: [] for name in contestants}
    for seed in range(arguments.seeds):
        for number, (name, contestant) in enumerate(contestants.items()):
            file = arguments.out / f"{arguments.experiment}-{number}-{seed}.json"
            if not file.exists():
                runs = arguments.out / "runs" / file.stem
                shutil.rmtree(runs, ignore_errors=True)  # left by an interrupted call
                result = contestant(arguments.data, seed, runs)
                write_json(file, result | {"contestant": name, "machine": describe_machine()})
            results[name].append(json.loads(file.read_text()))
    rows = [_row(arguments.experiment, name, runs) for name, runs in results.items()]
    print(f"{describe_machine()}\n")
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


def _row(experiment: str, name: str, runs: list[Result]) -> dict[str, str]:
    """A row of the table."""
    return {
        experiment: name,
        "test accuracy": f"{np.mean([run['accuracy'] for run in runs]):.1%}",
        "by seed, %": ", ".join(f"{100 * run['accuracy']:.1f}" for run in runs),
        "epochs": runs[0]["epochs"],
        "CPU seconds": f"{np.mean([run['seconds'] for run in runs]):.0f}",
    }


def train_on_labels(data: pathlib.Path, seed: int, runs: pathlib.Path) -> Result:
    """Trains on the labelled images only."""
    return _train(_few_labels(data, seed, runs, epochs=51), runs)


def pretrain_and_fine_tune(data: pathlib.Path, seed: int, runs: pathlib.Path) -> Result:
    """Pre-trains an MAE on all images, then fine-tunes it on the labelled ones."""
    pretraining = load_recipe("mae_pretrain").replace(
        seed=seed,
        dataset=str(data),
        image_size=32,
        decoder={"width": 64, "depth": 1, "heads": 2, "mlp_width": 256},
        validation_fraction=0.02,
        validate_every=7,
        epochs=7,
        warmup_epochs=0.5,
        optimizer="muon",
        learning_rate=4e-3,
        **SMALL,
    )
    before = _train(pretraining, runs / "mae")
    fine_tuning = _few_labels(data, seed, runs, epochs=15).replace(weights=str(runs / "mae"))
    after = _train(fine_tuning, runs / "finetuned")
    return after | {
        "epochs": f"{before['epochs']} + {after['epochs']}",
        "seconds": before["seconds"] + after["seconds"],
    }


def train_student(data: pathlib.Path, seed: int, runs: pathlib.Path) -> Result:
    """Trains the student without a teacher."""
    return _train(_student(seed), runs)


def train_student_with_teacher(data: pathlib.Path, seed: int, runs: pathlib.Path) -> Result:
    """Trains the student on labels and on the answers of a teacher, which is trained once."""
    teacher = runs.parent / "teacher"
    if RunFolder(teacher).state != "finished":
        fit(load_recipe("fashion_mnist"), teacher)
    student = _student(seed).replace(
        task="distillation",
        teacher=str(teacher),
        distillation_loss="soft",
        config={"distilled": True},
    )
    return _train(student, runs)


EXPERIMENTS: dict[str, dict[str, Callable[[pathlib.Path, int, pathlib.Path], Result]]] = {
    "pretraining": {"labels alone": train_on_labels, "MAE first": pretrain_and_fine_tune},
    "teacher": {"labels alone": train_student, "labels and teacher": train_student_with_teacher},
}


def _few_labels(data: pathlib.Path, seed: int, runs: pathlib.Path, epochs: int) -> Recipe:
    """Recipe for the labelled part of a folder, a folder of links next to the runs."""
    labelled = runs.parent / "few-labels"
    for split, count in (("train", LABELLED), ("test", None)):
        for folder in sorted((data / split).iterdir()):
            (labelled / split / folder.name).mkdir(parents=True, exist_ok=True)
            for image in sorted(folder.iterdir())[:count]:
                link = labelled / split / folder.name / image.name
                if not link.exists():
                    link.symlink_to(image.resolve())
    return load_recipe("photos").replace(
        seed=seed,
        dataset=str(labelled),
        image_size=32,
        train_crop=resized_crop_of_border,
        epochs=epochs,
        warmup_epochs=2,
        validate_every=2,
        **SMALL,
    )


def _student(seed: int) -> Recipe:
    """Recipe: Ti of 16 patches on Fashion-MNIST."""
    return load_recipe("fashion_mnist").replace(
        seed=seed,
        variant="vit_ti7",
        epochs=1,
        warmup_epochs=0.25,
        optimizer="adamw",
        learning_rate=1e-3,
        jit_compile=True,
    )


def _train(recipe: Recipe, run: pathlib.Path) -> Result:
    clock = Clock()
    keras.utils.clear_session()
    evaluation = fit(recipe, run, callbacks=[clock]) or {}
    # An MAE has a loss and no accuracy.
    score = evaluation.get("accuracy", evaluation.get("loss"))
    return {"accuracy": score, "epochs": f"{clock.epochs:.0f}", "seconds": clock.seconds}


if __name__ == "__main__":
    main()
