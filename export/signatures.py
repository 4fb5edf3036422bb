"""The functions of the exported file.

| signature | in | out |
|---|---|---|
| frontend | samples | features |
| encoder | features | encoded |
| encoder_second, … | encoded | encoded |
| prediction | label | predicted |
| joint | encoded, predicted | logits |
| recognize_chunk | samples, label | labels, count |
| encode_utterance | samples, any number | encoded |

and those of what hears where speech ends, in `ends`.

Every state is a named input ``x`` and a named output ``next_x``; all are zero at the start. A
model with several passes has a stage for each signature ``encoder_<stage>``; decoders of their
own are ``prediction_<pass>`` and ``joint_<pass>``. `recognize_chunk` then gives ``labels_<pass>``
and ``count_<pass>`` beside those of the first pass, and where a pass looks ahead it takes
``flush``: 0, but for chunks after the end of the utterance, which that pass does not hear, the
number of frames that it still owes: at first its ``delay``.
"""

import tensorflow as tf

from asr_qat.models.transducer import Transducer

from .ends import chunk_end_signatures, joint_end_signatures
from .recognize_chunk import ending, recognizer_signature
from .signature import Signature, streaming, within


def chunk_signatures(model: Transducer, chunk_samples: int, suffix: str = "") -> list[Signature]:
    """Front end, encoders, and the whole recogniser, on chunks of one size, batch 1.

    Args:
        model: whose products are being traced (`twin.weights_as_inputs`).
        chunk_samples: samples of one call, a multiple of the model's ``frame_samples``.
        suffix: of the signatures' names; the states' names have none, so that a stream may change
            its chunk size as it runs.
    """
    samples = tf.TensorSpec((1, chunk_samples), tf.float32, name="samples")
    signatures = [
        streaming(
            f"frontend{suffix}",
            "frontend",
            model.frontend.step,
            "samples",
            samples,
            "features",
            model.frontend.initial_state(1),
        )
    ]
    frames, dim, argument = (
        chunk_samples // model.frontend.hop_samples,
        model.config.frontend.mel_bins,
        "features",
    )
    for stage in model.stages:
        signatures.append(
            streaming(
                f"{stage.name}{suffix}",
                stage.name,
                stage.step,
                argument,
                tf.TensorSpec((1, frames, dim), tf.float32, name=argument),
                "encoded",
                stage.initial_state(1),
            )
        )
        frames, dim, argument = frames // stage.factor, stage.dim, "encoded"
    signatures += chunk_end_signatures(model, chunk_samples, suffix)
    return [*signatures, recognizer_signature(model, f"recognize_chunk{suffix}", samples)]


def decoder_signatures(model: Transducer) -> list[Signature]:
    """One step of each prediction network, and each joint network, batch 1."""
    pairs = zip(model.predictions, model.joints, strict=True)
    signatures = [s for pair in pairs for s in _decoder(model, *pair)]
    return signatures + joint_end_signatures(model)


def _decoder(model, prediction, joint):
    predicted = tf.TensorSpec((1, prediction.dim), tf.float32, name="predicted")
    encoded = tf.TensorSpec((1, model.stages[-1].dim), tf.float32, name="encoded")

    def score(encoded, predicted):
        return {"logits": joint.step(encoded, predicted, prediction.table)}

    def predict(label, state):
        state = tf.nest.map_structure(lambda v: within(v, model.vocabulary_size), state)
        return prediction.step(within(label, model.vocabulary_size), state)

    return [
        streaming(
            prediction.name,
            prediction.name,
            predict,
            "label",
            tf.TensorSpec((1,), tf.int32, name="label"),
            "predicted",
            prediction.initial_state(1),
        ),
        Signature(joint.name, score, {"encoded": encoded, "predicted": predicted}),
    ]


def utterance_signature(model: Transducer) -> Signature:
    """Samples of a whole utterance, of any length, to the frames of each pass; no states."""

    def function(samples):
        encoded = model.encode(samples, tf.shape(samples)[1:])
        names = [f"encoded{ending(model, one.name)}" for one in model.passes]
        return dict(zip(names, encoded, strict=True))

    samples = tf.TensorSpec((1, None), tf.float32, name="samples")
    return Signature("encode_utterance", function, {"samples": samples})
