"""Optimization options -> optimizer: schedule, learning rate of each layer, weights that decay."""

import functools
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

if TYPE_CHECKING:
    from training.model.options import OptimizationOptions

# Names of weights without decay: the code of arXiv:2010.11929 decays kernels only.
NO_DECAY = (
    "bias",
    "gamma",
    "beta",
    "scale1",
    "scale2",
    "temperature",
    "cls",
    "dist",
    "registers",
    "mask",
    "probe",
    "positions",
)

_register = keras.saving.register_keras_serializable(package="vit_keras_training")


@_register
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to the peak, then decays to 0 by the last step, or stays constant.

    Args:
        peak: learning rate after the warm-up.
        steps: number of steps of the whole run.
        warmup_steps: number of steps of the warm-up; fewer than `steps`.
        decay: a key of DECAYS.
    """

    def __init__(
        self, peak: float, steps: int, warmup_steps: int = 0, decay: str = "cosine"
    ) -> None:
        self.peak = peak
        self.steps = steps
        self.warmup_steps = warmup_steps
        self.decay = decay

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        decayed = DECAYS[self.decay](ops.clip(done, 0.0, 1.0))
        warming = step / max(1, self.warmup_steps)
        return self.peak * ops.where(step < self.warmup_steps, warming, decayed)

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
        }


DECAYS = {  # fraction of the steps after the warm-up -> fraction of the peak
    "cosine": lambda done: 0.5 * (1 + ops.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": ops.ones_like,
}


class _ByVariable(keras.optimizers.Optimizer):
    """What the optimizers below add to Keras's: layer-wise learning rates, decay of kernels only.

    Decay is decoupled (arXiv:1711.05101): before its step a kernel shrinks by its learning rate
    times `decay`. Both settings survive a reload, which `exclude_from_weight_decay` does not. In
    contrast to a MultiOptimizer, there is one norm to clip, one average and one accumulator.

    Args:
        decay: weight decay of every weight whose name is not in NO_DECAY.
        rates: {regular expression: factor of the learning rate}; the first that matches the
            beginning of a weight's path applies, and 1 where none matches.
    """

    def __init__(
        self,
        learning_rate: Any,
        decay: float = 0.0,
        rates: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.decay = decay
        self.rates = dict(rates or {})

    def build(self, variables):
        super().build(variables)
        self.factors = [
            next((f for path, f in self.rates.items() if re.match(path, variable.path)), 1.0)
            for variable in variables
        ]
        self.decays = [variable.name not in NO_DECAY for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        rate = ops.cast(learning_rate, variable.dtype) * self.factors[index]
        if self.decay and self.decays[index]:
            self.assign_sub(variable, variable * (rate * self.decay))
        super().update_step(gradient, variable, rate)

    def _backend_apply_gradients(self, grads, trainable_variables):
        if keras.backend.backend() == "tensorflow":
            pairs = zip(grads, trainable_variables, strict=True)
            grads = [gradient for gradient, _ in super()._all_reduce_sum_gradients(pairs)]
        super()._backend_apply_gradients(grads, trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        """Does nothing: Keras sums over replicas after clipping, and the sum has to be clipped."""
        return grads_and_vars

    @property
    def averages(self) -> list[Any]:
        """Moving averages of the weights, in the order of the weights; empty without use_ema."""
        return getattr(self, "_model_variables_moving_average", [])

    def finalize_variable_values(self, variables):
        """Keeps the weights, where Keras would replace them by the averages."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay": self.decay, "rates": self.rates}


@_register
class AdamW(_ByVariable, keras.optimizers.Adam):
    """AdamW with layer-wise learning rates and decay of kernels only."""


class _TrustOfKernels(keras.optimizers.Lamb):
    amsgrad = False  # read by Adam's update_step

    def update_step(self, gradient, variable, learning_rate):
        decays = self.decays[self._get_variable_index(variable)]
        step = keras.optimizers.Lamb if decays else keras.optimizers.Adam
        step.update_step(self, gradient, variable, learning_rate)


@_register
class Lamb(_ByVariable, _TrustOfKernels):
    """LAMB (arXiv:1904.00962) with decay outside of the trust ratio, as in Keras.

    Weights without decay have no trust ratio, as in timm's lamb.py: with one, weights that start at
    0 would stay there.
    """


@_register
class Lion(_ByVariable, keras.optimizers.Lion):
    """Lion (arXiv:2302.06675) with layer-wise learning rates and decay of kernels only."""


@_register
class Muon(_ByVariable, keras.optimizers.Muon):
    """Muon for matrices, at AdamW's rates (arXiv:2502.16982); AdamW for the head and the rest."""

    def __init__(
        self, learning_rate: float | keras.optimizers.schedules.LearningRateSchedule, **kwargs: Any
    ) -> None:
        own = {"weight_decay": None, "adam_weight_decay": None, "exclude_layers": ["head"]}
        super().__init__(learning_rate, **{**own, **kwargs})


@_register
class SGD(_ByVariable, keras.optimizers.SGD):
    """SGD with layer-wise learning rates and decay of kernels only."""


OPTIMIZERS: dict[str, tuple] = {  # class, and {its argument: a field of OptimizationOptions}
    # 1e-8: with Keras's 1e-7, small gradients of large models vanish.
    "adamw": (functools.partial(AdamW, epsilon=1e-8), {"beta_2": "beta_2"}),
    "lamb": (functools.partial(Lamb, epsilon=1e-8), {"beta_2": "beta_2"}),
    "lion": (Lion, {}),
    "muon": (Muon, {"adam_beta_2": "beta_2"}),
    "sgd": (SGD, {"momentum": "momentum"}),
}


def build_optimizer(
    options: "OptimizationOptions", steps_per_epoch: int, epochs: int, depth: int
) -> keras.optimizers.Optimizer:
    """Builds the optimizer of a run.

    Args:
        options: OptimizationOptions.
        steps_per_epoch: batches of an epoch.
        epochs: of the run.
        depth: blocks of the model, for the learning rates of its layers.
    """
    steps = epochs * steps_per_epoch
    warmup_steps = min(steps // 2, round(options.warmup_epochs * steps_per_epoch))
    optimizer, fields = OPTIMIZERS[options.optimizer]
    accumulation = options.gradient_accumulation_steps
    averages: dict[str, Any] = {}
    if options.ema_momentum:
        averages = {"use_ema": True, "ema_momentum": options.ema_momentum}
    return optimizer(
        Schedule(options.learning_rate, steps, warmup_steps, options.schedule),
        decay=options.weight_decay,
        rates=layer_rates(options.layer_decay, depth),
        global_clipnorm=options.global_clipnorm or None,
        gradient_accumulation_steps=accumulation if accumulation > 1 else None,
        **averages,
        **{argument: getattr(options, field) for argument, field in fields.items()},
    )


def layer_rates(decay: float, depth: int) -> dict[str, float]:
    """Computes learning-rate factors: `decay` to the power of the number of layers above.

    The rule of BEiT (arXiv:2106.08254, appendix) and MAE: the head has factor 1, the last block
    `decay`, and the layers before the blocks decay ** (depth + 1).

    Args:
        decay: factor from each block to the one before it, in (0, 1].
        depth: blocks of the model.

    Returns:
        {regular expression for the beginning of a weight's path: factor}.
    """
    if decay == 1:
        return {}
    blocks = {f"block_{index}/": decay ** (depth - index) for index in range(depth)}
    return {"(stem|patch_norm|patch_encoder|pre_norm)/": decay ** (depth + 1), **blocks}
