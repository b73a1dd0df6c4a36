"""Figures of attention, positions and filters, and the command that writes them."""

import keras
import numpy as np
import pytest
from PIL import Image
from support.tiny import photograph, tiny_model

from training.__main__ import main
from training.reports.attention import filters, heads, overlays, positions
from vit_keras import attention_maps, attention_rollout, position_similarity


def test_overlays_show_the_rollout_over_the_model_input():
    model = tiny_model(class_names=("ant", "bee", "c$t$", "dog", "elk"))
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3)).astype("float32")

    figure = overlays(model, images)

    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == 10
    normalised = model.preprocessing.normalise(images)
    rollout = np.asarray(attention_rollout(model, normalised))
    answers = np.asarray(keras.ops.softmax(model(normalised)))
    for number, (image, over) in enumerate(zip(drawn[::2], drawn[1::2], strict=True)):
        pixels = np.asarray(image.images[0].get_array())
        np.testing.assert_allclose(pixels, images[number] / 255, atol=1e-6)
        np.testing.assert_array_equal(over.images[1].get_array(), rollout[number])
        assert over.images[1].get_extent() == [-0.5, 23.5, 15.5, -0.5]  # the whole image
        name = model.class_names[answers[number].argmax()].replace("$", r"\$")
        assert image.get_title() == f"{name}, {answers[number].max():.0%}"


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_heads_show_the_attention_of_the_pooled_tokens(pooling):
    model = tiny_model(pooling=pooling, registers=2)
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3)).astype("float32")
    maps = attention_maps(model, model.preprocessing.normalise(image))

    figure = heads(model, image)

    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert len(shown) == 2 * 3
    last = np.asarray(maps[1])[0, 2]  # head 2 of block 1
    expected = last[0, 3:] if pooling == "cls" else last[2:, 2:].mean(axis=0)
    np.testing.assert_allclose(shown[5], expected.reshape(4, 6), atol=1e-6)


def test_figures_of_positions_and_filters_have_one_image_each():
    model = tiny_model(image_size=(16, 48))

    drawn = [axes for axes in positions(model).axes if axes.images]
    shown = [np.asarray(axes.images[0].get_array()) for axes in drawn]
    assert len(shown) == 4 * 8  # of 4 x 12 patches
    np.testing.assert_allclose(shown[-1], position_similarity(model)[3, 11], atol=1e-6)
    assert sum(bool(axes.images) for axes in filters(model).axes) == 28


def test_explain_command_writes_pictures_or_a_one_line_error(tmp_path, capsys):
    model = tiny_model()
    model.save(tmp_path / "model.keras")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        photograph(1, (200, 30, 30)).save(tmp_path / folder / "photo.jpg")
    arguments = [str(tmp_path / name) for name in ("model.keras", "a", "b/photo.jpg")]

    main(["explain", *arguments, "--out", str(tmp_path / "out"), "--fusion", "max"])

    names = ["photo-rollout", "photo-heads", "photo-2-rollout", "photo-2-heads"]
    written = [tmp_path / "out" / f"{name}.png" for name in (*names, "positions", "filters")]
    assert capsys.readouterr().out.split() == [str(path) for path in written]
    for path in written:
        with Image.open(path) as picture:
            assert min(picture.size) > 200
    (tmp_path / "b" / "broken.jpg").write_bytes(b"not an image")
    with pytest.raises(SystemExit, match="^Error: .*broken.jpg: Unknown image file format"):
        main(["explain", *arguments, str(tmp_path / "b"), "--out", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()
