"""Weights that this project wrote -> the logits that timm and transformers compute with them.

python tests/peers.py JOBS.json, in a process without TensorFlow: torch and it do not get along in
one. Each job is {"format", "path", "images", "logits", "config"}: two .npy files and a ViTConfig.
"""

import json
import sys

import numpy as np
import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:  # the one of some CPU builds has no operators; timm needs none of them
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm
import transformers


def read_by_timm(path, config):
    return timm.create_model(f"local-dir:{path}", pretrained=True)


def read_by_transformers(path, config):
    kind = transformers.ViTForImageClassification
    if config["distilled"]:
        kind = transformers.DeiTForImageClassificationWithTeacher
    if not config["num_classes"]:
        kind = transformers.ViTModel
    model, about = kind.from_pretrained(path, output_loading_info=True)
    missing = {name for name in about["missing_keys"] if "pooler" not in name}
    if missing | set(about["unexpected_keys"]) | set(about["mismatched_keys"]):
        raise ValueError(f"{path} was read with {about}")
    return model


def read_google_by_timm(path, config):
    cls = config["cls_token"] if config["cls_token"] is not None else config["pooling"] == "cls"
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=config["image_size"],
        patch_size=config["patch_size"],
        embed_dim=config["width"],
        depth=config["depth"],
        num_heads=config["heads"],
        mlp_ratio=config["mlp_width"] / config["width"],
        num_classes=config["num_classes"],
        in_chans=config["channels"],
        class_token=cls,
        fc_norm=False,
        global_pool={"cls": "token", "mean": "avg", "map": "map"}[config["pooling"]],
        act_layer={"exact": "gelu", "tanh": "gelu_tanh"}[config["gelu"]],
    )
    model.load_pretrained(path)
    return model


READERS = {
    "timm": read_by_timm,
    "huggingface": read_by_transformers,
    "google": read_google_by_timm,
}


def run(job):
    model = READERS[job["format"]](job["path"], job["config"]).eval()
    images = torch.from_numpy(np.load(job["images"]).transpose(0, 3, 1, 2))
    with torch.inference_mode():
        found = model(images)
    if hasattr(found, "last_hidden_state"):
        found = found.last_hidden_state[:, 0]
    np.save(job["logits"], getattr(found, "logits", found).numpy())


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        for job in json.load(file):
            run(job)
