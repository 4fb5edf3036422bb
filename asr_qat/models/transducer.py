"""The recogniser: front end, encoder, prediction network and joint, as a Keras model."""

import dataclasses
import importlib
import math
import re
from collections.abc import Collection
from typing import Any

import keras
from keras import ops

from asr_qat.backend import in_float32
from asr_qat.layers.dense import Dense
from asr_qat.layers.frontend import LogMel
from asr_qat.layers.joint import Joint, UntiedJoint
from asr_qat.layers.spec_augment import SpecAugment
from asr_qat.losses.joint_rnnt import JointInputs, joint_rnnt_loss
from asr_qat.models.auxiliary import AdditiveJoint, CtcHead
from asr_qat.models.configs import TransducerConfig
from asr_qat.models.distillation import Teacher
from asr_qat.models.ends import make_end, require_fields
from asr_qat.models.passes import Pass, encode
from asr_qat.models.path_training import PATHS
from asr_qat.models.prediction import make_prediction
from asr_qat.models.stages import make_encoder, make_stage
from asr_qat.quantization.quantizers import BFloat16Product, FloatProduct
from asr_qat.quantization.spec import Policy, policy

OF_PRODUCTS = ("clip",)  # trainable weights of a layer that its precision alone asks for


@keras.saving.register_keras_serializable("asr_qat")
class Transducer(keras.Model):
    """A streaming RNN-T that works with plain ``compile``, ``fit`` and ``evaluate``.

    A batch is a dictionary: ``audio`` float32 ``[batch, samples]``, ``audio_length`` int32
    ``[batch]`` (samples), ``labels`` int32 ``[batch, u]`` (0 beyond the length), ``label_length``
    int32 ``[batch]``. The loss needs the lengths, so it is the model's own: ``compile`` takes
    none.

    Args:
        config: sizes.
        tokenizer: the tokenizer's configuration, kept with the model; its ``pieces`` are the
            labels, ``<blank>`` first.
        precision: a policy's name such as ``"dynamic_wi4_afp32"``, a `Policy`, or rules.

    With Keras' dtype policy ``mixed_bfloat16``, products of float layers are computed in bfloat16
    in training; integer layers, and files that are exported, are as without.

    Attributes:
        stages: encoders, each on the output of the one before; the first gets features.
        teacher: whom it learns from beside the labels, or None; see `learn_from`.
        passes: what recognises, from the first partial results to the final ones.
        ends: what hears where speech ends; see `models.ends`.

    Raises:
        PolicyError: for an unknown recipe, or a rule that matches no layer.
        ValueError: for parts that do not fit together.
    """

    built: bool  # Keras' own, set by `build`

    def __init__(
        self,
        config: TransducerConfig,
        tokenizer: dict[str, Any],
        precision: str | Policy | list | None = None,
        **kwargs,
    ):
        super().__init__(**{"name": "transducer", "dtype": "float32", **kwargs})
        self.config = config
        self.tokenizer_config = dict(tokenizer)
        self.policy = policy(precision)
        self.vocabulary_size = len(tokenizer["pieces"])
        self.teacher: Teacher | None = None
        with in_float32() as compute_dtype:
            self._make_parts()
        self._multiply_in(compute_dtype)

    def _make_parts(self):
        config = self.config
        self.frontend = LogMel(**dataclasses.asdict(config.frontend), name="frontend")
        self.spec_augment = SpecAugment(
            **dataclasses.asdict(config.spec_augment), name="spec_augment"
        )
        encoder = make_encoder(config.encoder, self.policy)
        further = [make_stage(stage, encoder.dim, self.policy) for stage in config.cascade]
        self.stages = [encoder, *further]
        endings = [f"_{name}" for name in config.passes] if config.separate_decoders else [""]
        self.predictions = [
            make_prediction(
                config.prediction, self.vocabulary_size, self.policy, f"prediction{ending}"
            )
            for ending in endings
        ]
        joint = Joint if config.joint.tied else UntiedJoint
        sizes = (config.joint.dim, self.vocabulary_size, self.policy, config.joint.distribution)
        self.joints = [joint(*sizes, name=f"joint{ending}") for ending in endings]
        self.passes = self._make_passes()
        heard = (self.stages, self.passes, self.vocabulary_size, self.frontend.hop_samples)
        self.ends = tuple(make_end(end, *heard, self.policy) for end in config.ends)
        self.end_layers = [end.layer for end in self.ends]
        self.ctc = CtcHead(self.vocabulary_size, name="ctc") if config.loss.ctc_weight else None
        kept = config.loss.pruned_labels
        self.additive = AdditiveJoint(self.vocabulary_size, kept, name="additive") if kept else None
        self.seeds = keras.random.SeedGenerator()
        self.path_training = PATHS[config.path_training](self.passes, self.seeds)
        self.build()

    def _multiply_in(self, dtype):
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(
                f"Keras' dtype policy computes in {dtype}; expected float32 or mixed_bfloat16"
            )
        self.in_bfloat16 = dtype == "bfloat16"
        for layer in self.dense_layers() if self.in_bfloat16 else ():
            if type(layer.product) is FloatProduct:
                layer.product = BFloat16Product()

    def _make_passes(self) -> tuple[Pass, ...]:
        names = ["encoder", *(stage.name for stage in self.config.cascade)]
        counts = [names.index(name) + 1 for name in self.config.passes]
        late = [names[i] for i, stage in enumerate(self.stages[:-1]) if stage.delay]
        if late:
            raise ValueError(f"stage {late[0]!r} looks ahead; expected that of the last one alone")
        pairs = list(zip(self.predictions, self.joints, strict=True))
        decoders = pairs if len(pairs) == len(counts) else pairs * len(counts)
        return tuple(
            Pass(name, self.stages[:count], *decoder)
            for name, count, decoder in zip(self.config.passes, counts, decoders, strict=True)
        )

    def build(self, input_shape=None):
        """Makes all weights; every size is in the configuration."""
        if self.built:
            return
        self.frontend.build((None, None))
        shape = (None, None, self.config.frontend.mel_bins)
        for stage in self.stages:
            stage.build(shape)
            shape = (None, None, stage.dim)
        for prediction, joint in zip(self.predictions, self.joints, strict=True):
            prediction.build((None, None))
            width = prediction.table.shape[1]
            if self.config.joint.tied and width != joint.dim:
                raise ValueError(
                    f"a tied joint of width {joint.dim} needs embeddings as wide, received {width}"
                )
            joint.build(shape, (None, None, prediction.dim))
        for end in self.ends:
            end.build()
        if self.ctc:
            self.ctc.build((None, None, self.passes[0].dim))
        if self.additive:
            self.additive.build((None, self.config.joint.dim))
        self.built = True
        with_recipe = [layer for layer in self._flatten_layers() if hasattr(layer, "apply_recipe")]
        self.policy.check([layer.path for layer in with_recipe])

    def make_train_function(self, force=False):
        """As Keras'; makes the optimizer's state before the first step is traced.

        Made by the first step, it would cost a second trace on TensorFlow.
        """
        self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force=force)

    def learn_from(self, teacher: Teacher | None) -> None:
        """Has training add the divergence from a teacher's scores to the loss; None: no longer.

        The teacher is not saved with the model.

        Raises:
            ValueError: if it has other labels or frames, or a joint that is no softmax.
        """
        if teacher is not None:
            teacher.check(self)
        self.teacher = teacher
        self.train_function = None  # compiled without it

    @property
    def non_trainable_variables(self) -> list[Any]:
        """As Keras', and the teacher's: on JAX the compiled step then takes those as arguments.

        As constants, XLA would fold them, and compile anew for every teacher.
        """
        own, teacher = super().non_trainable_variables, getattr(self, "teacher", None)
        if teacher is None:
            return own
        known = {id(variable) for variable in self.variables}
        return own + [v for v in teacher.model.variables if id(v) not in known]

    def dense_layers(self) -> list[Dense]:
        """Every layer that a precision can be chosen for, in order."""
        return [layer for layer in self._flatten_layers() if isinstance(layer, Dense)]

    def encode(self, audio, audio_length, training=False):
        """The frames that each pass reads.

        Args:
            audio: float32 ``[batch, samples]``.
            audio_length: int32 ``[batch]``, samples.
            training: whether this is a training step.

        Returns:
            ``[batch, time, dim]`` for each of `passes`.
        """
        features = self.spec_augment(self.frontend(audio), training=training)
        outputs = encode(self.stages, features, self.feature_length(audio_length), training)
        return [outputs[len(one.stages) - 1] for one in self.passes]

    @property
    def frame_samples(self) -> int:
        """Samples of one frame of the slowest stage."""
        return self.frontend.hop_samples * math.prod(stage.factor for stage in self.stages)

    def feature_length(self, audio_length):
        """Feature frames of utterances of so many samples, int32."""
        return ops.cast(audio_length, "int32") // self.frontend.hop_samples

    def call(self, inputs, training=False):
        """A batch -> what the logits of the last pass are made of: a list of one `JointInputs`.

        In training: of the passes that are trained in this step. The losses of `ends` and of CTC
        are then added to the model's; the batch needs the fields of the ends.

        Raises:
            ValueError: if it lacks one.
        """
        if not training:
            encoded = self.encode(inputs["audio"], inputs["audio_length"])
            return [self.passes[-1].joint_inputs(encoded[-1], inputs["labels"])]
        require_fields(self.ends, inputs)
        features = self.spec_augment(self.frontend(inputs["audio"]), training=True)
        lengths = self.feature_length(inputs["audio_length"])
        outputs = encode(self.stages, features, lengths, training=True)
        for end in self.ends:
            self.add_loss(end.loss(inputs, outputs, lengths))
        if self.ctc:
            first = self.passes[0]
            frames, labels = outputs[len(first.stages) - 1], inputs["labels"]
            counts = (first.lengths(lengths), inputs["label_length"])
            weight = self.config.loss.ctc_weight
            self.add_loss(weight * ops.mean(self.ctc.loss(frames, labels, *counts)))
        return self.path_training.joint_inputs(outputs, inputs["labels"])

    def logits(self, inputs):
        """A batch -> logits ``[batch, time, u + 1, vocabulary]`` of the last pass."""
        encoded = self.encode(inputs["audio"], inputs["audio_length"])
        return self.passes[-1].logits(encoded[-1], inputs["labels"])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean over the batch, and over the passes, of the RNN-T loss, in nats an utterance.

        Args:
            x: the batch.
            y: not used.
            y_pred: what `call` made of it.
            sample_weight: not used.
            training: whether alignments may be pruned, if the configuration says so.
        """
        features = self.feature_length(x["audio_length"])
        pairs = zip(self.passes[-len(y_pred) :], y_pred, strict=True)
        taught = self.teacher.taught(x) if self.teacher and training else None
        losses = [self._pass_loss(*pair, x, features, training, taught) for pair in pairs]
        return sum(losses) / len(losses) + sum(self.losses)

    def _pass_loss(self, one, inputs: JointInputs, batch, features, training, taught):
        lengths = (batch["labels"], one.lengths(features), batch["label_length"])
        among, additive = None, 0.0
        if self.additive and training:
            losses, among = self.additive(inputs, *lengths)
            additive = self.config.loss.additive_weight * ops.mean(losses)
        losses = joint_rnnt_loss(
            inputs,
            *lengths,
            fast_emit=self.config.loss.fast_emit,
            distribution=one.joint.distribution,
            among=among,
            taught=taught,
        )
        return ops.mean(losses) + additive

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

        Weights go by their paths: a precision may have some of its own (activation ranges,
        clipping), which start anew where this model has none.
        """
        other = type(self)(self.config, self.tokenizer_config, precision, name=self.name)
        known = {weight.path for weight in self.weights}
        new = {
            layer: [w.path for w in layer.weights if w.path not in known and w.name in OF_PRODUCTS]
            for layer in other.dense_layers()
        }
        copy_weights(self, other, besides={path for paths in new.values() for path in paths})
        for layer, paths in new.items():
            if paths:
                layer.product.start_from(ops.convert_to_tensor(layer.kernel))
        return other

    def submodel(self, name: str) -> "Transducer":
        """A copy of what one pass needs, as a model of its own with the same weights.

        Raises:
            ValueError: if there is no such pass.
        """
        part = type(self)(self.config.up_to(name), self.tokenizer_config, name=self.name)
        copy_weights(self, part)
        paths = [x.path for x in part._flatten_layers() if hasattr(x, "apply_recipe")]
        rules = [r for r in self.policy.rules if any(re.search(r[0], path) for path in paths)]
        return part.with_precision(rules)

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
        model = self
        if recipe is not None or self.in_bfloat16:
            with in_float32():
                model = self.with_precision(self.policy if recipe is None else recipe)
        report = exporter.export_model(model, filepath, **kwargs)
        if verbose is not False:
            equal, total = report.layers_bit_equal, len(report.served)
            print(
                f"{filepath}: {equal} of {total} layers bit-equal, {report.transcripts_equal} of "
                f"{report.transcripts_total} transcripts equal"
            )
        return report


def copy_weights(source: keras.Model, target: keras.Model, besides: Collection[str] = ()) -> None:
    """Copies weights of equal paths; both models are built.

    Args:
        source: has the weights.
        target: gets them.
        besides: paths of trainable weights that the source need not have.

    Raises:
        ValueError: if another trainable weight of the target is not in the source, or has another
            shape.
    """
    known = {weight.path: weight for weight in source.weights}
    for weight in target.weights:
        if weight.path in known:
            weight.assign(known[weight.path])
        elif weight.trainable and weight.path not in besides:
            raise ValueError(f"{weight.path}: no such weight to copy; expected one of its path")
