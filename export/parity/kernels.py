"""The engines that run a file, and what is known of how their kernels quantize rows."""

import enum
import platform

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType


class Target(enum.Enum):
    """Whose arithmetic: the kernels differ in how rows are quantized and results are rounded."""

    XNNPACK_X86 = "xnnpack_x86"
    XNNPACK_ARM64 = "xnnpack_arm64"
    BUILTIN = "builtin"  # TFLite's own optimized kernels, without XNNPACK
    REFERENCE = "reference"  # TFLite's plain kernels

    @classmethod
    def here(cls, activation: str = "asymmetric_rows", bits: int = 4) -> "Target":
        """The target on this machine of an activation mode; 2-bit kernels are alike everywhere."""
        if activation == "symmetric_rows":
            return cls.BUILTIN
        arm = platform.machine().lower() in ("aarch64", "arm64")
        return cls.XNNPACK_ARM64 if arm and bits > 2 else cls.XNNPACK_X86

    @property
    def is_xnnpack(self) -> bool:
        """Whether XNNPACK takes what it can, and the built-in kernels the rest."""
        return self in (Target.XNNPACK_X86, Target.XNNPACK_ARM64)

    def serving(self, bits: int, inputs: int) -> "Target":
        """Who runs a FULLY_CONNECTED with packed weights: XNNPACK leaves odd widths to others."""
        if self.is_xnnpack and inputs * bits % 8:
            return Target.BUILTIN
        return self

    def asymmetric(self, bits: int, shape: tuple[int, int], flag: bool) -> bool:
        """Whether a dynamic FULLY_CONNECTED quantizes rows with a zero point.

        Args:
            bits: of the weights as stored.
            shape: of the weights, ``[out, in]``.
            flag: the operator's ``asymmetric_quantize_inputs``. XNNPACK does it in any case. The
                built-in kernels follow the flag, but for the optimized one for 4 bits, which
                never does it.
        """
        channels, inputs = shape
        engine = self.serving(bits, inputs)
        if engine.is_xnnpack:
            return True
        fits = bits == 4 and inputs % 2 == 0 and inputs >= 32 and channels >= 4
        return flag and not (fits and engine is Target.BUILTIN)

    def interpreter(self, content: bytes) -> Interpreter:
        """An interpreter of a file on this target's kernels."""
        resolver = {
            Target.BUILTIN: OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            Target.REFERENCE: OpResolverType.BUILTIN_REF,
        }.get(self, OpResolverType.AUTO)
        return Interpreter(
            model_content=content, num_threads=1, experimental_op_resolver_type=resolver
        )


def run_file(content: bytes, x: np.ndarray, target: Target) -> np.ndarray:
    """Runs a one-input, one-output file on the target's kernels."""
    interpreter = target.interpreter(content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
