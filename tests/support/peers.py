"""Weights that this project wrote -> the logits that timm and transformers compute with them.

python tests/support/peers.py JOBS.json, in a process without TensorFlow, which does not work in
one process with torch. Each job is {"format", "path", "images", "logits", "config"}: two .npy files
and the fields of a ViTConfig.
"""

import json
import sys
from typing import Any

import numpy as np
import torch

from benchmarks.import_timm import import_timm

timm = import_timm()
import transformers  # noqa: E402  it imports torchvision, as timm does


def read_timm(path, config):
    return timm.create_model(f"local-dir:{path}", pretrained=True)


def read_huggingface(path, config):
    model_class: Any = transformers.ViTForImageClassification
    if config["distilled"]:
        model_class = transformers.DeiTForImageClassificationWithTeacher
    if not config["num_classes"]:
        model_class = transformers.ViTModel
    model, report = model_class.from_pretrained(path, output_loading_info=True)
    missing = {name for name in report["missing_keys"] if "pooler" not in name}
    if missing | set(report["unexpected_keys"]) | set(report["mismatched_keys"]):
        raise ValueError(f"{path} was read with {report}")
    return model


def read_google(path, config):
    """Reads Google's files with timm."""
    cls_token = config["cls_token"]
    if cls_token is None:
        cls_token = config["pooling"] == "cls"
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=config["image_size"],
        patch_size=config["patch_size"],
        embed_dim=config["width"],
        depth=config["depth"],
        num_heads=config["heads"],
        mlp_ratio=config["mlp_width"] / config["width"],
        num_classes=config["num_classes"],
        in_chans=config["channels"],
        class_token=cls_token,
        fc_norm=False,
        global_pool={"cls": "token", "mean": "avg", "map": "map"}[config["pooling"]],
        act_layer={"exact": "gelu", "tanh": "gelu_tanh"}[config["gelu"]],
    )
    model.load_pretrained(path)
    return model


READERS = {
    "timm": read_timm,
    "huggingface": read_huggingface,
    "google": read_google,
}


def run(job):
    model = READERS[job["format"]](job["path"], job["config"]).eval()
    images = torch.from_numpy(np.load(job["images"]).transpose(0, 3, 1, 2))
    with torch.inference_mode():
        output = model(images)
    if hasattr(output, "last_hidden_state"):
        output = output.last_hidden_state[:, 0]
    np.save(job["logits"], getattr(output, "logits", output).numpy())


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        for job in json.load(file):
            run(job)
