"""What precision means: frozen specs, the recipes that have a name, and ordered path rules.

A `QuantSpec` says how one weight product is computed. A `Policy` says which spec each layer of
a model gets: a list of ``(pattern, recipe)`` rules, tried in order, of which the last that
matches the layer's path wins (a layer that no rule matches stays float). Names follow AI Edge
Quantizer: ``dynamic_wi4_afp32`` is "integer 4-bit weights, float32 activations in the file,
quantized to int8 row by row when the kernel runs"; ``static_wi4_ai8`` is "int8 activations too,
with one range for the whole tensor that training learned".
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

WEIGHT_BITS = (2, 4, 6, 8)
ACTIVATIONS = ("float", "asymmetric_rows", "symmetric_rows", "four_bit_rows", "static_int8")
STORAGES = ("float32", "float16")


class PolicyError(ValueError):
    """A recipe that does not exist, or a rule that matches no layer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightSpec:
    """Symmetric integer weights, one scale per output channel (1712.05877; numerics.md §1)."""

    bits: int  # 2, 4, 6 or 8; codes are held in int8
    divisor: float | None = None  # scale = max|w| / divisor; None: the largest code, 2^(bits-1) - 1
    scale_gradient: bool = True  # the gradient flows through max|w| into the scale (2305.15536)

    def __post_init__(self):
        if self.bits not in WEIGHT_BITS:
            raise ValueError(f"weight bits: received {self.bits!r}, expected one of {WEIGHT_BITS}")
        if self.divisor is not None and not self.divisor > 0:
            raise ValueError(f"scale divisor: received {self.divisor!r}, expected a number > 0")

    @property
    def qmax(self) -> int:
        """The largest code: 1, 7, 31 or 127."""
        return 2 ** (self.bits - 1) - 1


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
    """The spec of a named recipe.

    Raises:
        PolicyError: if there is no recipe of that name.
    """
    if name not in RECIPES:
        raise PolicyError(f"unknown recipe {name!r}; expected one of: {', '.join(RECIPES)}")
    return RECIPES[name]


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
        if value not in POLICIES:
            raise PolicyError(f"unknown recipe {value!r}; expected one of: {', '.join(POLICIES)}")
        return POLICIES[value]
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
