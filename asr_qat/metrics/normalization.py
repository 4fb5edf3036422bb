"""What is made equal in references and hypotheses before errors are counted: by default nothing."""

import dataclasses
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_APOSTROPHES = str.maketrans(dict.fromkeys("‘’ʼ", "'"))


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Steps that are applied to both texts, in this order. None is on by default.

    Numbers, symbols and spelling are always left as they are: "2" is not "two".
    """

    apostrophes: bool = False  # apostrophes and single quotes are removed: "don't" is "dont"
    lower: bool = False  # letters in lower case
    # Marks of Unicode's categories P become spaces, but for apostrophes within words (’ as ') and
    # marks between digits: "Well-known, isn’t it? 3.5" is "Well known isn't it 3.5".
    punctuation: bool = False
    unicode: bool = False  # canonical composition (NFC): "e" with a combining accent is "é"

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the steps that are on, in their order."""
        names = [field.name for field in dataclasses.fields(self)]
        return tuple(name for name in names if getattr(self, name))

    def __call__(self, text: str) -> str:
        """The text as it is scored; unchanged, spaces too, where no step is on."""
        for step in self.steps:
            text = _STEPS[step](text)
        return " ".join(text.split()) if self.steps else text

    def changed(self, texts: Sequence[str]) -> int:
        """How many of the texts have other words afterwards."""
        return sum(self(text).split() != text.split() for text in texts)


def parse_normalization(names: str) -> Normalization:
    """The normalization of names of steps with commas between them; "none" or "" is none.

    Raises:
      ValueError: there is no such step.
    """
    steps = [name.strip() for name in names.split(",") if name.strip() not in ("", "none")]
    for step in steps:
        if step not in _STEPS:
            raise ValueError(
                f"normalization: expected none or some of {','.join(_STEPS)}, got {step!r}"
            )
    return Normalization(**dict.fromkeys(steps, True))


def _without_apostrophes(text: str) -> str:
    return text.translate(_APOSTROPHES).replace("'", "")


def _without_punctuation(text: str) -> str:
    text = text.translate(_APOSTROPHES)
    return "".join(
        " " if _is_mark(c) and not _is_within(text, i) else c for i, c in enumerate(text)
    )


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("P")


def _is_within(text: str, at: int) -> bool:
    """Whether a mark is an apostrophe between letters, or stands between digits."""
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if text[at] == "'" and before.isalpha() and after.isalpha():
        return True
    return before.isdigit() and after.isdigit()


_STEPS: dict[str, Callable[[str], str]] = {
    "apostrophes": _without_apostrophes,
    "lower": str.lower,
    "punctuation": _without_punctuation,
    "unicode": lambda text: unicodedata.normalize("NFC", text),
}
