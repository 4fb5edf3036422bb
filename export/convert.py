"""TensorFlow functions to one .tflite file with a signature each, builtin ops only."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from .flatbuffer import assert_builtin_only
from .signature import Signature


def convert(signatures: Sequence[Signature], variables: Sequence[Any]) -> bytes:
    """Converts the signatures.

    Args:
        signatures: functions with static shapes.
        variables: every TensorFlow variable that they read.

    Returns:
        The bytes of a float .tflite file.

    Raises:
        ExportError: if the file would need anything but builtin operators.
    """
    module = tf.Module()
    module.held = list(variables)
    functions = {}
    for signature in signatures:
        traced = tf.function(signature.function, autograph=False)
        functions[signature.name] = traced.get_concrete_function(**signature.inputs)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        tf.saved_model.save(module, folder, signatures=functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        content = converter.convert()
    assert_builtin_only(content)
    return content


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides TensorFlow's notes about the conversion, which are written past Python."""
    level = tf.get_logger().level
    tf.get_logger().setLevel("ERROR")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    try:
        yield
    finally:
        tf.get_logger().setLevel(level)
