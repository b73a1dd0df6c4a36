"""A ViT alone, and with what the literature gives one that has too little data -> a Markdown table.

python -m benchmarks.alone pretraining --data FOLDER --seeds 3 --out results
python -m benchmarks.alone teacher --seeds 3 --out results

pretraining: of all images of a labelled folder (CIFAR-10 as JPEG: `train`, `test`) 500 a class keep
their labels. One model learns those for all of the time. The other first fills in hidden patches of
all images (MAE), and learns the labels for the rest of the time; epochs are chosen so that both
take alike long, and the table says how long.

teacher: DeiT's Ti on Fashion-MNIST for one epoch, alone, and with a distillation token and a
teacher: the CCT of the recipe `fashion_mnist`, trained once.

Contestants take turns, seed by seed. Time is counted as in benchmarks/accuracy.py. With the same
--out finished runs are not run again; it keeps the trained models, too.
"""

import argparse
import dataclasses
import json
import pathlib
import shutil

import keras
import numpy as np
from tabulate import tabulate

from benchmarks.accuracy import Clock
from benchmarks.machine import describe_machine
from training.augment.batches import resized_crop_of_border
from training.fit import fit
from training.recipe import load_recipe
from vit_keras.utils.files import write_json

LABELLED = 500  # images a class


def main():
    parser = argparse.ArgumentParser("python -m benchmarks.alone")
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", type=pathlib.Path, help="a folder of labelled images, of 32 px")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each contestant")
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="folder that keeps the runs"
    )
    arguments = parser.parse_args()
    if arguments.experiment == "pretraining" and not arguments.data:
        parser.error("the experiment pretraining needs --data FOLDER.")

    contestants = EXPERIMENTS[arguments.experiment]
    results = {name: [] for name in contestants}
    for seed in range(arguments.seeds):
        for number, (name, contestant) in enumerate(contestants.items()):
            file = arguments.out / f"{arguments.experiment}-{number}-{seed}.json"
            if not file.exists():
                runs = arguments.out / "runs" / file.stem
                shutil.rmtree(runs, ignore_errors=True)  # of a call that was stopped
                result = contestant(arguments.data, seed, runs)
                write_json(file, result | {"contestant": name, "machine": describe_machine()})
            results[name].append(json.loads(file.read_text()))
    print(f"{describe_machine()}\n")
    rows = [
        {
            arguments.experiment: name,
            "test accuracy": f"{np.mean([run['accuracy'] for run in found]):.1%}",
            "by seed, %": ", ".join(f"{100 * run['accuracy']:.1f}" for run in found),
            "epochs": found[0]["epochs"],
            "CPU seconds": f"{np.mean([run['seconds'] for run in found]):.0f}",
        }
        for name, found in results.items()
    ]
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


def labels_alone(data, seed, runs):
    return _train(_few_labels(data, seed, runs, epochs=51), runs)


def pretraining_first(data, seed, runs):
    pretraining = dataclasses.replace(
        load_recipe("mae_pretrain"),
        seed=seed,
        data=str(data),
        variant=SMALL["variant"],
        image_size=32,
        model=SMALL["model"],
        decoder={"width": 64, "depth": 1, "heads": 2, "mlp_width": 256},
        validation_fraction=0.02,
        validate_every=7,
        epochs=7,
        warmup_epochs=0.5,
        optimizer="muon",
        learning_rate=4e-3,
    )
    before = _train(pretraining, runs / "mae")
    tuning = _few_labels(data, seed, runs, epochs=15)
    after = _train(dataclasses.replace(tuning, weights=str(runs / "mae")), runs / "finetuned")
    return after | {
        "epochs": f"{before['epochs']} + {after['epochs']}",
        "seconds": before["seconds"] + after["seconds"],
    }


def student_alone(data, seed, runs):
    return _train(_student(seed), runs)


def student_taught(data, seed, runs):
    teacher = runs.parent / "teacher"
    if not (teacher / "report.md").exists():
        fit(load_recipe("fashion_mnist"), teacher)
    taught = {"teacher": str(teacher), "distillation": "soft", "model": {"distilled": True}}
    return _train(dataclasses.replace(_student(seed), **taught), runs)


EXPERIMENTS = {
    "pretraining": {"labels alone": labels_alone, "MAE first": pretraining_first},
    "teacher": {"labels alone": student_alone, "labels and teacher": student_taught},
}
SMALL = {
    "variant": "vit_mini4",
    "model": {"width": 96, "depth": 4, "mlp_width": 384, "pooling": "mean"},
}


def _few_labels(data, seed, runs, epochs):
    """Recipe for the labelled part of a folder, which is made beside the runs, of links"""
    few = runs.parent / "few-labels"
    for split in ("train", "test"):
        for folder in sorted((data / split).iterdir()):
            images = sorted(folder.iterdir())[: LABELLED if split == "train" else None]
            (few / split / folder.name).mkdir(parents=True, exist_ok=True)
            for image in images:
                link = few / split / folder.name / image.name
                if not link.exists():
                    link.symlink_to(image.resolve())
    return dataclasses.replace(
        load_recipe("photos"),
        seed=seed,
        data=str(few),
        image_size=32,
        train_crop=resized_crop_of_border,
        epochs=epochs,
        warmup_epochs=2,
        validate_every=2,
        **SMALL,
    )


def _student(seed):
    """Recipe: Ti of 16 patches on Fashion-MNIST"""
    return dataclasses.replace(
        load_recipe("fashion_mnist"),
        seed=seed,
        variant="vit_ti7",
        epochs=1,
        warmup_epochs=0.25,
        optimizer="adamw",
        learning_rate=1e-3,
        jit=True,
    )


def _train(recipe, run):
    clock = Clock()
    keras.utils.clear_session()
    evaluation = fit(recipe, run, callbacks=[clock])
    # MAE has a loss in place of an accuracy.
    score = evaluation.get("accuracy", evaluation.get("loss"))
    return {"accuracy": score, "epochs": f"{clock.epochs:.0f}", "seconds": clock.seconds}


if __name__ == "__main__":
    main()
