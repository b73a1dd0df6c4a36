"""Short names of published checkpoints: their addresses, licences and accuracies.

The URLs, architectures and licences are those of timm 1.0's and the authors' own tables, read in
November 2026; the files may have changed since. A licence is the one that the authors state.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Published:
    """One row of PUBLISHED.

    Attributes:
        source: an https:// or hf:// address, as for `from_weights`.
        variant: row of VARIANTS with the same architecture.
        licence: SPDX identifier.
        accuracy: fraction of ImageNet-1k's validation images classified correctly; None for
            checkpoints without such a classifier.
        reported_by: who reports that accuracy for this file.
        settings: fields of ViTConfig that the file does not specify.
    """

    source: str
    variant: str
    licence: str
    accuracy: float | None = None
    reported_by: str = ""
    settings: dict = dataclasses.field(default_factory=dict)


_AUGREG = "https://storage.googleapis.com/vit_models/augreg/"
_BIG_VISION = "https://storage.googleapis.com/big_vision/"
_TIMM_RESULTS = "timm, results-imagenet.csv of 2023"
_GOOGLE_README = "google-research/vision_transformer, README.md"
_DEIT_README = "facebookresearch/deit, README_deit.md"
_DEIT3_README = "facebookresearch/deit, README_revenge.md"


def _augreg(variant, file, accuracy=None, reported_by=_TIMM_RESULTS):
    """AugReg, arXiv:2106.10270."""
    by = reported_by if accuracy else ""
    return Published(f"{_AUGREG}{file}.npz", variant, "Apache-2.0", accuracy, by)


def _big_vision(variant, file, accuracy=None, reported_by="", **settings):
    return Published(
        f"{_BIG_VISION}{file}.npz", variant, "Apache-2.0", accuracy, reported_by, settings
    )


def _timm(variant, repository, accuracy=None, licence="Apache-2.0", by=_TIMM_RESULTS, **settings):
    by = by if accuracy else ""
    return Published(f"hf://timm/{repository}", variant, licence, accuracy, by, settings)


def _hub(variant, repository, accuracy=None, reported_by="", licence="Apache-2.0"):
    return Published(f"hf://{repository}", variant, licence, accuracy, reported_by)


_FT = "imagenet2012-steps_20k"
_TI = "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0"
_S32 = "S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0"
_S16 = "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0"
_B32 = "B_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.03-do_0.0-sd_0.0"
_B16 = "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0"
_B8 = "B_8-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0"
_L16 = "L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1"
_R_TI = "R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0"
_R26 = "R26_S_32-i21k-300ep-lr_0.001-aug_light0-wd_0.03-do_0.1-sd_0.1"
_R50 = "R50_L_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1"

PUBLISHED = {
    # Google's AugReg, pre-trained on ImageNet-21k and fine-tuned on ImageNet-1k.
    "vit_ti16_224_augreg": _augreg("vit_ti16", f"{_TI}--{_FT}-lr_0.03-res_224", 0.75454),
    "vit_ti16_384_augreg": _augreg(
        "vit_ti16", f"{_TI}--{_FT}-lr_0.03-res_384", 0.7822, _GOOGLE_README
    ),
    "vit_s32_224_augreg": _augreg("vit_s32", f"{_S32}--{_FT}-lr_0.03-res_224", 0.75994),
    "vit_s16_224_augreg": _augreg("vit_s16", f"{_S16}--{_FT}-lr_0.03-res_224", 0.81384),
    "vit_s16_384_augreg": _augreg(
        "vit_s16", f"{_S16}--{_FT}-lr_0.03-res_384", 0.8373, _GOOGLE_README
    ),
    "vit_b32_224_augreg": _augreg("vit_b32", f"{_B32}--{_FT}-lr_0.03-res_224", 0.80716),
    "vit_b16_224_augreg": _augreg("vit_b16", f"{_B16}--{_FT}-lr_0.01-res_224", 0.84532),
    "vit_b16_384_augreg": _augreg("vit_b16", f"{_B16}--{_FT}-lr_0.01-res_384", 0.85996),
    "vit_b8_224_augreg": _augreg("vit_b8", f"{_B8}--{_FT}-lr_0.01-res_224", 0.85798),
    "vit_l16_224_augreg": _augreg("vit_l16", f"{_L16}--{_FT}-lr_0.01-res_224", 0.85834),
    "vit_l16_384_augreg": _augreg("vit_l16", f"{_L16}--{_FT}-lr_0.01-res_384", 0.87084),
    "vit_r_ti16_224_augreg": _augreg("vit_r_ti16", f"{_R_TI}--{_FT}-lr_0.03-res_224", 0.71798),
    "vit_r26_s32_224_augreg": _augreg("vit_r26_s32", f"{_R26}--{_FT}-lr_0.03-res_224", 0.81864),
    "vit_r50_l32_224_augreg": _augreg("vit_r50_l32", f"{_R50}--{_FT}-lr_0.01-res_224", 0.84422),
    # The same with ImageNet-21k's 21,843 classes.
    "vit_ti16_224_augreg_i21k": _augreg("vit_ti16", _TI),
    "vit_s16_224_augreg_i21k": _augreg("vit_s16", _S16),
    "vit_b16_224_augreg_i21k": _augreg("vit_b16", _B16),
    "vit_l16_224_augreg_i21k": _augreg("vit_l16", _L16),
    # The paper's own B/16; its classifier was set to zero.
    "vit_b16_224_i21k": Published(
        "https://storage.googleapis.com/vit_models/imagenet21k/ViT-B_16.npz",
        "vit_b16",
        "Apache-2.0",
    ),
    # big_vision.
    "simple_vit_s16_90ep": _big_vision(
        "simple_vit_s16",
        "vit_s16_i1k_90ep",
        0.765,
        "google-research/big_vision, README.md",
        image_size=224,
    ),
    "simple_vit_s16_300ep": _big_vision(
        "simple_vit_s16", "vit_s16_i1k_300ep", 0.80, "arXiv:2205.01580, abstract", image_size=224
    ),
    "siglip_b16_224_webli": _big_vision("siglip_b16", "siglip/webli_en_b16_224_63724782"),
    "siglip_b16_224_webli_timm": _timm("siglip_b16", "vit_base_patch16_siglip_224.webli"),
    # timm's own.
    "vit_b16_224_augreg2": _timm("vit_b16", "vit_base_patch16_224.augreg2_in21k_ft_in1k", 0.85096),
    # DeiT and DeiT III from timm's repositories; accuracies are the authors'.
    "deit_ti16_224": _timm("deit_ti16", "deit_tiny_patch16_224.fb_in1k", 0.72202, by=_DEIT_README),
    "deit_s16_224": _timm("deit_s16", "deit_small_patch16_224.fb_in1k", 0.79854, by=_DEIT_README),
    "deit_b16_224": _timm("deit_b16", "deit_base_patch16_224.fb_in1k", 0.81846, by=_DEIT_README),
    "deit_ti16_distilled_224": _timm(
        "deit_ti16_distilled", "deit_tiny_distilled_patch16_224.fb_in1k", 0.74476, by=_DEIT_README
    ),
    "deit_s16_distilled_224": _timm(
        "deit_s16_distilled", "deit_small_distilled_patch16_224.fb_in1k", 0.81164, by=_DEIT_README
    ),
    "deit_b16_distilled_224": _timm(
        "deit_b16_distilled", "deit_base_distilled_patch16_224.fb_in1k", 0.83372, by=_DEIT_README
    ),
    "deit3_s16_224": _timm("deit3_s16", "deit3_small_patch16_224.fb_in1k", 0.814, by=_DEIT3_README),
    "deit3_b16_224": _timm("deit3_b16", "deit3_base_patch16_224.fb_in1k", 0.838, by=_DEIT3_README),
    "deit3_l16_224": _timm("deit3_l16", "deit3_large_patch16_224.fb_in1k", 0.849, by=_DEIT3_README),
    "deit3_h14_224": _timm("deit3_h14", "deit3_huge_patch14_224.fb_in1k", 0.852, by=_DEIT3_README),
    "deit3_s16_224_i22k": _timm(
        "deit3_s16", "deit3_small_patch16_224.fb_in22k_ft_in1k", 0.831, by=_DEIT3_README
    ),
    "deit3_b16_224_i22k": _timm(
        "deit3_b16", "deit3_base_patch16_224.fb_in22k_ft_in1k", 0.857, by=_DEIT3_README
    ),
    "deit3_l16_224_i22k": _timm(
        "deit3_l16", "deit3_large_patch16_224.fb_in22k_ft_in1k", 0.870, by=_DEIT3_README
    ),
    # Without a classifier. The authors' repository licenses MAE's weights as CC-BY-NC-4.0.
    "mae_b16_224": _timm("vit_b16", "vit_base_patch16_224.mae", licence="CC-BY-NC-4.0"),
    "mae_l16_224": _timm("vit_l16", "vit_large_patch16_224.mae", licence="CC-BY-NC-4.0"),
    "dinov2_s14": _timm("dinov2_s14", "vit_small_patch14_dinov2.lvd142m"),
    "dinov2_b14": _timm("dinov2_b14", "vit_base_patch14_dinov2.lvd142m"),
    "dinov2_l14": _timm("dinov2_l14", "vit_large_patch14_dinov2.lvd142m"),
    "dinov2_g14": _timm("dinov2_g14", "vit_giant_patch14_dinov2.lvd142m"),
    "dinov2_s14_registers": _timm("dinov2_s14_registers", "vit_small_patch14_reg4_dinov2.lvd142m"),
    "dinov2_b14_registers": _timm("dinov2_b14_registers", "vit_base_patch14_reg4_dinov2.lvd142m"),
    # CLIP's towers with their projection as a head; OpenAI's were trained with quick-GELU.
    "clip_b32_224_openai": _timm(
        "clip_b32", "vit_base_patch32_clip_224.openai", licence="MIT", gelu="quick"
    ),
    "clip_b16_224_openai": _timm(
        "clip_b16", "vit_base_patch16_clip_224.openai", licence="MIT", gelu="quick"
    ),
    "clip_b16_224_laion2b": _timm(
        "clip_b16", "vit_base_patch16_clip_224.laion2b", licence="MIT", gelu="exact"
    ),
    # Hugging Face's layout.
    "hf_vit_b16_224": _hub("vit_b16", "google/vit-base-patch16-224"),
    "hf_vit_b16_224_i21k": _hub("vit_b16", "google/vit-base-patch16-224-in21k"),
    "hf_deit_ti16_224": _hub("deit_ti16", "facebook/deit-tiny-patch16-224", 0.722, _DEIT_README),
    "hf_deit_b16_distilled_224": _hub(
        "deit_b16_distilled", "facebook/deit-base-distilled-patch16-224", 0.834, _DEIT_README
    ),
    "hf_mae_b16_224": _hub("vit_b16", "facebook/vit-mae-base", licence="CC-BY-NC-4.0"),
    "hf_dinov2_s14": _hub("dinov2_s14", "facebook/dinov2-small"),
    "hf_dinov2_b14": _hub("dinov2_b14", "facebook/dinov2-base"),
}
