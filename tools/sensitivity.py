"""`asr-qat sensitivity`: bits for each layer, from what they cost and a budget of bytes."""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

HELP = "measure what each layer's bits cost, and choose them for a budget of bytes"

EPILOG = """\
example:
  asr-qat sensitivity runs/float/model.keras --manifest dev.jsonl --out mixed.json
  asr-qat sensitivity runs/float/model.keras --manifest dev.jsonl --out mixed.json \\
      --budget-ratio 0.4
  asr-qat train --train train.jsonl --out runs/mixed --recipe mixed.json \\
      --init runs/float/model.keras --epochs 2 --learning-rate 5e-4
  asr-qat export runs/float/model.keras --out mixed.tflite --recipe mixed.json

The scan is kept beside OUT (mixed.scan.json): after an interruption, or with another budget,
repeat the command. docs/mixed_precision.md says what is measured and what is not."""

RECIPES = ("dynamic_wi2_afp32", "dynamic_wi4_afp32", "dynamic_wi8_afp32")
SHOWN = 12  # points of the front that are printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Measures the loss on a dev set with the weights of one layer after the other at each "
        "recipe, prints it, and the least sum of these increases for every number of bytes. With a "
        "budget, measures the best recipes for it and the uniform ones, and writes the best of all."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("model", help="model.keras written by `asr-qat train`, best of a float run")
    add("--manifest", required=True, help="dev set, JSON lines; not the test set")
    add("--out", required=True, help="the recipe file, .json")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--budget-bytes", type=int, metavar="N", help="of the layers' weights")
    budget.add_argument(
        "--budget-ratio", type=float, metavar="R", help="the same, of the largest recipe's bytes"
    )
    add(
        "--recipes",
        nargs="+",
        default=list(RECIPES),
        metavar="RECIPE",
        help=f"to choose from ({' '.join(RECIPES)})",
    )
    add("--layers", metavar="REGEX", help="to choose for, by path (all of the encoder)")
    add(
        "--labels",
        choices=["own", "reference"],
        default="own",
        help="of the loss: what the model itself recognises, or the manifest's text (own)",
    )
    add("--utterances", type=int, default=200, metavar="N", help="of the dev set (200)")
    add("--batch-size", type=int, default=20, help="utterances evaluated together (20)")
    add("--bucket-seconds", help="longest utterance of each bucket (one bucket for all)")
    add("--verify", type=int, default=4, metavar="N", help="recipes of the search to measure (4)")


def run(args: argparse.Namespace) -> int:
    """Scans, searches, prints, and writes the recipe."""
    from asr_qat.training.compile_cache import default_folder, use_compile_cache

    from .tensorflow_quiet import quiet_tensorflow

    _check(args)
    use_compile_cache(default_folder())
    quiet_tensorflow()
    from tqdm import tqdm

    from asr_qat.quantization.allocation import Front
    from asr_qat.quantization.recipe_file import write_recipe_file
    from asr_qat.quantization.spec import ENCODERS, policy, recipe
    from asr_qat.training.run import load_model
    from asr_qat.training.sensitivity import layers_to_scan, options, rules_for

    from .native_logs import without_native_notes
    from .sensitivity_text import print_front, print_layers, print_search

    for name in args.recipes:
        recipe(name)
    model = load_model(args.model)
    twin = model.with_precision(policy(None))
    pattern = args.layers or ENCODERS
    layers = layers_to_scan(twin, pattern)
    by_layer = [options(layer, args.recipes) for layer in layers]
    sizes = [list(found.values()) for found in by_layer]
    with without_native_notes() as terminal:
        bar = partial(tqdm, unit="loss", file=terminal, disable=None)
        scan, loss = _scan(args, twin, layers, bar)
        costs = [scan.increases(x, found) for x, found in zip(layers, by_layer, strict=True)]
        front = Front(sizes, costs)
        document: dict[str, Any] = {
            "model": args.model,
            "model_sha256": scan.settings["model"],
            "manifest": args.manifest,
            "utterances": scan.settings["utterances"],
            "labels": args.labels,
            "float_loss": scan.float_loss,
        }
        found = {
            "layers": [
                {
                    "path": layer.path,
                    "parameters": int(layer.kernel.shape[0] * layer.kernel.shape[1]),
                    "bytes": size,
                    "increase": dict(zip(size, cost, strict=True)),
                }
                for layer, size, cost in zip(layers, by_layer, costs, strict=True)
            ],
            "front": [described(plan, by_layer) for plan in thinned(front.plans, SHOWN)],
        }
        budget = args.budget_bytes
        if args.budget_ratio is not None:
            budget = int(args.budget_ratio * sum(map(max, sizes)))
        if budget is not None:
            plans = candidates(front, by_layer, costs, budget, args.verify)
            rows = _measured(plans, layers, by_layer, loss, scan.float_loss, bar)
            best = min(range(len(rows)), key=lambda i: rows[i]["measured_increase"])
            document |= {"budget_bytes": budget, "candidates": rows, "best": rows[best]}
            rules = rules_for(model, pattern, choice_of(plans[best][1], layers, by_layer))
            write_recipe_file(args.out, rules, document)
    if args.json:
        print(json.dumps({**document, **found}))
        return 0
    print_layers(found["layers"], list(dict.fromkeys(args.recipes)), document)
    print_front(found["front"])
    print_search(document, args.out)
    return 0


def _check(args):
    if Path(args.out).suffix != ".json":
        raise ValueError(f"--out {args.out}: expected a name that ends in .json")
    for flag in ("utterances", "batch_size", "verify"):
        if getattr(args, flag) < 1:
            name = "--" + flag.replace("_", "-")
            raise ValueError(f"{name}: received {getattr(args, flag)}, expected at least 1")
    if args.budget_ratio is not None and not 0 < args.budget_ratio <= 1:
        raise ValueError(
            f"--budget-ratio: received {args.budget_ratio}, expected above 0 and at most 1"
        )


def _scan(args, twin, layers, bar):
    """The finished scan, and the loss that it was made with."""
    from asr_qat.data.manifest import read_manifest
    from asr_qat.data.pipeline import make_dataset
    from asr_qat.data.tokenizer import tokenizer_from_config
    from asr_qat.training.dev_sample import choose
    from asr_qat.training.run import BatchConfig, data_settings
    from asr_qat.training.sensitivity import DevLoss, Scan, transcribed

    utterances = read_manifest(args.manifest)
    longest = max(utterance.duration for utterance in utterances)
    buckets = args.bucket_seconds or str(longest)
    seconds = tuple(float(part) for part in buckets.split(","))
    chosen = choose(utterances, args.utterances, seconds[-1])
    batches = BatchConfig(batch_size=args.batch_size, bucket_seconds=seconds, augment=None)
    settings = {
        "model": hashlib.sha256(Path(args.model).read_bytes()).hexdigest(),
        "labels": args.labels,
        **data_settings(chosen, batches, 0),
    }
    scan = Scan(Path(args.out).with_suffix(".scan.json"), settings)
    if scan.losses:
        print(f"goes on with {scan.path}", file=sys.stderr)
    tokenizer = tokenizer_from_config(twin.tokenizer_config)
    if args.labels == "own":
        chosen = transcribed(twin, chosen, tokenizer)
    dataset = make_dataset(
        chosen,
        tokenizer,
        batch_size=batches.batch_size,
        bucket_seconds=batches.bucket_seconds,
        shuffle=False,
        max_bad_share=batches.max_bad_share,
        max_symbols_per_frame=twin.config.max_symbols_per_frame,
        frame_samples=twin.frame_samples,
        pad_second=False,
    )
    loss = DevLoss(twin, dataset)
    scan.run(layers, args.recipes, loss, partial(bar, desc="scan"))
    return scan, loss


def candidates(
    front: Any, by_layer: Sequence[dict[str, int]], costs: Any, budget: int, count: int
) -> list[tuple[str, Any]]:
    """What is measured: plans near the budget, best first, and each recipe for all that fits."""
    from asr_qat.quantization.allocation import Plan

    plans = [(f"search {i}", p) for i, p in enumerate(reversed(front.near(budget, count)), 1)]
    for name in by_layer[0]:
        if all(name in found for found in by_layer):
            picks = tuple(list(found).index(name) for found in by_layer)
            size = sum(found[name] for found in by_layer)
            cost = sum(row[k] for row, k in zip(costs, picks, strict=True))
            if size <= budget:
                plans.append((name, Plan(size, cost, picks)))
    return plans


def _measured(plans, layers, by_layer, loss, float_loss, bar: Callable) -> list[dict[str, Any]]:
    from asr_qat.training.sensitivity import measure

    return [
        {
            "name": name,
            **described(plan, by_layer),
            "measured_increase": measure(layers, choice_of(plan, layers, by_layer), loss)
            - float_loss,
        }
        for name, plan in bar(plans, desc="candidates")
    ]


def choice_of(plan: Any, layers: Sequence[Any], by_layer: Sequence[dict]) -> dict[str, str]:
    """Each layer's recipe, by its path."""
    rows = zip(layers, by_layer, plan.options, strict=True)
    return {layer.path: list(found)[option] for layer, found, option in rows}


def described(plan: Any, by_layer: Sequence[dict[str, int]]) -> dict[str, Any]:
    """A plan, JSON-ready: bytes, predicted increase, and how many layers are at each recipe."""
    names = [list(found)[k] for found, k in zip(by_layer, plan.options, strict=True)]
    return {
        "bytes": plan.bytes,
        "predicted_increase": plan.cost,
        "layers_at": dict(sorted(Counter(names).items())),
    }


def thinned(plans: Sequence[Any], count: int) -> list[Any]:
    """At most so many of the plans, evenly by bytes, first and last among them."""
    low, high = plans[0].bytes, plans[-1].bytes
    wanted = [low + (high - low) * i / max(count - 1, 1) for i in range(count)]
    return list(dict.fromkeys(min((abs(p.bytes - at), p) for p in plans)[1] for at in wanted))


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
