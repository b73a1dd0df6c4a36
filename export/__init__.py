"""model.keras -> artefacts that run without this project, each verified in its own runtime."""


def to_saved_model(model, folder, **options):
    """Writes a SavedModel for TF Serving, see `export.saved_model.writer.write_saved_model`.

    Args:
        model: ViT, or the path of its .keras file.
        folder: where it goes, `saved_model/1` for instance; an earlier one there is replaced.
        **options: as in `to_tflite`, but `quantization`.

    Returns:
        as `to_tflite`.
    """
    from export.export import write  # TensorFlow takes seconds to import

    return write(model, "savedmodel", folder, **options)


def to_tflite(model, path, quantization="float32", **options):
    """Writes a .tflite file, after it has answered like the Keras model.

    Args:
        model: ViT, or the path of its .keras file.
        path: the file to write.
        quantization: "float32", "float16", "dynamic", "int8" or "int16x8".
        **options: `merge_tokens`, so many in every block; `data`, `data_dir` and `count`, images to
            verify on, as in `export.images.load_images`; the fields of `export.options.Options`.

    Returns:
        what was found, a dict: see `export.export.publish`.

    Raises:
        InputError: where the artefact is not good enough, or cannot be made; nothing is written.
    """
    from export.export import write

    return write(model, "tflite", path, quantization, **options)


def to_onnx(model, path, quantization="float32", **options):
    """Writes a .onnx file, after it has answered like the Keras model in onnxruntime.

    Args:
        model: ViT, or the path of its .keras file.
        path: the file to write.
        quantization: "float32" or "dynamic".
        **options: as in `to_tflite`.

    Returns:
        as `to_tflite`.

    Raises:
        InputError: as `to_tflite`.
    """
    from export.export import write

    return write(model, "onnx", path, quantization, **options)


def to_web(model, folder, quantization="float32", **options):
    """Writes a static page that classifies pictures in a browser, see `export.web.writer`.

    Args:
        model: ViT, or the path of its .keras file.
        folder: where it goes; an earlier page there is replaced when this one is complete.
        quantization: "float32", "float16" or "dynamic".
        **options: as in `to_tflite`, but `batch` and `preprocess`.

    Returns:
        as `to_tflite`, of the .tflite file in the page, judged in LiteRT's interpreter.
    """
    from export.export import write

    return write(model, "web", folder, quantization, **options)
