"""A variant's name and overrides -> ViTConfig: the table of published sizes."""

from vit_keras.config import ViTConfig
from vit_keras.utils.errors import InputError, did_you_mean


def _vit(patch_size, width, depth, heads, mlp_width, **options):
    return ViTConfig.from_fields(
        patch_size=patch_size,
        width=width,
        depth=depth,
        heads=heads,
        mlp_width=mlp_width,
        **options,
    )


_SIZES = {  # width, depth, heads, mlp_width
    "ti": (192, 12, 3, 768),
    "s": (384, 12, 6, 1536),
    "b": (768, 12, 12, 3072),
    "l": (1024, 24, 16, 4096),
    "h": (1280, 32, 16, 5120),
}

_CCT = {"stem": "convolutions", "pooling": "sequence", "qkv_bias": False}

# Adding a variant: one row here, with its source, and its parameter count in
# tests/vit_keras/test_variants.py.
VARIANTS = {
    # arXiv:2010.11929, table 1; Ti and S as in arXiv:2106.10270, table 2.
    "vit_ti16": _vit(16, *_SIZES["ti"]),
    "vit_s32": _vit(32, *_SIZES["s"]),
    "vit_s16": _vit(16, *_SIZES["s"]),
    "vit_b32": _vit(32, *_SIZES["b"]),
    "vit_b16": _vit(16, *_SIZES["b"]),
    "vit_l32": _vit(32, *_SIZES["l"]),
    "vit_l16": _vit(16, *_SIZES["l"]),
    "vit_h14": _vit(14, *_SIZES["h"]),
    # S/8 and B/8: the patch-8 models of DINO, arXiv:2104.14294, table 1.
    "vit_s8": _vit(8, *_SIZES["s"]),
    "vit_b8": _vit(8, *_SIZES["b"]),
    # M, g and G: big_vision's table of sizes (models/vit.py, decode_variant); g and G are
    # described in arXiv:2106.04560, table 2.
    "vit_m16": _vit(16, 512, 12, 8, 2048),
    "vit_g14": _vit(14, 1408, 40, 16, 6144),
    "vit_gigantic14": _vit(14, 1664, 48, 16, 8192),
    # arXiv:2305.13035, the shape-optimised model; mlp_width 4304.
    "vit_so400m14": _vit(14, 1152, 27, 16, 4304),
    # Hybrids: arXiv:2106.10270, section 3.1, and R50+B/16 of arXiv:2010.11929; patch_size counts
    # the pixels of the image that become a token, 32 for R+Ti/16, too.
    "vit_r_ti16": _vit(32, *_SIZES["ti"], stem="resnet"),
    "vit_r26_s32": _vit(32, *_SIZES["s"], stem="resnet", stem_blocks=(2, 2, 2, 2)),
    "vit_r50_b16": _vit(16, *_SIZES["b"], stem="resnet", stem_blocks=(3, 4, 9)),
    "vit_r50_l32": _vit(32, *_SIZES["l"], stem="resnet", stem_blocks=(3, 4, 6, 3)),
    # DeiT: arXiv:2012.12877, table 1.
    **{
        f"deit_{size}16{suffix}": _vit(
            16, *_SIZES[size], distilled=bool(suffix), position_resize="bicubic"
        )
        for size in ("ti", "s", "b")
        for suffix in ("", "_distilled")
    },
    # DeiT III: arXiv:2204.07118, section 3; layer scale 1e-4 as in the repository's models_v2.py.
    **{
        f"deit3_{size}{patch}": _vit(
            patch,
            *_SIZES[size],
            prefix_positions=False,
            layer_scale=1e-4,
            position_resize="bicubic",
        )
        for size, patch in (("s", 16), ("b", 16), ("l", 16), ("h", 14))
    },
    # SimpleViT: arXiv:2205.01580, table 1 and big_vision's configs/vit_s16_i1k.py.
    **{
        f"simple_vit_{size}16": _vit(
            16, *_SIZES[size], pooling="mean", positions="sincos2d", gelu="tanh"
        )
        for size in ("ti", "s", "b", "l")
    },
    # The image towers of SigLIP (arXiv:2303.15343) and CLIP (arXiv:2103.00020, table 20).
    "siglip_b16": _vit(16, *_SIZES["b"], pooling="map", gelu="tanh"),
    "siglip_l16": _vit(16, *_SIZES["l"], pooling="map", gelu="tanh", image_size=256),
    "siglip_so400m14": _vit(14, 1152, 27, 16, 4304, pooling="map", gelu="tanh"),
    **{
        f"clip_{size}{patch}": _vit(
            patch, *_SIZES[size], pre_norm=True, norm_epsilon=1e-5, gelu="quick"
        )
        for size, patch in (("b", 32), ("b", 16), ("l", 14))
    },
    # DINOv2: arXiv:2304.07193, table 16; with registers: arXiv:2309.16588.
    **{
        f"dinov2_{size}14{'_registers' if registers else ''}": _vit(
            14,
            *shape,
            image_size=518,
            layer_scale=1e-5,
            registers=registers,
            prefix_positions=not registers,
            swiglu=size == "g",
        )
        for size, shape in {**_SIZES, "g": (1536, 40, 24, 4096)}.items()
        if size in ("s", "b", "l", "g")
        for registers in (0, 4)
    },
    # For small data. SL-ViT: arXiv:2112.13492, section 4.1; CCT: arXiv:2104.05704, table 12.
    "sl_vit_ti8": _vit(
        8,
        192,
        9,
        12,
        384,
        image_size=64,
        stem="shifted_patches",
        locality_attention=True,
        qkv_bias=False,
    ),
    "cct_2_3x2": _vit(4, 128, 2, 2, 128, image_size=32, **_CCT),
    "cct_7_3x1": _vit(2, 256, 7, 4, 512, image_size=32, **_CCT),
    "cct_14_7x2": _vit(16, 384, 14, 6, 1152, **{**_CCT, "stem_kernel": 7}),
    # This project's, for images of 28-64 px: Ti with small patches; mini, half as deep; nano, whose
    # many short heads and two blocks won on 6,000 images of Fashion-MNIST; CCT-2/3x2 narrowed.
    "vit_ti2": _vit(2, *_SIZES["ti"], image_size=32),
    "vit_ti4": _vit(4, *_SIZES["ti"], image_size=32),
    "vit_ti7": _vit(7, *_SIZES["ti"], image_size=28),
    "vit_mini4": _vit(4, 192, 6, 3, 768, image_size=32),
    "vit_mini7": _vit(7, 192, 6, 3, 768, image_size=28),
    "vit_mini8": _vit(8, 192, 6, 3, 768, image_size=64),
    "cct_mini_3x2": _vit(4, 96, 2, 3, 192, image_size=32, stem_width=32, **_CCT),
    "vit_nano7": _vit(7, 128, 2, 16, 256, image_size=28),
}


def resolve_config(variant, **overrides):
    """Gives the ViTConfig of a variant's name (or of a ViTConfig) with fields replaced.

    Raises:
        InputError: unknown variant or field, with the nearest names.
    """
    if isinstance(variant, ViTConfig):
        config = variant
    elif variant in VARIANTS:
        config = VARIANTS[variant]
    else:
        raise InputError(
            f"variant must be a row of vit_keras.VARIANTS or a ViTConfig. "
            f"Got {variant!r}{did_you_mean(variant, VARIANTS)}."
        )
    return config.replace(**overrides)
