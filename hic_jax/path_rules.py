"""Rules by path: what holds for a layer or a leaf is what the first match says."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def first_match(paths: Iterable[str], rules: Mapping[str, T]) -> dict[str, T]:
    """What rules say of each path: the first one that matches its beginning.

    Args:
      paths: as ``stage1_block1/conv1/kernel``.
      rules: values by regular expressions, in their order.

    Returns:
      Values by path, of those that a rule matches.

    Raises:
      ValueError: for a rule that is no regular expression, or that says nothing of any
        path.

    Examples:
      >>> first_match(["stem", "stage1/conv1", "head"], {"stem|head": 8, "stage": 4})
      {'stem': 8, 'stage1/conv1': 4, 'head': 8}
    """
    paths = list(paths)
    left, found = list(paths), dict[str, T]()
    for rule, value in rules.items():
        try:
            matched = [path for path in left if re.match(rule, path)]
        except re.error as error:
            raise ValueError(
                f"rule={rule!r}: must be a regular expression: {error}"
            ) from error
        if not matched:
            raise ValueError(
                f"rule={rule!r}: must match the beginning of a path that no rule "
                f"before it does, among {', '.join(paths)}"
            )
        found |= dict.fromkeys(matched, value)
        left = [path for path in left if path not in found]
    return {path: found[path] for path in paths if path in found}
