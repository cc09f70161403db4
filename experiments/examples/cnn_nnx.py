"""A convolutional network (nnx) on crossbars of PCM: train it, age it by a year."""

import optax
from flax import nnx

import hic_jax
from hic_jax import crossbar, data, pcm

digits = data.load("digits")
x, y = digits.train_images / 255, digits.train_labels
test_x, test_y = digits.test_images / 255, digits.test_labels
rngs, spec = nnx.Rngs(0), crossbar.CrossbarSpec()
dot, conv = crossbar.dot_general(spec), crossbar.conv_general_dilated(spec)
model = nnx.Sequential(
    nnx.Conv(1, 16, (3, 3), conv_general_dilated=conv, rngs=rngs), nnx.relu,
    nnx.Conv(16, 32, (3, 3), 2, conv_general_dilated=conv, rngs=rngs), nnx.relu,
    lambda x: x.reshape(len(x), -1), nnx.Linear(512, 10, dot_general=dot, rngs=rngs),
)  # fmt: skip
spec = hic_jax.HICSpec(multilevel=pcm.nandakumar_2018(drift_nu_std=0.008))
analog = optax.chain(optax.sgd(0.2), hic_jax.hic(spec, key=1))
parts = {"analog": analog, "digital": optax.sgd(0.2)}
tx = optax.partition(parts, hic_jax.analog_labels)
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)


@nnx.jit
def step(model, optimizer):
    loss = optax.softmax_cross_entropy_with_integer_labels
    optimizer.update(model, nnx.grad(lambda model: loss(model(x), y).mean())(model))


for _ in range(150):
    step(model, optimizer)
weights = hic_jax.analog_weights(optimizer.opt_state)
for seconds in (0.0, hic_jax.YEAR):
    aged = hic_jax.drift(weights, seconds)
    nnx.update(model, hic_jax.read_params(nnx.state(model, nnx.Param), aged))
    print(f"accuracy {(model(test_x).argmax(-1) == test_y).mean():.3f}")
