"""Flags of the launchers: what one takes, the group it stands in, the page of --help.

A flag is absl's. Its group stands where absl keeps the name of the module that defines
a flag, so that ``--helpfull`` has the same groups, beside absl's own flags.
"""

import inspect
import math
import os
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

from absl import flags

from hic_jax import checks
from hic_jax.inference import CHIPS_MAX

# Groups of flags, as their headings.
NETWORK = "network and data"
RECIPE = "recipe"
ALGORITHM = "algorithm"
DEVICE = "device"
CROSSBAR = "crossbar"
SWEEP = "sweep"
RUN = "run"
GROUPS = (RUN, SWEEP, NETWORK, RECIPE, ALGORITHM, DEVICE, CROSSBAR)

HELP_WORDS = ("--help", "-help", "-h", "-?", "--helpshort")
_COLUMNS = 100
_MARGIN = 37  # Of the texts.

# The most that a launch takes. Each seed is a training: more are a slip of the hand.
COUNTS = {"seeds": 10_000, "chips": CHIPS_MAX}


class Kind(flags.ArgumentParser):
    """What a flag takes: a function that reads it, and the same in words.

    Attributes:
      syntactic_help: what is allowed, after "must be".
      placeholder: stands for the value in the help.
      bounds: what the help says of them; empty for nothing.
    """

    def __init__(
        self,
        read: Callable[[str], Any],
        allowed: str,
        placeholder: str,
        bounds: str = "",
    ):
        self._read = read
        self.syntactic_help = allowed
        self.placeholder = placeholder
        self.bounds = bounds

    def parse(self, argument: Any) -> Any:
        """The value; `ValueError` says what is allowed."""
        try:
            return self._read(argument)
        except (ValueError, OverflowError):
            raise ValueError(f"must be {self.syntactic_help}") from None


class _Listed(flags.ListParser):
    """Values of one kind, separated by commas."""

    def __init__(self, kind: Kind):
        super().__init__()
        self._kind = kind
        self.placeholder = kind.placeholder

    def parse(self, argument: Any) -> list[Any]:
        """The values; `ValueError` says which one is not allowed, and what is."""
        words = super().parse(argument)
        if not words:
            raise ValueError("must list at least one value")
        values = []
        for word in words:
            try:
                values.append(self._kind.parse(word))
            except ValueError as error:
                which = f"{word} in it " if len(words) > 1 else ""
                raise ValueError(f"{which}{error}") from None
        return values


class Choice(Kind):
    """One of several names."""

    def __init__(self, names: Iterable[str]):
        self._names = tuple(names)
        allowed = checks.names(self._names)
        super().__init__(str, allowed, "NAME", allowed)

    def parse(self, argument: Any) -> str:
        """The name; `ValueError` says which there are, and which was meant."""
        if argument not in self._names:
            raise ValueError(f"must be {checks.names(self._names, argument)}")
        return argument

    def are_in(self, text: str) -> bool:
        """Whether a text names them all."""
        return set(self._names) <= set(re.findall(r"\w+", text))


def integer(low: int | None = None, high: int = checks.INT32_MAX) -> Kind:
    """Integers from ``low`` to ``high``; any integer, for others to check, without."""
    if low is None:
        return Kind(int, "an integer", "INTEGER")

    def read(word):
        number = int(word)
        if not low <= number <= high:
            raise ValueError
        return number

    bounds = f"{low} to {high}" if high < checks.INT32_MAX else f"{low} or more"
    return Kind(read, f"an integer, {low} to {high}", "INTEGER", bounds)


def number(low: float = -math.inf, high: float = math.inf) -> Kind:
    """Finite numbers from ``low`` to ``high``."""

    def read(word):
        value = float(word)
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError
        return value

    if low == -math.inf:
        return Kind(read, "a finite number", "NUMBER")
    bounds = f"{low:g} to {high:g}"
    return Kind(read, f"a finite number, {bounds}", "NUMBER", bounds)


def number_or(names: Iterable[str]) -> Kind:
    """Finite numbers, or one of several names."""
    names = tuple(names)
    finite = number()

    def read(word):
        return word if word in names else finite.parse(word)

    allowed = checks.names(names)
    return Kind(read, f"a finite number or {allowed}", "NUMBER|NAME", f"or {allowed}")


def text(placeholder: str = "TEXT") -> Kind:
    """Any words, for others to check."""
    return Kind(str, "a text", placeholder)


def path() -> Kind:
    """Paths of this machine's file systems, with ``~`` as the home folder."""

    def read(word):
        expanded = os.path.expanduser(word)
        if not word.strip() or re.match(r"[\w+.-]+://|~", expanded):
            raise ValueError
        return expanded

    return Kind(
        read,
        "a path on this machine: not empty, no scheme such as gs://, no unknown ~user",
        "PATH",
    )


def define(
    name: str,
    kind: Kind,
    default: Any,
    text: str,
    *,
    group: str = RUN,
    required: bool = False,
    usual: Any = None,
) -> None:
    """Defines a flag of one value.

    Args:
      name: of the flag.
      kind: what it takes.
      default: None for none.
      text: of the help, a sentence that stands alone.
      group: of `GROUPS`.
      required: whether it has to be given.
      usual: what happens without the flag, if that is not its default.
    """
    said = isinstance(kind, Choice) and kind.are_in(text)
    facts = [kind.bounds] if kind.bounds and not said else []
    facts += ["required"] if required else []
    text = _with_facts(text, facts, default if usual is None else usual)
    flags.DEFINE(kind, name, default, text, module_name=group, required=required)


def define_count(name: str, default: int, text: str, *, group: str = RUN) -> None:
    """Defines a flag of `COUNTS`, which several launchers have."""
    define(name, integer(1, COUNTS[name]), default, text, group=group)


def define_switch(
    name: str, default: bool | None, text: str, *, group: str = RUN, usual: Any = None
) -> None:
    """Defines a flag of two values, ``--name`` and ``--noname``; see `define`."""
    text = _with_facts(text, [], default if usual is None else usual)
    flag = flags.BooleanFlag(name, default, text)
    flag.parser = Kind(flags.BooleanParser().parse, "true or false", "")
    flags.DEFINE_flag(flag, module_name=group)


def define_list(
    name: str, default: Any, text: str, *, kind: Kind | None = None, group: str = RUN
) -> None:
    """Defines a flag of values of a kind, or else texts, separated by commas."""
    parser = flags.ListParser() if kind is None else _Listed(kind)
    text = _with_facts(text, [], default)
    serializer = flags.CsvListSerializer(",")
    flags.DEFINE(parser, name, default, text, serializer=serializer, module_name=group)


def define_repeated(name: str, text: str, *, group: str = RUN) -> None:
    """Defines a flag that may be given several times, each with a text."""
    flags.DEFINE_multi_string(name, [], text, module_name=group)
    flags.FLAGS[name].help = text  # Without the sentence that absl appends.


def _with_facts(text: str, facts: list[str], default: Any) -> str:
    """A text with what is known of the flag besides, and what it is by default."""
    if default not in (None, "", []):
        facts = [*facts, f"default {shown(default)}"]
    text = text.replace("`", "")
    return f"{text} ({'; '.join(facts)})" if facts else text


def shown(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def documented(cls: type) -> dict[str, str]:
    """The paragraph of each attribute in the docstrings of a class, as a sentence.

    Those of the classes that it inherits from are among them.
    """
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, section = inspect.cleandoc(vars(base).get("__doc__") or "").partition(
            "Attributes:\n"
        )
        found = re.findall(r"^  (\w+): ((?:.|\n    )+)", section, flags=re.MULTILINE)
        sentences = ((name, " ".join(lines.split())) for name, lines in found)
        texts |= {name: text[0].upper() + text[1:] for name, text in sentences}
    return texts


def read(name: str, kind: Kind, word: str) -> Any:
    """The value of a word that is no flag's; `ValueError` if it is not of that kind."""
    try:
        return kind.parse(word)
    except ValueError as error:
        raise ValueError(f"{name}={word}: {error}") from None


def parse(argv: list[str]) -> list[str]:
    """Reads the flags of a command line; returns what is none, the program first.

    Raises:
      ValueError: at a flag that does not exist, is missing, or has a value that it does
        not take.
    """
    try:
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        raise ValueError(f"{error}; --help tells all flags") from None
    except flags.Error as error:
        message = str(error).removeprefix("flag ")
        missing = re.match(r"(--\w+)=None: Flag", message)
        raise ValueError(
            f"{missing[1]}: must be given" if missing else message
        ) from None


def help_page(launcher_doc: str) -> str:
    """What a launcher is for, and its flags by groups."""
    columns = min(shutil.get_terminal_size((_COLUMNS, 0)).columns, _COLUMNS)
    margin = " " * _MARGIN
    texts = textwrap.TextWrapper(
        max(columns, 2 * _MARGIN),
        initial_indent=margin,
        subsequent_indent=margin,
        break_on_hyphens=False,
    )
    lines = [launcher_doc.strip().replace("`", "")]
    by_group = flags.FLAGS.flags_by_module_dict()
    for group in GROUPS:
        if by_group.get(group):
            lines.append(f"\n{group.capitalize()}:")
        for flag in by_group.get(group, []):
            written = f"  {_written(flag)}"
            if len(written) >= _MARGIN:  # Its text begins below it.
                lines += [written, texts.fill(flag.help)]
            else:
                text = texts.fill(flag.help).removeprefix(margin)
                lines.append(f"{written:<{_MARGIN}}{text}")
    return "\n".join([*lines, "\nFlags of logging and profiling: --helpfull"])


def _written(flag: flags.Flag) -> str:
    """How a flag is given: ``--name=PLACEHOLDER``."""
    if flag.boolean:
        return f"--[no]{flag.name}"
    placeholder = getattr(flag.parser, "placeholder", "TEXT")
    if isinstance(flag.parser, flags.ListParser):
        placeholder += ",..."
    return f"--{flag.name}={placeholder}"
