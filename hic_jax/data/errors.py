"""The one error of this package."""


class DataError(ValueError):
    """A data set that cannot be had as asked for.

    The message names the field (``--dataset``, ``--data_dir`` or ``cache_dir``), its
    value, and what is allowed or what to do.
    """


def wrong(name: str, what: str) -> DataError:
    """The error of a data set, by the name that was asked for."""
    return DataError(f"--dataset={name!r}: {what}")
