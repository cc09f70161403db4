"""What an equation of a jaxpr says beside its operation."""

from typing import Any

from jax.extend import core

from hic_jax.crossbar.geometry import is_tag


def called(fields: dict[str, Any]) -> list[core.Jaxpr]:
    """The programs among the fields of an equation."""
    found = []
    for field in fields.values():
        for x in field if isinstance(field, tuple | list) else (field,):
            x = x.jaxpr if isinstance(x, core.ClosedJaxpr) else x
            found += [x] if isinstance(x, core.Jaxpr) else []
    return found


def crossbar_notes(jaxpr: core.Jaxpr) -> dict[Any, str]:
    """Notes of crossbars, by the variable that they are about; see `read_tag`."""
    named = [e for e in jaxpr.eqns if e.primitive.name == "name"]
    return {e.invars[0]: e.params["name"] for e in named if is_tag(e.params["name"])}
