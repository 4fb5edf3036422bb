"""The verb `lm`: language models for the search."""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HELP = "make a language model for the search from text"

_EPILOG = """\
examples:
  asr-qat lm ngram --text train.txt --pieces int4.tflite --out lm.arpa --dev dev.txt
  asr-qat lm ngram --text words.txt.gz --order 3 --prune 0 0 1 --out words.arpa.gz
  asr-qat lm lstm --text train.txt --pieces int4.tflite --recipe dynamic_wi4_afp32 --out lm.tflite
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the verb."""
    parser.description = (
        "Makes n-gram models (ARPA files) and LSTM models (.tflite files) from text: a sentence a"
        " line, written as the transcripts are."
    )
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    ngram = kinds.add_parser("ngram", help="n-grams, interpolated modified Kneser-Ney")
    _add_text_arguments(ngram, "of its pieces; without: of words", required=False)
    ngram.add_argument("--out", required=True, help="ARPA file to write (.arpa or .arpa.gz)")
    ngram.add_argument("--order", type=int, default=4, help="tokens of the longest n-grams (4)")
    ngram.add_argument(
        "--prune",
        type=int,
        nargs="+",
        default=[0],
        metavar="COUNT",
        help="for 1-, 2-, 3-grams, …: leave out those counted at most so often (0: none); the"
        " last number holds for all longer ones",
    )

    lstm = kinds.add_parser("lstm", help="LSTM layers over word pieces")
    _add_text_arguments(lstm, "whose pieces it predicts", required=True)
    lstm.add_argument("--out", required=True, help=".tflite file to write")
    lstm.add_argument("--units", type=int, default=512, help="of each layer (512)")
    lstm.add_argument("--layers", type=int, default=1, help="LSTM layers (1)")
    lstm.add_argument("--embedding", type=int, default=128, help="width of a label (128)")
    lstm.add_argument("--epochs", type=int, default=5, help="over the text (5)")
    lstm.add_argument("--batch-size", type=int, default=64, help="sentences (64)")
    lstm.add_argument("--learning-rate", type=float, default=2e-3, help="at its peak (0.002)")
    lstm.add_argument(
        "--recipe", default="float32", help="precision in training and in the file (float32)"
    )
    lstm.add_argument("--float16", action="store_true", help="store floats as float16")
    lstm.add_argument("--xla", action="store_true", help="compile the training step with XLA")
    lstm.add_argument("--seed", type=int, default=0, help="of weights and order (0)")


def _add_text_arguments(parser: argparse.ArgumentParser, pieces: str, required: bool) -> None:
    parser.add_argument(
        "--text",
        required=True,
        nargs="+",
        metavar="FILE",
        help="text files (also .gz), or manifests (.jsonl) whose texts are taken",
    )
    parser.add_argument("--dev", nargs="+", metavar="FILE", help="held out; prints its perplexity")
    parser.add_argument(
        "--pieces",
        required=required,
        metavar="MODEL",
        help=f"recogniser (.tflite or .keras), {pieces}",
    )
    # The common flags may stand before KIND or behind it.
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="one JSON document on stdout",
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show a traceback on errors",
    )


def run(args: argparse.Namespace) -> int:
    """Makes the model, and prints what it is."""
    started = time.perf_counter()
    folder = Path(args.out).absolute().parent
    if not folder.is_dir():  # not after hours of training
        raise ValueError(f"--out {args.out}: there is no folder {folder}")
    report = {"ngram": _ngram, "lstm": _lstm}[args.kind](args)
    report["seconds"] = time.perf_counter() - started
    report["bytes"] = os.path.getsize(args.out)
    if args.json:
        print(json.dumps(report))
        return 0
    size = f"{report['bytes'] / 1e6:.1f} MB, {report['seconds']:.0f} s"
    if "ngrams" in report:
        size = f"{sum(report['ngrams']):,} n-grams, {size}"
    print(f"{args.out}: {size}")
    if "dev" in report:
        found = report["dev"]
        unit = "a piece, " if args.pieces else "a known word, "
        print(
            f"perplexity of {' '.join(args.dev)}: {found['per_token']:.2f} {unit}"
            f"{found['per_word']:.1f} a word ({found['words']:,} words and ends"
            + (f", {found['unknown']:,} words unknown)" if found["unknown"] else ")")
        )
    return 0


def _encoded(texts: Sequence[str], tokenizer) -> list[list[int]]:
    """Labels of texts; says what is left out."""
    from asr_qat.language_models.texts import encode

    encoded, problems = encode(texts, tokenizer)
    if problems:
        print(
            f"left out {len(problems):,} of {len(texts):,} sentences: {problems[0]}",
            file=sys.stderr,
        )
    return encoded


def _ngram(args: argparse.Namespace) -> dict:
    from asr_qat.language_models.arpa_writer import write_arpa
    from asr_qat.language_models.kneser_ney import EstimationConfig, estimate
    from asr_qat.language_models.texts import read_texts, split_words, tokenizer_of

    config = EstimationConfig(order=args.order, prune=tuple(args.prune))
    texts = read_texts(args.text)
    tokenizer = tokenizer_of(args.pieces) if args.pieces else None
    if tokenizer is None:
        sentences, vocabulary = split_words(texts)
    else:
        vocabulary = tokenizer.pieces[1:]
        sentences = [[label - 1 for label in each] for each in _encoded(texts, tokenizer)]
    model, discounts = estimate(sentences, vocabulary, config)
    write_arpa(model, args.out)
    # Of word pieces, all unigrams are frequent; there it is nothing to speak of.
    guessed = [str(n) for n, found in enumerate(discounts, 1) if n > 1 and not found.estimated]
    if guessed:
        print(
            f"n-grams of length {', '.join(guessed)}: too few are rare to estimate discounts; "
            "took 0.5, 1 and 1.5",
            file=sys.stderr,
        )
    report = {
        "model": args.out,
        "sentences": len(sentences),
        "tokens": sum(map(len, sentences)),
        "ngrams": [len(table.keys) for table in model.tables],
        "discounts": [found.values if found.estimated else None for found in discounts],
    }
    return report | ({"dev": _ngram_dev(args, tokenizer)} if args.dev else {})


def _ngram_dev(args: argparse.Namespace, tokenizer) -> dict:
    """Perplexities of held-out text, by the file that was written."""
    from asr_qat.language_models.perplexity import perplexity
    from asr_qat.language_models.texts import read_texts
    from asr_qat.runtime.search.ngram import load_model

    texts = read_texts(args.dev)
    if tokenizer is None:
        sentences = [text.split() for text in texts]
        words = sum(map(len, sentences))
    else:
        labels = _encoded(texts, tokenizer)
        sentences = [[tokenizer.pieces[label] for label in each] for each in labels]
        words = sum(len(tokenizer.decode(each).split()) for each in labels)
    return perplexity(load_model(args.out), sentences, words).to_dict()


def _lstm(args: argparse.Namespace) -> dict:
    from .native_logs import without_native_notes
    from .tensorflow_quiet import quiet_tensorflow

    quiet_tensorflow()
    import keras

    from asr_qat.export.language_model import export_language_model
    from asr_qat.language_models.lstm import LstmConfig, LstmLanguageModel
    from asr_qat.language_models.lstm_training import LstmTrainingConfig, nats_of, train
    from asr_qat.language_models.perplexity import Perplexity
    from asr_qat.language_models.texts import read_texts, tokenizer_of
    from asr_qat.quantization.spec import recipe

    recipe(args.recipe)  # an unknown one is an error before the text is read
    config = LstmConfig(embedding=args.embedding, units=args.units, layers=args.layers)
    training = LstmTrainingConfig(
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        jit_compile=args.xla,
        seed=args.seed,
    )
    tokenizer = tokenizer_of(args.pieces)
    sentences = _encoded(read_texts(args.text), tokenizer)
    dev = _encoded(read_texts(args.dev), tokenizer) if args.dev else []
    words = sum(len(tokenizer.decode(each).split()) for each in dev) + len(dev)
    keras.utils.set_random_seed(args.seed)
    model = LstmLanguageModel(tokenizer.vocabulary_size, config, args.recipe)
    epochs: list[dict] = []

    def after_epoch(epoch: int, found: float) -> None:
        epochs.append({"epoch": epoch, "train": found})
        line = f"epoch {epoch} of {args.epochs}: perplexity {found:.2f} a piece in training"
        if dev:
            nats, tokens = nats_of(model, dev), sum(map(len, dev)) + len(dev)
            result = Perplexity(nats=nats, unknown_nats=0.0, tokens=tokens, words=words, unknown=0)
            epochs[-1]["dev"] = result.to_dict()
            line += f", {result.per_token:.2f} on held-out text"
        print(line, file=sys.stderr, flush=True)

    with contextlib.redirect_stdout(sys.stderr):  # Keras' progress bar
        train(model, sentences, training, after_epoch, verbose=int(sys.stderr.isatty()))
    with without_native_notes():
        parity = export_language_model(model, args.out, tokenizer.pieces, float16=args.float16)
    report = {
        "model": args.out,
        "sentences": len(sentences),
        "tokens": sum(map(len, sentences)),
        "parameters": model.count_params(),
        "layers_bit_equal": sum(layer.bit_equal for layer in parity.layers),
        "layers": len(parity.layers),
        "epochs": epochs,
    }
    return report | ({"dev": epochs[-1]["dev"]} if dev else {})


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
