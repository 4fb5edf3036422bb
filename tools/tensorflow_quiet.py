"""Imports of TensorFlow that say nothing about instruction sets and plug-ins."""

import logging
import os

from .native_logs import without_native_notes


class _NoRetracingNotes(logging.Filter):
    """Drops the advice about functions traced anew: each layer is checked by one of its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for that advice."""
        return "triggered tf.function retracing" not in record.getMessage()


def quiet_tensorflow() -> None:
    """Imports TensorFlow, where it is Keras' backend; to be called before anything else does."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("tensorflow").addFilter(_NoRetracingNotes())
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        with without_native_notes():
            import tensorflow as tf

            tf.config.list_physical_devices()
