"""What hears where speech ends, in the exported file: its signatures and its description.

| signature | in | out |
|---|---|---|
| endpointer | encoded [1, frames, dim] | logits [1, frames, 4] |
| end joint, by its name | encoded, predicted | logits [1, vocabulary + 1], that of the end last |
"""

from functools import singledispatch
from typing import Any

import tensorflow as tf

from asr_qat.data.ends import FRAME_CLASSES
from asr_qat.models.ends import EndJointHead, EndpointerHead
from asr_qat.models.transducer import Transducer

from .signature import Signature, streaming


def chunk_end_signatures(model: Transducer, chunk_samples: int, suffix: str) -> list[Signature]:
    """Of what hears frames: one for a chunk size; see `signatures.chunk_signatures`."""
    return [
        streaming(
            f"{end.name}{suffix}",
            end.name,
            end.layer.step,
            "encoded",
            _frames(end.stages[-1].dim, chunk_samples // end.frame_samples),
            "logits",
            end.layer.initial_state(1),
        )
        for end in model.ends
        if isinstance(end, EndpointerHead)
    ]


def joint_end_signatures(model: Transducer) -> list[Signature]:
    """Of what hears a frame and the labels before it; no states."""
    return [_joint(end) for end in model.ends if isinstance(end, EndJointHead)]


def _frames(dim, count):
    return tf.TensorSpec((1, count, dim), tf.float32, name="encoded")


def _joint(end):
    def score(encoded, predicted):
        return {"logits": end.logits(encoded, predicted)}

    sizes = {"encoded": end.read.dim, "predicted": end.read.prediction.dim}
    inputs = {name: tf.TensorSpec((1, dim), tf.float32, name=name) for name, dim in sizes.items()}
    return Signature(end.name, score, inputs)


@singledispatch
def described_end(end) -> dict[str, Any]:
    """An end's entry in the file's metadata."""
    raise ValueError(f"no description of a {type(end).__name__}")


@described_end.register
def _(end: EndpointerHead):
    return {
        "name": end.name,
        "kind": "endpointer",
        "signature": end.name,
        "encoder": end.stages[-1].name,
        "classes": list(FRAME_CLASSES),
    }


@described_end.register
def _(end: EndJointHead):
    marks = end.config.marks
    return {"name": end.name, "kind": marks, "signature": end.name, "reads": end.read.name}
