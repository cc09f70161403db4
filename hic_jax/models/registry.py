"""Networks by name."""

from hic_jax import checks
from hic_jax.models.base import ModelSpec
from hic_jax.models.cnn import CNNSpec
from hic_jax.models.gpt import GPTSpec
from hic_jax.models.mlp import MLPSpec
from hic_jax.models.own import is_own
from hic_jax.models.resnet import ResNetSpec
from hic_jax.models.vit import ViTSpec

# The class of each spec. An entry is all that a network needs to have flags and run
# folders.
MODELS: dict[str, type[ModelSpec]] = {
    "resnet": ResNetSpec,
    "cnn": CNNSpec,
    "mlp": MLPSpec,
    "vit": ViTSpec,
    "gpt": GPTSpec,
}

_OWN = "package.module:factory"


def check_known(model: str) -> None:
    """Raises `ValueError` unless a network is registered, or may be one's own."""
    if not is_own(model):
        checks.one_of("model", model, [*MODELS, _OWN])


def check_takes(model: str, shown: str, dataset: str) -> None:
    """Raises `ValueError` unless a network takes what a data set holds.

    Args:
      model: name of the network; what one's own takes is not known.
      shown: "images" or "text".
      dataset: name of the data set.
    """
    check_known(model)
    if model in MODELS and MODELS[model].takes != shown:
        fit = [name for name, cls in MODELS.items() if cls.takes == shown]
        raise ValueError(
            f"model={model!r}: must be {checks.names([*fit, _OWN])}, with "
            f"dataset={dataset!r}, which holds {shown}"
        )
