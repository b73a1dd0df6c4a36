"""What a recipe says about its model, what of it is trained, how, and on which machine."""

import dataclasses

from training.model.losses import LOSSES
from training.model.optimizer import DECAYS, OPTIMIZERS
from training.rules import (
    AT_LEAST_1,
    DECAY,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    Rule,
    check_fields,
    one_of,
    refuse,
)

TRAINABLE = ("full", "last_blocks", "lora", "head")
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The model of a run, and how images are prepared for it.

    Attributes:
        variant: a name of `vit_keras.VARIANTS`; unused where `weights` are given.
        image_size: pixels, an int or (height, width); 0 for the image size of the weights.
        channels: 1 for grey images, 3 for RGB.
        config: further fields of ViTConfig; --set model.FIELD=VALUE.
        weights: pre-trained weights to start from, a source as `vit_keras.from_weights` takes it;
            the model is then the one the weights were trained in, with a new head.
        resize: rule of Preprocessing, "crop", "squash" or "pad" (with black borders); None for the
            weights' own, or "crop".
        crop_fraction: of Preprocessing; None for the weights' own, or 1.0.
        interpolation: of Preprocessing; None for the weights' own, or "bilinear".
        mean: of the pixels, as a fraction of 255, one number for all channels or one for each;
            None for the weights' own, or 0.5.
        std: like mean.
    """

    variant: str = "vit_ti16"
    image_size: int | tuple[int, int] = 224
    channels: int = 3
    config: dict[str, object] = dataclasses.field(default_factory=dict)
    weights: str = ""
    resize: str | None = None
    crop_fraction: float | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        grey_or_rgb = Rule("1 (grey) or 3 (RGB)", lambda value: value in (1, 3))
        check_fields(self, {"channels": grey_or_rgb})

    @property
    def start(self) -> str:
        """What the model starts from: its weights, or the name of its variant."""
        return self.weights or self.variant


@dataclasses.dataclass(frozen=True)
class FineTuningOptions:
    """Which weights of the model are trained.

    Attributes:
        trainable: "full"; "last_blocks", the last blocks and everything after them; "lora",
            low-rank additions to the matrices of all blocks, and the head (arXiv:2106.09685);
            "head", by logistic regression on features that are computed once, for which the
            options of augmentation and optimization are unused.
        trainable_blocks: how many blocks "last_blocks" trains.
        lora_rank: rank of the additions of "lora".
        head_first: whether the head starts as "head" would train it (arXiv:2202.10054): a new
            head sends noise into the layers below it.
    """

    trainable: str = "full"
    trainable_blocks: int = 2
    lora_rank: int = 8
    head_first: bool = False

    def __post_init__(self) -> None:
        check_fields(
            self,
            {
                "trainable": one_of(TRAINABLE),
                "trainable_blocks": AT_LEAST_1,
                "lora_rank": AT_LEAST_1,
            },
        )


@dataclasses.dataclass(frozen=True)
class OptimizationOptions:
    """How long, by which rule and towards which loss a run trains.

    Attributes:
        epochs: passes over the training images.
        warmup_epochs: epochs in which the learning rate rises linearly, at most half of the run.
        steps: batches of the whole run, rounded to epochs of equal length, in place of `epochs`;
            0 for none.
        batch_size: images in a step.
        gradient_accumulation_steps: steps whose gradients are added up for one update.
        optimizer: "adamw", "lamb", "lion", "muon" or "sgd".
        learning_rate: at the end of the warm-up.
        schedule: "cosine" or "linear" to 0 after the warm-up, or "constant".
        layer_decay: layer-wise learning-rate decay, the factor from each block to the one before.
        weight_decay: of kernels only, times the learning rate.
        beta_2: of AdamW, LAMB and the AdamW inside Muon.
        momentum: of SGD.
        global_clipnorm: global norm to which gradients are clipped; 0 for no clipping.
        loss: of classes: "softmax" cross-entropy; "sigmoid", the binary cross-entropy of every
            class, summed; or "sigmoid-any", its mean, with every class that is mixed into an image
            counted as fully present (DeiT III).
        label_smoothing: fraction of the target that is spread over all classes, in training.
        ema_momentum: momentum, for each step, of the exponential moving average of the weights
            that is evaluated and saved in place of the weights; 0 for none.
        validate_every: epochs between two validations.
    """

    epochs: int = 100
    warmup_epochs: float = 5
    steps: int = 0
    batch_size: int = 128
    gradient_accumulation_steps: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    beta_2: float = 0.999
    momentum: float = 0.9
    global_clipnorm: float = 1.0
    loss: str = "softmax"
    label_smoothing: float = 0.1
    ema_momentum: float = 0.0
    validate_every: int = 1

    def __post_init__(self) -> None:
        check_fields(self, _OPTIMIZATION_RULES)
        if self.loss == "sigmoid-any" and self.label_smoothing:
            refuse("loss", self.loss, "another one where labels are smoothed")


_OPTIMIZATION_RULES = {
    "epochs": AT_LEAST_1,
    "batch_size": AT_LEAST_1,
    "validate_every": AT_LEAST_1,
    "gradient_accumulation_steps": AT_LEAST_1,
    "warmup_epochs": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "global_clipnorm": NOT_NEGATIVE,
    "steps": NOT_NEGATIVE,
    "label_smoothing": FRACTION,
    "ema_momentum": FRACTION,
    "beta_2": FRACTION,
    "momentum": FRACTION,
    "optimizer": one_of(OPTIMIZERS),
    "schedule": one_of(DECAYS),
    "loss": one_of(LOSSES),
    "learning_rate": POSITIVE,
    "layer_decay": DECAY,
}


@dataclasses.dataclass(frozen=True)
class ExecutionOptions:
    """How the machine executes a run.

    Attributes:
        seed: of everything random in the run.
        jit_compile: compile the training step with XLA.
        mixed_precision: the Keras dtype policy, "float32", "mixed_bfloat16" or "mixed_float16".
        steps_per_execution: steps in one call of the compiled function; the largest divisor of
            this number that also divides the steps of an epoch is used.
        checkpoint_every: seconds between two checkpoints from which a run can be resumed.
    """

    seed: int = 0
    jit_compile: bool = True
    mixed_precision: str = "float32"
    steps_per_execution: int = 1
    checkpoint_every: float = 60

    def __post_init__(self) -> None:
        check_fields(
            self,
            {
                "steps_per_execution": AT_LEAST_1,
                "checkpoint_every": NOT_NEGATIVE,
                "mixed_precision": one_of(POLICIES),
                "seed": Rule("in [0, 2**31)", lambda value: 0 <= value < 2**31),
            },
        )
