"""Recipe -> optimizer: its schedule, the rate of each layer, and which weights decay."""

import functools
import math
import re

import keras
from keras import ops

# Weights without decay, by name: arXiv:2010.11929's code decays kernels alone.
NO_DECAY = (
    *("bias", "gamma", "beta", "scale1", "scale2", "temperature"),
    *("cls", "dist", "registers", "mask", "probe", "positions"),
)

_register = keras.saving.register_keras_serializable(package="vit_keras_training")


@_register
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to the peak, then decays to 0 by the last step, or stays.

    Args:
        peak: learning rate after the warm-up.
        steps: of the whole run.
        warmup_steps: of them, the first ones; fewer than `steps`.
        decay: a key of DECAYS.
    """

    def __init__(self, peak, steps, warmup_steps=0, decay="cosine"):
        self.peak = peak
        self.steps = steps
        self.warmup_steps = warmup_steps
        self.decay = decay

    def __call__(self, step):
        step = ops.cast(step, "float32")
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        decayed = DECAYS[self.decay](ops.clip(done, 0.0, 1.0))
        warming = step / max(1, self.warmup_steps)
        return self.peak * ops.where(step < self.warmup_steps, warming, decayed)

    def get_config(self):
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
    """What the optimizers below add to Keras's: a rate for each layer, and decay of kernels alone.

    Decay is decoupled (arXiv:1711.05101): before its step a kernel shrinks by its learning rate
    times `decay`. Unlike what `exclude_from_weight_decay` is told, both survive a reload. Unlike
    a MultiOptimizer's parts, the whole has one norm to clip, one average and one accumulator.

    Args:
        decay: weight decay of every weight that is not called one of NO_DECAY.
        rates: {regular expression: factor of the learning rate}; the first that matches the
            beginning of a weight's path holds, and 1 where none does.
    """

    def __init__(self, learning_rate, decay=0.0, rates=None, **kwargs):
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
        """Nothing, where Keras sums over replicas: behind clipping, whose norm is that of a sum."""
        return grads_and_vars

    @property
    def averages(self):
        """The moving averages of the weights, in their order; empty without use_ema."""
        return getattr(self, "_model_variables_moving_average", [])

    def finalize_variable_values(self, variables):
        """Leaves the weights as they are, where Keras's put the averages in their place."""

    def get_config(self):
        return {**super().get_config(), "decay": self.decay, "rates": self.rates}


@_register
class AdamW(_ByVariable, keras.optimizers.Adam):
    pass


class _TrustOfKernels(keras.optimizers.Lamb):
    amsgrad = False  # asked for by Adam's step

    def update_step(self, gradient, variable, learning_rate):
        decays = self.decays[self._get_variable_index(variable)]
        step = keras.optimizers.Lamb if decays else keras.optimizers.Adam
        step.update_step(self, gradient, variable, learning_rate)


@_register
class Lamb(_ByVariable, _TrustOfKernels):
    """arXiv:1904.00962, with decay outside of the trust ratio, as Keras has it.

    Weights that do not decay have no trust ratio, as in timm's lamb.py: what starts at 0 would stay
    there.
    """


@_register
class Lion(_ByVariable, keras.optimizers.Lion):
    pass


@_register
class Muon(_ByVariable, keras.optimizers.Muon):
    """Matrices by Muon at AdamW's rates (arXiv:2502.16982), all else and the head by AdamW."""

    def __init__(self, learning_rate, **kwargs):
        own = {"weight_decay": None, "adam_weight_decay": None, "exclude_layers": ["head"]}
        super().__init__(learning_rate, **{**own, **kwargs})


@_register
class SGD(_ByVariable, keras.optimizers.SGD):
    pass


OPTIMIZERS: dict[str, tuple] = {  # class, and {its argument: a recipe's field}
    # Of Keras's epsilon, 1e-7, gradients of large models come short.
    "adamw": (functools.partial(AdamW, epsilon=1e-8), {"beta_2": "beta_2"}),
    "lamb": (functools.partial(Lamb, epsilon=1e-8), {"beta_2": "beta_2"}),
    "lion": (Lion, {}),
    "muon": (Muon, {"adam_beta_2": "beta_2"}),
    "sgd": (SGD, {"momentum": "momentum"}),
}


def build_optimizer(recipe, steps_per_epoch, epochs, depth):
    """The optimizer of a run.

    Args:
        recipe: Recipe.
        steps_per_epoch, epochs: batches, and passes over the images.
        depth: blocks of the model, for the rates of its layers.
    """
    steps = epochs * steps_per_epoch
    warmup_steps = min(steps // 2, round(recipe.warmup_epochs * steps_per_epoch))
    optimizer, fields = OPTIMIZERS[recipe.optimizer]
    averages = {"use_ema": True, "ema_momentum": recipe.ema} if recipe.ema else {}
    return optimizer(
        Schedule(recipe.learning_rate, steps, warmup_steps, recipe.schedule),
        decay=recipe.weight_decay,
        rates=layer_rates(recipe.layer_decay, depth),
        global_clipnorm=recipe.clip_norm or None,
        gradient_accumulation_steps=recipe.accumulate if recipe.accumulate > 1 else None,
        **averages,
        **{argument: getattr(recipe, field) for argument, field in fields.items()},
    )


def layer_rates(decay, depth):
    """{beginning of a weight's path: factor}: `decay` to the power of the layers above it.

    The rule of BEiT (arXiv:2106.08254, appendix) and MAE: the head is at 1, the last block at
    `decay`, and what stands before the blocks at decay ** (depth + 1).
    """
    if decay == 1:
        return {}
    blocks = {f"block_{index}/": decay ** (depth - index) for index in range(depth)}
    return {"(stem|patch_norm|patch_encoder|pre_norm)/": decay ** (depth + 1), **blocks}
