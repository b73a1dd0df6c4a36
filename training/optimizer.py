"""Recipe -> AdamW with warm-up, cosine decay and decay-free biases, norms, tokens, positions."""

import keras

# Weights without decay, by name: arXiv:2010.11929's code decays kernels alone.
NO_DECAY = (
    *("bias", "gamma", "beta", "scale1", "scale2", "temperature"),
    *("cls", "dist", "registers", "mask", "probe", "positions"),
)


def build_optimizer(recipe, steps_per_epoch):
    """AdamW for a run of recipe.epochs * steps_per_epoch batches.

    The learning rate rises linearly from 0 over recipe.warmup_epochs and falls to 0 along a
    cosine by the last step.
    """
    steps = recipe.epochs * steps_per_epoch
    warmup_steps = min(steps - 1, round(recipe.warmup_epochs * steps_per_epoch))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else recipe.learning_rate,
        decay_steps=steps - warmup_steps,
        warmup_target=recipe.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=recipe.weight_decay,
        beta_2=recipe.beta_2,
        global_clipnorm=recipe.clip_norm or None,
        use_ema=recipe.ema > 0,
        ema_momentum=recipe.ema or 0.99,
    )
    optimizer.exclude_from_weight_decay(var_names=list(NO_DECAY))
    return optimizer
