"""A transformer block (Linen) on crossbars of PCM: train it, age it by a year."""

import flax.linen as nn
import jax
import optax

import hic_jax
from hic_jax import crossbar, data, pcm

digits = data.load("digits")  # Images of 8 rows, that is 8 tokens of 8 pixels.
x, test_x = (i[..., 0] / 255 for i in (digits.train_images, digits.test_images))
y, test_y = digits.train_labels, digits.test_labels
dot = crossbar.dot_general(crossbar.CrossbarSpec())


class Classifier(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(32, dot_general=dot)(x)
        attend = nn.MultiHeadAttention(4, qkv_dot_general=dot, out_dot_general=dot)
        x = nn.LayerNorm()(x + attend(x))
        x += nn.Dense(32, dot_general=dot)(nn.gelu(nn.Dense(64, dot_general=dot)(x)))
        return nn.Dense(10, dot_general=dot)(nn.LayerNorm()(x).reshape(len(x), -1))


model = Classifier()
spec = hic_jax.HICSpec(multilevel=pcm.nandakumar_2018(drift_nu_std=0.008))
analog = optax.chain(optax.sgd(0.1), hic_jax.hic(spec, key=1))
parts = {"analog": analog, "digital": optax.sgd(0.1)}
tx = optax.partition(parts, hic_jax.analog_labels)
loss = optax.softmax_cross_entropy_with_integer_labels
gradient = jax.jit(jax.grad(lambda params: loss(model.apply(params, x), y).mean()))
params = model.init(jax.random.key(0), x)
state, update = tx.init(params), jax.jit(tx.update)
for _ in range(200):
    updates, state = update(gradient(params), state, params)
    params = optax.apply_updates(params, updates)
aged = hic_jax.drift(hic_jax.analog_weights(state), seconds=hic_jax.YEAR)
for p in (params, hic_jax.read_params(params, aged)):
    print(f"accuracy {(model.apply(p, test_x).argmax(-1) == test_y).mean():.3f}")
