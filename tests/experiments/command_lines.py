"""Command lines of a launcher, parsed in this process."""

import contextlib

from absl import flags


@contextlib.contextmanager
def parser(name, define_flags):
    """A function that parses words for a launcher; its flags are gone at the end."""
    before = set(flags.FLAGS)
    define_flags()

    def parse(*words, workdir="unused"):
        flags.FLAGS.unparse_flags()
        for flag in set(flags.FLAGS) - before:
            flags.FLAGS[flag].unparse()
        return flags.FLAGS([name, f"--workdir={workdir}", *words])

    try:
        yield parse
    finally:
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)
