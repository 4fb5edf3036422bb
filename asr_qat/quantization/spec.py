"""What precision means: frozen specs, the recipes that have a name, and ordered path rules.

A `QuantSpec` says how one weight product is computed. A `Policy` says which spec each layer of
a model gets: a list of ``(pattern, recipe)`` rules, tried in order, of which the last that
matches the layer's path wins (a layer that no rule matches stays float). Names follow AI Edge
Quantizer: ``dynamic_wi4_afp32`` is "integer 4-bit weights, float32 activations in the file,
quantized to int8 row by row when the kernel runs"; ``static_wi4_ai8`` is "int8 activations too,
with one range for the whole tensor that training learned".

A recipe's name may go on with fields of its `WeightSpec`, which say how training treats the
weights: ``dynamic_wi2_afp32,clipping:learned,pull:0.1``. The file has the same form without them.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

WEIGHT_BITS = (2, 4, 6, 8)
ACTIVATIONS = ("float", "asymmetric_rows", "symmetric_rows", "four_bit_rows", "static_int8")
STORAGES = ("float32", "float16")
CLIPPINGS = ("none", "learned", "lloyd_max")


class PolicyError(ValueError):
    """A recipe that does not exist, or a rule that matches no layer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightSpec:
    """Symmetric integer weights, one scale per output channel (1712.05877; numerics.md §1)."""

    bits: int  # 2, 4, 6 or 8; codes are held in int8
    divisor: float | None = None  # scale = max|w| / divisor; None: the largest code, 2^(bits-1) - 1
    scale_gradient: bool = True  # the gradient flows through max|w| into the scale (2305.15536)
    clipping: str = "none"  # of weights before max|w| is taken, one of CLIPPINGS
    pull: float = 0.0  # weight of the loss that draws weights to their codes (2206.15408)
    co_trained: tuple[int, ...] = ()  # bits, one of which is drawn in each step (2505.21245)

    def __post_init__(self):
        for name, bits in (("weight", self.bits), *(("co_trained", b) for b in self.co_trained)):
            if bits not in WEIGHT_BITS:
                raise ValueError(f"{name} bits: received {bits!r}, expected one of {WEIGHT_BITS}")
        if self.divisor is not None and not self.divisor > 0:
            raise ValueError(f"scale divisor: received {self.divisor!r}, expected a number > 0")
        if self.divisor is not None and self.co_trained:
            raise ValueError(
                f"scale divisor: received {self.divisor!r} with co_trained bits {self.co_trained}; "
                "expected one of them"
            )
        if self.clipping not in CLIPPINGS:
            raise ValueError(f"clipping: received {self.clipping!r}, expected one of {CLIPPINGS}")
        if not 0.0 <= self.pull < float("inf"):
            raise ValueError(f"pull: received {self.pull!r}, expected a number from 0 on")

    @property
    def qmax(self) -> int:
        """The largest code: 1, 7, 31 or 127."""
        return largest_code(self.bits)

    @property
    def reciprocal(self) -> float:
        """What max|w| is multiplied by for the scale."""
        return 1.0 / (self.divisor or self.qmax)

    @property
    def served(self) -> "WeightSpec":
        """The same without what concerns training alone."""
        return WeightSpec(bits=self.bits, divisor=self.divisor)


def largest_code(bits: int) -> int:
    """Of symmetric codes: 1, 7, 31 or 127 for 2, 4, 6 or 8 bits."""
    return 2 ** (bits - 1) - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantSpec:
    """How one weight product is computed."""

    weight: WeightSpec | None = None  # integer weights; None: float weights
    activation: str = "float"  # one of ACTIVATIONS
    storage: str = "float32"  # of float weights, in the file and as they are trained: of STORAGES

    def __post_init__(self):
        if self.storage not in STORAGES:
            raise ValueError(f"storage: received {self.storage!r}, expected one of {STORAGES}")
        if self.weight is not None and self.storage != "float32":
            raise ValueError(
                f"storage {self.storage!r} is for float weights; received integer ones"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation: received {self.activation!r}, expected one of {ACTIVATIONS}"
            )
        if self.weight is None and self.activation != "float":
            raise ValueError("integer activations need integer weights; received weight=None")
        if self.activation == "static_int8" and self.weight and self.weight.bits not in (4, 8):
            raise ValueError(
                f"static_int8 activations need weights of 4 or 8 bits; received {self.weight.bits}"
            )

    @property
    def served(self) -> "QuantSpec":
        """The same without what concerns training alone."""
        return dataclasses.replace(self, weight=self.weight and self.weight.served)

    @property
    def learns(self) -> str | None:
        """What a layer learns for it beside kernel and bias; None: nothing."""
        if self.activation == "static_int8":
            return "activation ranges"
        return "clipping" if self.weight and self.weight.clipping != "none" else None


def _recipe(bits, activation):
    return QuantSpec(weight=WeightSpec(bits=bits), activation=activation)


# Dynamic recipes follow XNNPACK (asymmetric rows); "_builtin" ones follow the kernels that run
# where there is no XNNPACK, tflite-runtime among them (symmetric rows).
RECIPES: dict[str, QuantSpec] = {
    "float32": QuantSpec(),
    "float16": QuantSpec(storage="float16"),
    **{f"dynamic_wi{b}_afp32": _recipe(b, "asymmetric_rows") for b in WEIGHT_BITS},
    **{f"dynamic_wi{b}_afp32_builtin": _recipe(b, "symmetric_rows") for b in WEIGHT_BITS},
    **{f"weight_only_wi{b}_afp32": _recipe(b, "float") for b in WEIGHT_BITS},
    **{f"static_wi{b}_ai8": _recipe(b, "static_int8") for b in (4, 8)},
    "wi4_ai4": _recipe(4, "four_bit_rows"),
}


def recipe(name: str) -> QuantSpec:
    """The spec of a named recipe, with the fields that follow its name.

    Raises:
        PolicyError: if there is no recipe of that name, or no such field or value.
    """
    base, *settings = name.split(",")
    if base not in RECIPES:
        raise PolicyError(f"unknown recipe {base!r}; expected one of: {', '.join(RECIPES)}")
    spec = RECIPES[base]
    if not settings:
        return spec
    if spec.weight is None:
        raise PolicyError(
            f"recipe {name!r}: {base} has float weights; expected no fields of theirs"
        )
    fields = dict(_field(name, setting) for setting in settings)
    try:
        return dataclasses.replace(spec, weight=dataclasses.replace(spec.weight, **fields))
    except ValueError as e:
        raise PolicyError(f"recipe {name!r}: {e}") from None


_BOOLEANS = {"true": True, "false": False}
# Fields of WeightSpec that a recipe's name may give, and how they are read.
_FIELDS: dict[str, Callable[[str], Any]] = {
    "divisor": float,
    "scale_gradient": _BOOLEANS.__getitem__,
    "clipping": str,
    "pull": float,
    "co_trained": lambda text: tuple(int(bits) for bits in text.split("-")),
}


def _field(recipe_name, setting):
    name, colon, value = setting.partition(":")
    if not colon or name not in _FIELDS:
        raise PolicyError(
            f"recipe {recipe_name!r}: received {setting!r}, expected FIELD:VALUE with one of the "
            f"fields {', '.join(_FIELDS)}, such as clipping:learned, scale_gradient:false or "
            "co_trained:8-4-2"
        )
    try:
        return name, _FIELDS[name](value)
    except (KeyError, ValueError):
        raise PolicyError(f"recipe {recipe_name!r}: {value!r} is no value of {name}") from None


@dataclasses.dataclass(frozen=True)
class Policy:
    """Ordered rules from layer path to recipe; the last rule that matches a path wins.

    Attributes:
        rules: pairs of a regular expression, searched in the layer's path (such as
            ``transducer/encoder/block_0/attention/query_key_value``), and a recipe's name.
    """

    rules: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "rules", tuple((str(p), str(r)) for p, r in self.rules))
        for pattern, name in self.rules:
            recipe(name)
            try:
                re.compile(pattern)
            except re.error as e:
                raise PolicyError(f"rule {pattern!r}: not a regular expression: {e}") from e

    def name_for(self, path: str) -> str:
        """The recipe's name for a layer's path; ``float32`` where no rule matches."""
        names = [name for pattern, name in self.rules if re.search(pattern, path)]
        return names[-1] if names else "float32"

    def resolve(self, path: str) -> QuantSpec:
        """The spec for a layer's path."""
        return recipe(self.name_for(path))

    def check(self, paths: Iterable[str]) -> None:
        """Raises `PolicyError` for the first rule that matches none of the paths."""
        paths = list(paths)
        for pattern, name in self.rules:
            if not any(re.search(pattern, path) for path in paths):
                raise PolicyError(
                    f"rule {pattern!r} -> {name} matches no layer; the layers are: "
                    + ", ".join(paths)
                )

    def with_rules(self, rules: Sequence[tuple[str, str]]) -> "Policy":
        """This policy with further rules, which win over the present ones."""
        return Policy((*self.rules, *rules))

    def to_list(self) -> list[list[str]]:
        """The rules as JSON-ready lists."""
        return [list(rule) for rule in self.rules]


FLOAT = Policy()

# The encoder, and the further stages of cascaded ones: encoder_second and the like.
ENCODERS = r"(^|/)encoder(_\w+)?/"

# The patent quantizes the encoder and keeps the decoder float (US 2023/0298569 A1).
POLICIES: dict[str, Policy] = {
    "float32": FLOAT,
    **{name: Policy(((ENCODERS, name),)) for name in RECIPES if name != "float32"},
    # First and last layers see the most; they get twice the bits.
    "mixed_wi4_wi8": Policy(
        (
            (ENCODERS, "dynamic_wi4_afp32"),
            ("(^|/)encoder/subsampling/", "dynamic_wi8_afp32"),
        )
    ),
}


def policy(value: "str | Policy | Sequence[Sequence[str]] | None") -> Policy:
    """A policy from its name, its rules, or itself.

    Raises:
        PolicyError: for a name that is no policy, or rules with an unknown recipe.
    """
    if value is None:
        return FLOAT
    if isinstance(value, Policy):
        return value
    if isinstance(value, str):
        if value in POLICIES:
            return POLICIES[value]
        if value.partition(",")[0] not in RECIPES:
            raise PolicyError(f"unknown recipe {value!r}; expected one of: {', '.join(POLICIES)}")
        return Policy(((ENCODERS, value),))
    return Policy(tuple((rule[0], rule[1]) for rule in value))


def parse_rule(text: str) -> tuple[str, str]:
    """A rule from the command line, ``pattern=recipe``.

    Raises:
        PolicyError: if there is no ``=`` or no such recipe.
    """
    pattern, equals, name = text.rpartition("=")
    if not equals or not pattern:
        raise PolicyError(f"rule: received {text!r}, expected 'pattern=recipe'")
    recipe(name)
    return pattern, name
