"""Texts of the command line -> the arguments of `python -m training`."""

import argparse
import pathlib


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser; `arguments.command` is the name of the command."""
    parser = argparse.ArgumentParser(
        "python -m training",
        description="Trains Vision Transformers on images, evaluates and explains them.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    recipe = "a file of training/recipes/, without .py"
    data = commands.add_parser("data", help="show the images a recipe would train on, and how fast")
    data.set_defaults(command="data")
    data.add_argument("--recipe", default="photos", help=f"{recipe}; photos by default")
    data.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/data"), help="folder; runs/data"
    )

    fit = commands.add_parser("fit", help="train by a recipe, into a run folder")
    fit.set_defaults(command="fit")
    fit.add_argument("recipe", metavar="RECIPE", nargs="?", help=recipe)
    fit.add_argument(
        "--resume", type=pathlib.Path, metavar="RUN", help="resume the run in this folder"
    )
    fit.add_argument("--out", type=pathlib.Path, help="run folder; runs/RECIPE by default")
    fit.add_argument(
        "--distribute",
        choices=["none", "mirrored", "multi-worker", "model-parallel"],
        default="none",
        help="train on all devices of this machine, or on the machines of TF_CONFIG",
    )
    fit.add_argument(
        "--data-service",
        default="",
        metavar="HOST:PORT",
        help="read and augment images on this tf.data service",
    )
    for command in (data, fit):
        command.add_argument("--data", help="fashion_mini, fashion_mnist, tfds:NAME, or a folder")
        command.add_argument(
            "--weights",
            help="start from these: a .keras, .npz, .safetensors or .pth file, a folder, an "
            "https:// or hf:// address, or a name of vit_keras.PUBLISHED",
        )
        command.add_argument(
            "--teacher",
            help="also learn from this model, with task=distillation: a .keras file, run folder or "
            "SavedModel",
        )
        command.add_argument("--data-dir", help="where TFDS or fashion_mnist's files are")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="set a field of the recipe, or model.KEY of its ViTConfig; may be repeated",
        )

    service = commands.add_parser("data-service", help="read and augment images for other runs")
    service.set_defaults(command="data_service")
    service.add_argument("--host", default="localhost", help="this machine's name; localhost")
    service.add_argument(
        "--port", type=positive_integer, default=5050, help="port to listen on; 5050"
    )
    service.add_argument("--dispatcher", default="", metavar="HOST:PORT", help="service to join")

    evaluate = commands.add_parser("evaluate", help="accuracy of a model on labelled images")
    evaluate.set_defaults(command="evaluate")
    evaluate.add_argument("model", metavar="MODEL", help="a .keras file")
    evaluate.add_argument("--data", required=True, help="as for fit; classes match by name")
    evaluate.add_argument(
        "--split",
        help="train, validation, test or, for TFDS, any split; the test images by default",
    )
    evaluate.add_argument(
        "--flip", action="store_true", help="average each image with its mirror image"
    )
    evaluate.add_argument("--data-dir", default="", help="where TFDS or fashion_mnist's files are")
    evaluate.add_argument(
        "--out", type=pathlib.Path, help="JSON file; evaluation-DATA.json next to MODEL by default"
    )

    predict = commands.add_parser("predict", help="the most probable classes of image files")
    predict.set_defaults(command="predict")
    predict.add_argument("model", metavar="MODEL", help="a .keras file")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders or globs")
    predict.add_argument(
        "--top", type=positive_integer, default=3, help="classes to print; 3 by default"
    )

    explain = commands.add_parser("explain", help="draw what a model attends to in image files")
    explain.set_defaults(command="explain")
    explain.add_argument("model", metavar="MODEL", help="a .keras file")
    explain.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders or globs")
    explain.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/explain"), help="runs/explain"
    )
    explain.add_argument(
        "--fusion", default="mean", help="of the heads, for the rollout: mean, max or min"
    )

    compare = commands.add_parser("compare", help="runs side by side, with the spread of seeds")
    compare.set_defaults(command="compare")
    compare.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    compare.add_argument(
        "--out", type=pathlib.Path, help="folder for compare.md, compare.html and compare.png"
    )
    return parser


def positive_integer(text: str) -> int:
    """'3' -> 3.

    Raises:
        ValueError: for other texts, which argparse turns into an error message.
    """
    number = int(text)
    if number < 1:
        raise ValueError
    return number
