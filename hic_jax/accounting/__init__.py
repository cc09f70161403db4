"""What a network of hybrid weights costs: memory, wear, operations, energy."""

from hic_jax.accounting.energy import EnergyTable, energy
from hic_jax.accounting.operations import (
    Operations,
    Passes,
    array_counts,
    passes,
    writes,
)
from hic_jax.accounting.size import model_size, optimizer_bits
from hic_jax.accounting.wear import ENDURANCE_CYCLES, device_pulses, endurance
from hic_jax.tracing import Product, products

__all__ = [
    "ENDURANCE_CYCLES",
    "EnergyTable",
    "Operations",
    "Passes",
    "Product",
    "array_counts",
    "device_pulses",
    "endurance",
    "energy",
    "model_size",
    "optimizer_bits",
    "passes",
    "products",
    "writes",
]
