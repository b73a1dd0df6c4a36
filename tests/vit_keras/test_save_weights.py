"""Written weights load in timm's and transformers' own code and give the same logits."""

import importlib.util
import json
import logging
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from support.tiny import tiny_model

from vit_keras import InputError, Preprocessing, from_weights, save_weights
from vit_keras.tasks.masked import build_mim
from vit_keras.weights.save import FORMATS

IMAGES = np.random.default_rng(0).standard_normal((2, 16, 24, 3)).astype("float32")
TOLERANCE = 2e-5
PEERS = pathlib.Path(__file__).parents[1] / "support" / "peers.py"
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tanh GELU": {"gelu": "tanh"},
    "mean": {"pooling": "mean"},
    "mean, norm after pooling": {"pooling": "mean", "cls_token": True, "norm_after_pooling": True},
    "map": {"pooling": "map"},
    "distilled": {"distilled": True},
    "DeiT III": {"prefix_positions": False, "layer_scale": 0.3},
    "registers": {"registers": 2, "prefix_positions": False},
    "CLIP": {"pre_norm": True, "norm_epsilon": 1e-5, "gelu": "quick"},
    "q/k norm": {"qk_norm": True},
    "no bias": {"qkv_bias": False},
    "SwiGLU": {"swiglu": True, "layer_scale": 0.1},
    "features": {"num_classes": 0},
    "pre_logits": {"head_width": 20},
    "fixed positions": {"positions": "sincos2d"},
    "SimpleViT": {"positions": "sincos2d", "pooling": "mean", "gelu": "tanh"},
    "grey": {"channels": 1, "preprocessing": Preprocessing((16, 24), mean=(0.5,), std=(0.5,))},
}
OTHERS: dict[str, dict[str, Any]] = {
    "SL-ViT": {"stem": "shifted_patches", "locality_attention": True},
    "CCT": {"stem": "convolutions", "pooling": "sequence"},
    "local": {"locality_attention": True},
}
OPTIONS |= OTHERS
# Models that a format has no place for.
REFUSED = {
    "timm": {*OTHERS, "pre_logits"},
    "huggingface": {
        *OTHERS,
        "mean",
        "mean, norm after pooling",
        "map",
        "DeiT III",
        "registers",
        "CLIP",
        "q/k norm",
        "SwiGLU",
        "SimpleViT",
        "pre_logits",
    },
    "google": {
        *OTHERS,
        "mean, norm after pooling",
        "distilled",
        "DeiT III",
        "registers",
        "CLIP",
        "q/k norm",
        "no bias",
        "SwiGLU",
    },
}


def name_in(format):
    return "weights.npz" if format == "google" else "folder"


@pytest.mark.parametrize(
    ("format", "option"), [(f, option) for f in REFUSED for option in sorted(REFUSED[f])]
)
def test_models_are_refused_by_formats_without_a_place_for_them(format, option, tmp_path):
    with pytest.raises(InputError, match="files have no place for"):
        save_weights(tiny_model(**OPTIONS[option]), tmp_path / name_in(format), format=format)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_peers_compute_the_same_logits(tmp_path):
    for peer in ("torch", "timm", "transformers"):
        if importlib.util.find_spec(peer) is None:
            pytest.skip(f"{peer} is not installed; pip install -e '.[peers]'")
    jobs: list[dict[str, Any]] = []
    expected = {}
    for option, options in OPTIONS.items():
        model = tiny_model(**options)
        for format in FORMATS:
            # timm has no pre_logits; test_weights_google.py reads such files.
            if option in REFUSED[format] or (format, option) == ("google", "pre_logits"):
                continue
            folder = tmp_path / f"{len(jobs)}"
            folder.mkdir()
            images = IMAGES[..., : model.config.channels]
            np.save(folder / "images.npy", images)
            save_weights(model, folder / name_in(format), format=format)
            job = {"format": format, "config": model.config.to_fields()}
            job["path"] = str(folder / name_in(format))
            job |= {name: str(folder / f"{name}.npy") for name in ("images", "logits")}
            jobs.append(job)
            expected[f"{format}: {option}"] = (folder / "logits.npy", np.asarray(model(images)))
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))

    subprocess.run([sys.executable, PEERS, tmp_path / "jobs.json"], check=True)

    assert len(expected) > 25
    for case, (path, logits) in expected.items():
        assert np.abs(logits).max() > 0.1, case
        difference = np.abs(np.load(path) - logits).max()
        assert difference < TOLERANCE, case


@pytest.mark.parametrize("format", ["timm", "huggingface"])
def test_written_folders_load_as_the_same_model(format, tmp_path):
    model = tiny_model(
        class_names=["cat", "dog", "owl", "emu", "yak"],
        preprocessing=Preprocessing((16, 24), "crop", 0.8, "bicubic", (0.1, 0.2, 0.3), (1, 2, 3)),
        position_resize={"timm": "bicubic_antialias", "huggingface": "bicubic"}[format],
    )
    save_weights(model, tmp_path / "folder", format=format)

    again = from_weights(tmp_path / "folder")

    assert again.config == model.config
    assert again.class_names == model.class_names
    assert again.preprocessing == model.preprocessing
    np.testing.assert_array_equal(again(IMAGES), model(IMAGES))


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_the_resize_rule_is_written_for_timm(resize, tmp_path):
    model = tiny_model(preprocessing=Preprocessing((16, 24), resize))
    save_weights(model, tmp_path / "folder", format="timm")

    assert from_weights(tmp_path / "folder").preprocessing.resize == resize


def test_borders_are_refused_for_hugging_face(tmp_path):
    model = tiny_model(preprocessing=Preprocessing((16, 24), "pad"))

    with pytest.raises(InputError, match="has no preprocessing with resize='pad'"):
        save_weights(model, tmp_path / "folder", format="huggingface")

    assert not (tmp_path / "folder").exists()


def test_a_single_file_is_written_by_its_suffix(tmp_path):
    model = tiny_model()
    save_weights(model, tmp_path / "model.safetensors", format="timm")

    again = from_weights(tmp_path / "model.safetensors", weights_image_size=(16, 24))

    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    np.testing.assert_array_equal(again(IMAGES), model(IMAGES))


def test_fields_that_googles_files_do_not_contain_are_warned_about(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    save_weights(tiny_model(), tmp_path / "weights.npz", format="google")

    assert "google files do not contain gelu" in caplog.text


def test_nothing_is_overwritten_or_half_written(tmp_path):
    (tmp_path / "folder").mkdir()
    model = tiny_model()

    with pytest.raises(InputError, match="exists; name a folder that does not"):
        save_weights(model, tmp_path / "folder", format="timm")
    with pytest.raises(InputError, match="weights are .npz files"):
        save_weights(model, tmp_path / "weights.safetensors", format="google")
    with pytest.raises(InputError, match="one of google, timm, huggingface. Got format='flax'"):
        save_weights(model, tmp_path / "weights", format="flax")
    with pytest.raises(InputError, match="only classifiers and their features"):
        mim = build_mim("vit_b16", image_size=16, patch_size=8, width=16, depth=1, heads=2)
        save_weights(mim, tmp_path / "mim", format="timm")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
