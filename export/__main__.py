"""python -m export MODEL.keras --format savedmodel tflite --out FOLDER"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no start-up chatter from TensorFlow


def main(argv=None):
    parser = argparse.ArgumentParser(
        "python -m export",
        description="Writes a trained model in other formats, and verifies each in its runtime.",
    )
    parser.add_argument("model", metavar="MODEL", help="a .keras file")
    parser.add_argument(
        "--format", nargs="+", default=["savedmodel", "tflite"], help="savedmodel, tflite; or both"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER")
    parser.add_argument(
        "--images", metavar="FOLDER", help="images to verify on; samples/ beside MODEL by default"
    )
    arguments = parser.parse_args(argv)

    # Imported late: TensorFlow takes seconds, --help should not.
    from export.export import export
    from export.formats import FORMATS
    from vit_keras.errors import InputError, did_you_mean, one_line_errors

    with one_line_errors():
        for name in arguments.format:
            if name not in FORMATS:
                raise InputError(f"no export format {name!r}{did_you_mean(name, FORMATS)}")
        export(arguments.model, arguments.format, arguments.out, arguments.images)


if __name__ == "__main__":
    main()
