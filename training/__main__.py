"""Command line -> one command: data, fit, evaluate, predict, explain, compare or data-service."""

import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.arguments import build_parser

if TYPE_CHECKING:
    from vit_keras import ViT

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no start-up chatter from TensorFlow

# TensorFlow takes seconds to import: a command imports what it needs, and --help nothing.


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command; mistakes of the user are printed as one line.

    Args:
        argv: arguments; those of the process by default.
    """
    arguments = build_parser().parse_args(argv)
    from vit_keras.utils.errors import one_line_errors

    with one_line_errors():
        COMMANDS[arguments.command](arguments)


def _data(arguments):
    from training.preview import preview

    preview(_recipe(arguments), arguments.out)


def _fit(arguments):
    from training.fit import fit
    from training.recipe import read_recipe
    from vit_keras.utils.errors import InputError

    run = arguments.resume
    others = [arguments.recipe, arguments.out, arguments.data, arguments.data_dir, arguments.set]
    if run and any([*others, arguments.weights, arguments.teacher]):
        raise InputError("--resume RUN continues a run with its own options; give no others.")
    if not (run or arguments.recipe):
        raise InputError("name a recipe, or a run folder to --resume.")
    recipe = read_recipe(run / "config.json") if run else _recipe(arguments)
    out = run or arguments.out or _free_folder(pathlib.Path("runs") / arguments.recipe)
    resume = f"resume with: python -m training fit --resume {out}"
    places = {"distribute": arguments.distribute, "data_service": arguments.data_service}
    for name, place in places.items():
        if place not in ("", "none"):
            resume += f" --{name.replace('_', '-')} {place}"
    try:
        fit(recipe, out, resume=bool(run), **places)
    except KeyboardInterrupt:
        print(f"\nInterrupted; {resume}", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if not (out / "checkpoints").exists():
            raise
        raise OSError(f"{error}. When that is repaired, {resume}") from None


def _data_service(arguments):
    from training.distribution.data_service import serve

    serve(arguments.host, arguments.port, arguments.dispatcher)


def _recipe(arguments):
    from training.recipe import load_recipe

    named = {
        "dataset": arguments.data,
        "data_dir": arguments.data_dir,
        "weights": arguments.weights,
        "teacher": arguments.teacher,
    }
    data = [f"{key}={value}" for key, value in named.items() if value]
    return load_recipe(arguments.recipe, data + arguments.set)


def _evaluate(arguments):
    from training.data.splits import load_evaluation_images
    from training.recipe import Recipe
    from training.tasks import TASKS
    from vit_keras.utils.files import write_json

    model = _load(arguments.model)
    task = TASKS[model.task]
    split, examples, unreadable = load_evaluation_images(
        model, arguments.data, arguments.split, arguments.data_dir, task.labelled
    )
    if _same_dataset(model.trained_on, arguments.data) and split in ("train", None):
        print("Note: these are the images the model was trained on.", file=sys.stderr)
    metrics = task.evaluate(model, examples, Recipe(), arguments.flip).metrics
    evaluation = {
        "model": arguments.model,
        "data": arguments.data,
        "flip": arguments.flip,
        "split": split,
        **metrics,
        "unreadable": unreadable,
    }
    print(task.format(evaluation))
    for name, reason in unreadable.items():
        print(f"skipped: {name}: {reason}", file=sys.stderr)
    label = pathlib.Path(arguments.data.replace(":", "-")).resolve().name
    if arguments.flip:
        label += "-flip"
    default = pathlib.Path(arguments.model).with_name(f"evaluation-{label}.json")
    write_json(arguments.out or default, evaluation)


def _predict(arguments):
    from training.data.image_files import find_images
    from training.predict import predict
    from vit_keras.utils.errors import InputError

    model = _load_classifier(arguments.model)
    failed = False
    for pattern in arguments.images:
        try:
            paths = find_images(pattern)
        except InputError as error:
            paths, failed = [], True
            print(f"Error: {error}", file=sys.stderr)
        for path in paths:
            try:
                classes = predict(model, path, arguments.top)
            except InputError as error:
                failed = True
                print(f"Error: {error}", file=sys.stderr)
            else:
                listed = ", ".join(f"{name} {probability:.1%}" for name, probability in classes)
                print(f"{path}: {listed}", flush=True)
    if failed:
        sys.exit(1)


def _explain(arguments):
    from training.reports.attention import explain_images

    model = _load_classifier(arguments.model)
    explain_images(model, arguments.images, arguments.out, arguments.fusion)


def _compare(arguments):
    from training.reports.compare import compare_runs

    compare_runs(arguments.runs, arguments.out)


def _load(path: str) -> "ViT":
    """Loads a model that can be evaluated as it is."""
    from training.tasks import TASKS
    from vit_keras.model import load_model
    from vit_keras.utils.errors import InputError

    model = load_model(path)
    if model.task not in TASKS:
        raise InputError(f"{path} is for the task {model.task}; known are {', '.join(TASKS)}.")
    TASKS[model.task].check_model(model, path)
    return model


def _load_classifier(path: str) -> "ViT":
    """Loads a model that gives probabilities of classes."""
    from vit_keras.utils.errors import InputError

    model = _load(path)
    if not model.config.num_classes:
        raise InputError(f"{path} has no classes; its task is {model.task}.")
    return model


def _same_dataset(first: str, second: str) -> bool:
    """Whether two values of --data are the same name or the same folder."""
    folders = os.path.isdir(first) and os.path.isdir(second)
    return first == second or (folders and os.path.samefile(first, second))


def _free_folder(folder: pathlib.Path) -> pathlib.Path:
    """The folder, or the first of folder-2, folder-3, ... that does not exist."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


COMMANDS = {
    "data": _data,
    "fit": _fit,
    "data_service": _data_service,
    "evaluate": _evaluate,
    "predict": _predict,
    "explain": _explain,
    "compare": _compare,
}

if __name__ == "__main__":
    main()
