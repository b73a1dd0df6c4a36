"""python -m export MODEL --format savedmodel tflite onnx --out FOLDER"""

import argparse
import dataclasses
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no start-up chatter from TensorFlow


def main(argv=None):
    arguments = _parser().parse_args(argv)

    # Imported late: TensorFlow takes seconds, --help should not.
    from export.export import export
    from export.formats import FORMATS, KINDS
    from export.options import Options
    from vit_keras.utils.errors import one_line_errors

    with one_line_errors():
        export(
            arguments.model,
            _chosen(arguments.format, FORMATS, "export format"),
            arguments.out,
            _chosen(arguments.quantization, KINDS, "quantization"),
            arguments.merge_tokens,
            arguments.data,
            arguments.data_dir,
            arguments.images,
            Options(
                **{
                    field.name: getattr(arguments, field.name)
                    for field in dataclasses.fields(Options)
                },
            ),
        )


def _parser():
    parser = argparse.ArgumentParser(
        "python -m export",
        description="Writes a trained model in other formats, and verifies each in its runtime.",
    )
    parser.add_argument("model", metavar="MODEL", help="a .keras file")
    parser.add_argument("--out", required=True, metavar="FOLDER")
    parser.add_argument(
        "--format",
        nargs="+",
        default=["savedmodel", "tflite"],
        help="savedmodel, tflite, onnx, web, or all; savedmodel and tflite by default",
    )
    parser.add_argument(
        "--quantization",
        nargs="+",
        default=["float32"],
        help="float32, float16, dynamic, int8, int16x8, or all, for each format in those that it "
        "has; float32 by default",
    )
    parser.add_argument(
        "--merge-tokens",
        nargs="+",
        type=int,
        default=[0],
        metavar="R",
        help="patches that each block merges into others, for speed; each given number is written",
    )
    images = parser.add_argument_group("images to verify, calibrate and choose on")
    images.add_argument(
        "--data",
        default="",
        help="as for `python -m training fit`; what the model was trained on by default",
    )
    images.add_argument("--data-dir", default="", help="where TFDS or fashion_mnist's files are")
    images.add_argument(
        "--images", type=int, default=1000, metavar="N", help="to judge by, at the most; 1000"
    )
    budget = parser.add_argument_group("what may be lost")
    budget.add_argument(
        "--max-drop", type=float, default=0.01, help="of the accuracy, a fraction; 0.01 by default"
    )
    budget.add_argument(
        "--allow-drop", action="store_true", help="write what loses more, all the same"
    )
    parser.add_argument(
        "--attention", action="store_true", help="also tell how much each patch of an image counted"
    )
    files = parser.add_argument_group(".tflite and .onnx files")
    files.add_argument(
        "--preprocess",
        default="in-graph",
        help="in-graph, for uint8 pixels, or none, for float32 that the caller has normalised",
    )
    files.add_argument(
        "--batch", type=int, help="images at a time; one in .tflite, any number in .onnx by default"
    )
    serving = parser.add_argument_group("SavedModels")
    serving.add_argument("--top-k", type=int, default=5, help="labels to name; 5 by default")
    serving.add_argument(
        "--max-pixels",
        type=int,
        default=50_000_000,
        metavar="N",
        help="of an image; larger ones are refused; 50,000,000 by default",
    )
    serving.add_argument(
        "--jit-compile", action="store_true", help="compile by XLA, if that is faster here"
    )
    about = parser.add_argument_group("what artefacts tell about the model")
    about.add_argument("--author", default="")
    about.add_argument("--license", default="", help="of its weights")
    about.add_argument("--model-version", dest="version", default="1")
    return parser


def _chosen(names, table, what):
    """The names, or all there are for "all"; raises InputError for an unknown one."""
    from vit_keras.utils.errors import InputError, did_you_mean

    for name in names:
        if name not in (*table, "all"):
            raise InputError(f"no {what} {name!r}{did_you_mean(name, [*table, 'all'])}")
    return list(table) if "all" in names else names


if __name__ == "__main__":
    main()
