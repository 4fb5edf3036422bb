"""`asr-qat train`: manifests in, a trained Keras model out."""

import argparse
import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

HELP = "train a recogniser, in float or with native-integer quantization"

EPILOG = """\
example:
  asr-qat train --train train.jsonl --valid dev.jsonl --out runs/float --epochs 20
  asr-qat train --train train.jsonl --out runs/int4 --recipe dynamic_wi4_afp32 \\
      --init runs/float/model.keras --epochs 5 --learning-rate 5e-4
  asr-qat train --train train.jsonl --out runs/mixed --recipe dynamic_wi4_afp32 \\
      --rule 'encoder/subsampling/=dynamic_wi8_afp32' --float-epochs 20 --epochs 5
  asr-qat train --train train.jsonl --out runs/int2 --init runs/float/model.keras \\
      --recipe dynamic_wi2_afp32,clipping:lloyd_max --teacher runs/float/model.keras
  asr-qat train --train train.jsonl --out runs/sparse --recipe dynamic_wi4_afp32 \\
      --init runs/float/model.keras --epochs 10 --sparsity 0.5 --prune encoder/

--sparsity prunes while it trains: the share of zeros grows from 10 % to 70 % of the steps (with
--float-epochs: of the second run), then stays. It makes files smaller to send (asr-qat inspect
says the compressed size), not faster: no kernel of TFLite skips the zeros of 4-bit weights.

A run that was interrupted, however it was, goes on from its last checkpoint when the same command
is given again, and ends as it would have without the interruption, bit for bit: docs/training.md.
Several machines train one model when TF_CONFIG (TensorFlow) or KERAS_DISTRIBUTION_... (JAX) names
them; --batch-size is that of all together: docs/more_machines.md.
Watch it with: tensorboard --logdir runs, or asr-qat summary runs/*"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = "Trains a streaming Conformer RNN-T and writes OUT/model.keras."
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--train", action="append", required=True, help="manifest (may be given several times)")
    add("--valid", action="append", default=[], help="manifest for the validation loss")
    add("--out", required=True, help="folder for model.keras, run.json, logs and checkpoints")
    add(
        "--preset",
        default="digits",
        help="model, such as tiny, conformer_s or cascaded: docs/models.md (digits)",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="fields",
        help="of the preset, such as encoder.blocks=6 or loss.pruned_labels=5",
    )
    add(
        "--recipe",
        default="float32",
        help="precision, such as dynamic_wi4_afp32, or a file of asr-qat sensitivity (float32)",
    )
    add("--rule", action="append", default=[], metavar="PATTERN=RECIPE", help="on top of --recipe")
    add("--init", help="start from the weights and the vocabulary of this model.keras")
    add("--quantize-from", type=int, default=0, metavar="STEP", help="float until then (0)")
    add("--teacher", metavar="MODEL", help="a model.keras to agree with, such as the float one")
    add("--teacher-weight", type=float, metavar="W", help="of that beside the loss (1)")
    add("--float-epochs", type=int, default=0, help="epochs in float first, in OUT/float (0)")
    add("--epochs", type=int, default=20, help="epochs (20)")
    add("--batch-size", type=int, default=32, help="utterances a step (32)")
    add("--learning-rate", type=float, help="peak (1.5e-3; 5e-4 with --init or --float-epochs)")
    add("--schedule", choices=["cosine", "inverse_sqrt"], default="cosine", help="(cosine)")
    add("--warmup-steps", type=int, default=200, metavar="N", help="of the learning rate (200)")
    add("--clip-norm", type=float, default=5.0, help="of the whole gradient; 0: none (5)")
    add("--accumulate", type=int, default=1, metavar="N", help="steps for one update (1)")
    add("--ema", type=float, default=0.0, metavar="MOMENTUM", help="average weights, as 0.999 (0)")
    add("--average-last", type=int, default=0, metavar="N", help="epochs to average in the end (0)")
    add("--checkpoint-steps", type=int, default=500, metavar="N", help="between checkpoints (500)")
    add("--keep-checkpoints", type=int, default=3, metavar="N", help="that stay on disk (3)")
    add("--dev-utterances", type=int, default=64, metavar="N", help="of --valid, for a WER (64)")
    add(
        "--compile-cache",
        metavar="DIR",
        help='what XLA has compiled; "none": no cache (~/.cache/asr_qat)',
    )
    add("--bucket-seconds", default="2,4,8", help="longest utterance of each bucket (2,4,8)")
    add("--sentencepiece", type=int, metavar="SIZE", help="word pieces instead of characters")
    add("--no-augment", action="store_true", help="leave the waveforms as they are")
    add("--noise", action="append", default=[], metavar="MANIFEST", help="recorded noise to add")
    add("--rooms", action="append", default=[], metavar="MANIFEST", help="impulse responses")
    add("--bfloat16", action="store_true", help="products of float layers in bfloat16")
    add("--max-bad-share", type=float, default=0.02, help="of unreadable recordings (0.02)")
    add("--sparsity", type=float, metavar="SHARE", help="of zeros in each layer, such as 0.5")
    add("--prune", metavar="REGEX", help="layers that --sparsity is for, by path (all)")
    add("--prune-block", type=int, metavar="N", help="zeros in blocks of N outputs, 1 or 8 (1)")
    add("--prune-every", type=int, metavar="STEPS", help="between choices of the zeros (100)")
    add("--seed", type=int, default=0, help="of weights, order and augmentation (0)")


def with_fields(config: Any, settings: list[str]) -> Any:
    """A configuration with fields replaced, each given as ``encoder.blocks=6``.

    Raises:
        ValueError: if there is no such field or the value has another type.
    """
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting!r}: expected FIELD=VALUE, such as encoder.blocks=6")
        config = _replace(config, path.split("."), value, setting)
    return config


def _replace(config, names, value, setting):
    known = {f.name for f in dataclasses.fields(config)}
    if names[0] not in known:
        raise ValueError(
            f"--set {setting!r}: no field {names[0]!r}; expected one of {sorted(known)}"
        )
    old = getattr(config, names[0])
    if len(names) > 1 and dataclasses.is_dataclass(old):
        new = _replace(old, names[1:], value, setting)
    elif len(names) == 1 and isinstance(old, (int, float, str)):
        try:
            new = type(old)(value)
        except ValueError:
            kind = type(old).__name__
            raise ValueError(f"--set {setting!r}: {value!r} is no {kind}") from None
    else:
        raise ValueError(f"--set {setting!r}: {'.'.join(names)!r} is not a single number or word")
    return dataclasses.replace(config, **{names[0]: new})


def pruning_config(args: argparse.Namespace) -> Any:
    """What the flags say about pruning; None without ``--sparsity``.

    Raises:
        ValueError: for a value out of range, or further flags without ``--sparsity``.
    """
    from asr_qat.training.pruning import PruningConfig

    flags = {"block": args.prune_block, "pattern": args.prune, "every": args.prune_every}
    given = {name: value for name, value in flags.items() if value is not None}
    if args.sparsity is not None:
        return PruningConfig(sparsity=args.sparsity, **given)
    if given:
        raise ValueError("--prune, --prune-block and --prune-every: expected --sparsity, too")
    return None


def training_config(
    args: argparse.Namespace, epochs: int, rate: float, before: bool = False
) -> Any:
    """What the flags say about a run of so many epochs.

    Args:
        args: the flags.
        epochs: of this run.
        rate: peak of the learning rate.
        before: whether it is the float run before the one that ``--epochs`` is for.

    Raises:
        ValueError: for a value out of range.
    """
    from asr_qat.training.fit import TrainingConfig

    return TrainingConfig(
        epochs=epochs,
        learning_rate=rate,
        schedule=args.schedule,
        warmup_steps=args.warmup_steps,
        clip_norm=args.clip_norm,
        ema_momentum=args.ema,
        accumulate_steps=args.accumulate,
        average_last=min(args.average_last, epochs) if before else args.average_last,
        checkpoint_steps=args.checkpoint_steps,
        keep_checkpoints=args.keep_checkpoints,
        quantize_from=0 if before else args.quantize_from,
        dev_utterances=args.dev_utterances,
        seed=args.seed,
    )


def run(args: argparse.Namespace) -> int:
    """Trains, and prints where the model is."""
    from asr_qat.training.compile_cache import default_folder, use_compile_cache

    from .tensorflow_quiet import quiet_tensorflow

    if args.compile_cache != "none":
        use_compile_cache(args.compile_cache or default_folder())
    quiet_tensorflow()
    import keras

    from asr_qat.training.distribution import workers_from_environment

    workers = workers_from_environment()  # before Keras makes anything
    from asr_qat.data.manifest import read_manifest
    from asr_qat.data.tokenizer import (
        CharacterTokenizer,
        tokenizer_from_config,
        train_sentencepiece,
    )
    from asr_qat.models.distillation import Teacher
    from asr_qat.models.presets import preset
    from asr_qat.quantization.recipe_file import recipe_or_file
    from asr_qat.quantization.spec import parse_rule
    from asr_qat.training.run import BatchConfig, load_model, make_model, train_model

    from .precision import print_precision

    config = with_fields(preset(args.preset), args.fields)
    precision = recipe_or_file(args.recipe).with_rules([parse_rule(rule) for rule in args.rule])
    train = [u for path in args.train for u in read_manifest(path)]
    valid = [u for path in args.valid for u in read_manifest(path)]
    texts = [u.text for u in train]
    if args.init:
        tokenizer = tokenizer_from_config(load_model(args.init).tokenizer_config)
    elif args.sentencepiece:
        tokenizer = train_sentencepiece(texts, args.sentencepiece)
    else:
        tokenizer = CharacterTokenizer.from_texts(texts)
    batches = BatchConfig(
        batch_size=args.batch_size,
        bucket_seconds=tuple(float(s) for s in args.bucket_seconds.split(",")),
        max_bad_share=args.max_bad_share,
        noise=tuple(args.noise),
        rooms=tuple(args.rooms),
    )
    if args.no_augment and (args.noise or args.rooms):
        raise ValueError("--noise and --rooms: expected no --no-augment, which leaves them out")
    if args.bfloat16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    if args.no_augment:
        batches = dataclasses.replace(batches, augment=None)
    if args.teacher_weight is not None and not args.teacher:
        raise ValueError("--teacher-weight: expected --teacher, too")
    out, pruning = Path(args.out), pruning_config(args)

    def one_run(folder, rules, init, epochs, rate, pruning=None):
        keras.utils.set_random_seed(args.seed)
        # The second: Keras' progress bar.
        with workers.scope(), contextlib.redirect_stdout(sys.stderr):
            model = make_model(config, tokenizer, rules, init)
            if args.teacher and folder == out:
                model.learn_from(Teacher(load_model(args.teacher), args.teacher_weight or 1.0))
            if workers.is_chief:
                print_precision(model, sys.stderr)
            return train_model(
                model,
                train,
                tokenizer,
                folder,
                training=training_config(args, epochs, rate, before=folder != out),
                batches=batches,
                valid=valid,
                pruning=pruning,
                verbose=0 if args.json else 1 if sys.stderr.isatty() else 2,
                workers=workers,
            )

    init = args.init
    if args.float_epochs and not (out / "float" / "model.keras").exists():
        one_run(out / "float", None, init, args.float_epochs, 1.5e-3)
    if args.float_epochs:
        init = str(out / "float" / "model.keras")
    rate = args.learning_rate or (5e-4 if init else 1.5e-3)
    record = one_run(out, precision, init, args.epochs, rate, pruning)
    if not workers.is_chief:
        return 0
    if args.json:
        print(json.dumps({"model": str(out / "model.keras"), **record}))
    else:
        print(f"{out / 'model.keras'}: loss {record['history']['loss'][-1]:.3f} nats an utterance")
        if pruning is not None:
            pruned = record["pruning"]
            print(f"{pruned['nonzero_parameters']:,} of {pruned['parameters']:,} parameters left")
    return 0


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
