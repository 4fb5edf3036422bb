"""The recogniser: front end, encoder, prediction network and joint, as a Keras model."""

import dataclasses
import importlib
from typing import Any

import keras
from keras import ops

from asr_qat.layers.dense import Dense
from asr_qat.layers.frontend import LogMel
from asr_qat.layers.joint import Joint
from asr_qat.layers.spec_augment import SpecAugment
from asr_qat.losses.rnnt import rnnt_loss
from asr_qat.models.configs import TransducerConfig
from asr_qat.models.encoder import Encoder
from asr_qat.models.prediction import make_prediction
from asr_qat.quantization.spec import Policy, policy


@keras.saving.register_keras_serializable("asr_qat")
class Transducer(keras.Model):
    """A streaming Conformer RNN-T that works with plain ``compile``, ``fit`` and ``evaluate``.

    A batch is a dictionary: ``audio`` float32 ``[batch, samples]``, ``audio_length`` int32
    ``[batch]`` (samples), ``labels`` int32 ``[batch, u]`` (0 beyond the length), ``label_length``
    int32 ``[batch]``. The loss needs the lengths, so it is the model's own: ``compile`` takes
    none.

    Args:
        config: sizes.
        tokenizer: the tokenizer's configuration, kept with the model; its ``pieces`` are the
            labels, ``<blank>`` first.
        precision: a policy's name such as ``"dynamic_wi4_afp32"``, a `Policy`, or rules.

    Raises:
        PolicyError: for an unknown recipe, or a rule that matches no layer.
    """

    built: bool  # Keras' own, set by `build`

    def __init__(
        self,
        config: TransducerConfig,
        tokenizer: dict[str, Any],
        precision: str | Policy | list | None = None,
        **kwargs,
    ):
        super().__init__(**{"name": "transducer", **kwargs})
        self.config = config
        self.tokenizer_config = dict(tokenizer)
        self.policy = policy(precision)
        self.vocabulary_size = len(tokenizer["pieces"])
        dim = config.prediction.dim
        self.frontend = LogMel(**dataclasses.asdict(config.frontend), name="frontend")
        self.spec_augment = SpecAugment(
            **dataclasses.asdict(config.spec_augment), name="spec_augment"
        )
        self.encoder = Encoder(
            **dataclasses.asdict(config.encoder), precision=self.policy, name="encoder"
        )
        self.prediction = make_prediction(config.prediction, self.vocabulary_size, self.policy)
        self.joint = Joint(dim, self.vocabulary_size, precision=self.policy, name="joint")
        self.build()

    def build(self, input_shape=None):
        """Makes all weights; every size is in the configuration."""
        if self.built:
            return
        encoder, prediction = self.config.encoder, self.config.prediction
        self.frontend.build((None, None))
        self.encoder.build((None, None, self.config.frontend.mel_bins))
        self.prediction.build((None, None))
        self.joint.build((None, None, encoder.dim), (None, None, prediction.dim))
        self.built = True
        with_recipe = [layer for layer in self._flatten_layers() if hasattr(layer, "apply_recipe")]
        self.policy.check([layer.path for layer in with_recipe])

    def dense_layers(self) -> list[Dense]:
        """Every layer that a precision can be chosen for, in order."""
        return [layer for layer in self._flatten_layers() if isinstance(layer, Dense)]

    def encode(self, audio, training=False):
        """Samples ``[batch, samples]`` -> encoder frames ``[batch, time, dim]``."""
        features = self.spec_augment(self.frontend(audio), training=training)
        return self.encoder(features, training=training)

    def encoded_length(self, audio_length):
        """Encoder frames of utterances of so many samples."""
        return audio_length // self.frontend.hop_samples // self.encoder.subsampling.factor

    def call(self, inputs, training=False):
        """A batch -> logits ``[batch, time, u + 1, vocabulary]``."""
        encoded = self.encode(inputs["audio"], training=training)
        return self.joint(encoded, self.prediction(inputs["labels"]), self.prediction.table)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean over the batch of the RNN-T loss, in nats an utterance."""
        lengths = self.encoded_length(ops.cast(x["audio_length"], "int32"))
        losses = rnnt_loss(y_pred, x["labels"], lengths, x["label_length"])
        loss = ops.mean(losses)
        for extra in self.losses:
            loss = loss + extra
        return loss

    def get_config(self):
        """The constructor's arguments."""
        return {
            "name": self.name,
            "config": self.config.to_dict(),
            "tokenizer": self.tokenizer_config,
            "precision": self.policy.to_list(),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The inverse of `get_config`."""
        config = dict(config)
        return cls(TransducerConfig.from_dict(config.pop("config")), **config)

    def with_precision(self, precision) -> "Transducer":
        """A copy with the same weights at another precision (weights are held in float).

        Weights go by their paths: a precision may have some of its own (activation ranges), which
        start anew where this model has none.
        """
        other = type(self)(self.config, self.tokenizer_config, precision, name=self.name)
        copy_weights(self, other)
        return other

    def export(
        self, filepath, format="litert", verbose=None, input_signature=None, recipe=None, **kwargs
    ):
        """Writes a verified .tflite file, in the manner of Keras' `Model.export`.

        Args:
            filepath: of the file.
            format: ``"litert"``; for other formats Keras' own method runs.
            verbose: whether to say what was written; by default yes.
            input_signature: for other formats.
            recipe: another precision than the model's: a policy's name, a `Policy` or rules.
            **kwargs: of `asr_qat.export.exporter.export_model`: ``chunk_ms``, ``utterance``,
                ``float16``, ``waves``, ``training``.

        Returns:
            The parity report (`asr_qat.export.verify.ParityReport`).
        """
        if format != "litert":
            return super().export(filepath, format, verbose, input_signature, **kwargs)
        # By name, because the exporter imports the models and not the other way round.
        exporter = importlib.import_module("asr_qat.export.exporter")
        model = self if recipe is None else self.with_precision(recipe)
        report = exporter.export_model(model, filepath, **kwargs)
        if verbose is not False:
            equal, total = report.layers_bit_equal, len(report.served)
            print(
                f"{filepath}: {equal} of {total} layers bit-equal, {report.transcripts_equal} of "
                f"{report.transcripts_total} transcripts equal"
            )
        return report


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies weights of equal paths; both models are built.

    Raises:
        ValueError: if a trainable weight of the target is not in the source, or has another shape.
    """
    known = {weight.path: weight for weight in source.weights}
    for weight in target.weights:
        if weight.path in known:
            weight.assign(known[weight.path])
        elif weight.trainable:
            raise ValueError(f"{weight.path}: no such weight to copy; expected one of its path")
