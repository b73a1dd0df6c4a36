"""The command line: python -m export MODEL --format savedmodel tflite onnx --out FOLDER."""

import argparse
import dataclasses
import os

from export.chatter import hide_chatter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no information from TensorFlow


def main(argv: list[str] | None = None) -> None:
    """Runs the command line; the arguments are those of the process by default."""
    arguments = _parser().parse_args(argv)

    # Imported late: TensorFlow takes seconds, --help should not.
    from export.export import export_model
    from export.options import Options
    from export.selection import select_formats, select_quantizations
    from export.subject import find_model
    from vit_keras.utils.errors import one_line_errors

    with one_line_errors():
        options = {
            field.name: getattr(arguments, field.name) for field in dataclasses.fields(Options)
        }
        export_model(
            arguments.model,
            select_formats(arguments.format),
            arguments.out or find_model(arguments.model).with_name("export"),
            quantizations=select_quantizations(arguments.quantization),
            merge_tokens=arguments.merge_tokens,
            data=arguments.data,
            data_dir=arguments.data_dir,
            count=arguments.images,
            options=Options(**options),
            replace=arguments.replace,
        )


def _parser():
    parser = argparse.ArgumentParser(
        "python -m export",
        description="Writes a trained model in other formats, and verifies each in its runtime.",
    )
    parser.add_argument("model", metavar="MODEL", help="a .keras file, or a run folder")
    parser.add_argument(
        "--out", metavar="FOLDER", help="the folder export next to the model by default"
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="remove the export of another model from the folder",
    )
    parser.add_argument(
        "--format",
        nargs="+",
        default=["savedmodel", "tflite"],
        help="savedmodel, tflite, onnx, coreml, web, or all; savedmodel and tflite by default",
    )
    parser.add_argument(
        "--quantization",
        nargs="+",
        default=["float32"],
        help="float32, float16, dynamic, int8, int8-full, int16x8, or all; each format is written "
        "in those that it has; float32 by default",
    )
    parser.add_argument(
        "--merge-tokens",
        nargs="+",
        type=int,
        default=[0],
        metavar="R",
        help="patches that each block merges into others, for speed; several numbers write several "
        "artefacts",
    )
    images = parser.add_argument_group("images to verify and calibrate on")
    images.add_argument(
        "--data",
        default="",
        help="as for `python -m training fit`; by default the images the model was trained on",
    )
    images.add_argument(
        "--data-dir", default="", help="folder of the files of TFDS or fashion_mnist"
    )
    images.add_argument(
        "--images", type=int, default=1000, metavar="N", help="images to evaluate on, at most; 1000"
    )
    budget = parser.add_argument_group("accuracy budget")
    budget.add_argument(
        "--max-drop",
        type=float,
        default=0.01,
        help="accuracy that an artefact may lose, a fraction; 0.01 by default",
    )
    budget.add_argument(
        "--allow-drop", action="store_true", help="write artefacts over the budget anyway"
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="also return how much each patch of an image counts",
    )
    parser.add_argument(
        "--embed",
        action="store_true",
        help="also return the features that the head reads, for search: in .tflite as the "
        "signature embed; a SavedModel always has it",
    )
    files = parser.add_argument_group(".tflite and .onnx files")
    files.add_argument(
        "--preprocess",
        default="in-graph",
        help="in-graph, to take pixels, or none, to take float32 that the caller normalises",
    )
    files.add_argument(
        "--input-type",
        default="uint8",
        help="of pixels, 0 to 255: uint8, the default, or float32",
    )
    files.add_argument(
        "--batch", type=int, help="images per call; one in .tflite, any number in .onnx by default"
    )
    files.add_argument(
        "--output-type",
        default="uint8",
        help="of the answer of an int8-full file: uint8, or int8",
    )
    files.add_argument(
        "--gelu",
        default="exact",
        help="in an int8-full file: exact, or sigmoid, for accelerators without GELU",
    )
    files.add_argument(
        "--least-runtime",
        default="",
        metavar="VERSION",
        help="the oldest TensorFlow Lite that has to run .tflite files: 2.14; today's by default",
    )
    serving = parser.add_argument_group("SavedModels")
    serving.add_argument("--top-k", type=int, default=5, help="labels to return; 5 by default")
    serving.add_argument(
        "--max-pixels",
        type=int,
        default=50_000_000,
        metavar="N",
        help="size of the largest image to decode; 50,000,000 by default",
    )
    serving.add_argument(
        "--jit-compile",
        action="store_true",
        help="compile with XLA, if that is faster on this machine",
    )
    about = parser.add_argument_group("model information")
    about.add_argument("--author", default="")
    about.add_argument("--license", default="", help="of the model's weights")
    about.add_argument("--model-version", dest="version", default="1")
    return parser


if __name__ == "__main__":
    hide_chatter()
    main()
