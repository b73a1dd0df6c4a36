"""Values that neither a checkpoint nor the caller specifies are reported, field by field."""

import logging
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import numpy_vit
from support.checkpoints import CASES, FIXTURES, PLAIN, changed_checkpoint, checkpoint_path

from vit_keras import Preprocessing, build_vit, from_weights, get_config, load_weights
from vit_keras.weights.assumption import Assumption, describe
from vit_keras.weights.read import read_weights

NORMALISATION = {"mean", "std"}
TIMM = NORMALISATION | {"heads"}
HUGGING_FACE = NORMALISATION | {"heads", "norm_epsilon", "gelu"}
# The fields that are assumed for each fixture without its settings files.
ASSUMED = {
    "timm_plain": TIMM | {"pooling"},
    "timm_gap_cls": TIMM,
    "timm_distilled": TIMM | {"pooling"},
    "timm_deit3": TIMM | {"pooling"},
    "timm_dinov2": TIMM | {"pooling"},
    "timm_dinov2_reg": TIMM | {"pooling"},
    "timm_reg_gap": TIMM,
    "timm_siglip": TIMM | {"gelu"},
    "timm_clip_quick": TIMM | {"gelu", "pooling"},
    "timm_clip_exact": TIMM | {"gelu", "pooling"},
    "timm_qk_norm": NORMALISATION | {"pooling"},
    "timm_prelogits": TIMM | {"pooling"},
    "timm_swiglu": TIMM | {"pooling"},
    "timm_no_qkv_bias": TIMM | {"pooling"},
    "hf_vit": HUGGING_FACE,
    "hf_vit_model": HUGGING_FACE,
    "hf_deit_teacher": HUGGING_FACE,
    "hf_deit": HUGGING_FACE,
    "hf_mim": HUGGING_FACE,
    "hf_mae": HUGGING_FACE | {"decoder.heads"},
    "hf_dinov2": HUGGING_FACE,
    "fb_deit": {"heads"},
    "fb_deit_distilled": {"heads"},
    "fb_mae": {"heads", "decoder.heads"},
    "fb_mae_encoder": {"heads"},
    "fb_deit3": {"heads"},
}


def weights_file(folder, case):
    """A fixture's weights in a folder without settings."""
    path = checkpoint_path(case)
    if path.is_dir():
        path = path / "model.safetensors"
    return shutil.copy(path, folder / path.name)


def used_value(weights, field):
    """The value that a field has after reading."""
    if field in NORMALISATION:
        return weights.preprocessing[field]
    if field == "decoder.heads":
        return weights.decoder.heads
    return weights.config.to_fields()[field]


def test_every_fixture_has_expectations():
    assert set(ASSUMED) == set(CASES)


@pytest.mark.parametrize("case", ASSUMED)
def test_each_assumed_field_is_reported_with_its_value(case, tmp_path):
    weights = read_weights(weights_file(tmp_path, case))

    assert sorted(a.field for a in weights.assumptions) == sorted(ASSUMED[case])
    for assumption in weights.assumptions:
        assert assumption.value == used_value(weights, assumption.field)
        assert assumption.why


@pytest.mark.parametrize("case", ASSUMED)
def test_an_override_removes_its_own_assumption(case, tmp_path):
    path = weights_file(tmp_path, case)
    assumptions = read_weights(path).assumptions
    for assumption in assumptions:
        if assumption.field in NORMALISATION or assumption.field == "decoder.heads":
            continue  # not fields of ViTConfig

        overridden = read_weights(path, overrides={assumption.field: assumption.value})

        assert overridden.assumptions == tuple(a for a in assumptions if a != assumption)


def test_google_files_need_no_assumptions(tmp_path):
    np.savez(tmp_path / "weights.npz", **numpy_vit.random_arrays())

    assert read_weights(tmp_path / "weights.npz").assumptions == ()


def test_preprocessing_of_the_caller_is_not_assumed(tmp_path, caplog):
    path = weights_file(tmp_path, "hf_vit")

    from_weights(path, preprocessing=Preprocessing(24))

    assert "assumed norm_epsilon=1e-12, gelu='exact'" in caplog.text
    assert "mean" not in caplog.text


def test_a_normalisation_for_other_channels_is_assumed(tmp_path, caplog):
    arrays = load_file(PLAIN)
    arrays["patch_embed.proj.weight"] = arrays["patch_embed.proj.weight"][:, :1]
    settings = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    path = changed_checkpoint(tmp_path, "timm_plain", arrays, **settings)

    model = from_weights(path)

    assert model.preprocessing.mean == (0.5,)
    assert "assumed mean=(0.5,), std=(0.5,)" in caplog.text


def test_a_file_named_quickgelu_needs_no_assumption_about_it(tmp_path):
    source = FIXTURES / "timm_clip_quick" / "model.safetensors"
    path = shutil.copy(source, tmp_path / "clip_quickgelu.safetensors")

    weights = read_weights(path)

    assert weights.config.block.gelu == "quick"
    assert "gelu" not in {assumption.field for assumption in weights.assumptions}


def test_reports_have_the_assumptions(tmp_path):
    path = weights_file(tmp_path, "hf_vit")

    report = load_weights(build_vit(get_config(from_weights(path))), path)

    assert {assumption.field for assumption in report.assumptions} == ASSUMED["hf_vit"]
    assert "assumed norm_epsilon=1e-12, gelu='exact': usual" in str(report)


def test_assumptions_with_one_reason_are_one_line():
    assumptions = [
        Assumption("a", 1, "why"),
        Assumption("b", "x", "other"),
        Assumption("c", 2, "why"),
    ]

    assert describe(assumptions) == ["assumed a=1, c=2: why", "assumed b='x': other"]


def test_assumptions_are_logged(caplog):
    from_weights(checkpoint_path("timm_clip_exact"))

    assert "assumed gelu='exact'" in caplog.text
    assert "assumed heads=2" in caplog.text
    assert "assumed mean=" in caplog.text


def test_overrides_are_not_assumed(caplog):
    from_weights(checkpoint_path("timm_clip_exact"), gelu="quick", heads=2)

    assert "assumed gelu" not in caplog.text
    assert "assumed heads" not in caplog.text


def test_differences_of_computation_are_warned_about(caplog):
    model = build_vit(get_config(from_weights(PLAIN)), gelu="tanh")

    load_weights(model, PLAIN)

    assert "trained with gelu='exact', and this model has 'tanh'" in caplog.text


def test_differences_of_normalisation_are_warned_about(caplog):
    path = checkpoint_path("timm_deit3")

    load_weights(build_vit(get_config(from_weights(path))), path)

    assert "trained with mean=(0.485, 0.456, 0.406), and this model has (0.5" in caplog.text


def test_messages_come_from_the_librarys_logger(caplog):
    caplog.set_level(logging.WARNING)
    from_weights(PLAIN, image_size=32)

    assert {record.name for record in caplog.records} == {"vit_keras"}
    assert "positions resized from 3x3 to 4x4 patches (bicubic_antialias)" in caplog.text
