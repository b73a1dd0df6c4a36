"""python -m export MODEL --format savedmodel tflite --out FOLDER"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no start-up chatter from TensorFlow


def main(argv=None):
    arguments = _parser().parse_args(argv)

    # Imported late: TensorFlow takes seconds, --help should not.
    from export.export import export
    from export.formats import FORMATS, KINDS
    from export.options import Options
    from vit_keras.errors import one_line_errors

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
                arguments.input_type,
                arguments.batch,
                arguments.max_drop,
                arguments.allow_drop,
                arguments.author,
                arguments.license,
                arguments.model_version,
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
        help="savedmodel, tflite, web, or all; savedmodel and tflite by default",
    )
    parser.add_argument(
        "--quantization",
        nargs="+",
        default=["float32"],
        help="of tflite: float32, float16, dynamic, int8, int16x8, or all; of web the first three; "
        "float32 by default",
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
    tflite = parser.add_argument_group(".tflite files")
    tflite.add_argument(
        "--input-type", default="uint8", help="uint8 pixels, or float32, normalised by the caller"
    )
    tflite.add_argument("--batch", type=int, default=1, help="images at a time; 1 by default")
    tflite.add_argument("--author", default="", help="of the model, for the metadata")
    tflite.add_argument("--license", default="", help="of its weights")
    tflite.add_argument("--model-version", default="1")
    return parser


def _chosen(names, table, what):
    """The names, or all there are for "all"; raises InputError for an unknown one."""
    from vit_keras.errors import InputError, did_you_mean

    for name in names:
        if name not in (*table, "all"):
            raise InputError(f"no {what} {name!r}{did_you_mean(name, [*table, 'all'])}")
    return list(table) if "all" in names else names


if __name__ == "__main__":
    main()
