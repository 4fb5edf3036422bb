"""The TFLite interpreter: LiteRT's, or tflite-runtime's where LiteRT is not installed.

`tflite-runtime` 2.14.0 (2023), the last of its name, has the same `Interpreter` class over the same
wrapper. It runs INT4 files with its built-in kernels, and refuses INT2 and INT8 ones.
"""

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError as error:
    try:
        from tflite_runtime.interpreter import Interpreter
    except ImportError:
        raise ImportError(
            f"asr_qat.runtime needs ai-edge-litert or tflite-runtime, found neither ({error})"
        ) from error

__all__ = ["Interpreter"]
