"""Makes a corpus of shards with Apache Beam: on this machine, or wherever Beam runs."""

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asr_qat.data.corpus import (
    Corpus,
    ShardTask,
    default_shards,
    finish_corpus,
    finished_shards,
    plan_corpus,
    try_write_shard,
)
from asr_qat.data.manifest import Utterance
from asr_qat.data.plan import DataError

DIRECT = "DirectRunner"
_LOG = "beam.log"  # beside the plan
_POLL_SECONDS = 0.2


def make_corpus(
    utterances: Sequence[Utterance],
    folder: str | os.PathLike[str],
    name: str,
    *,
    shards: int | None = None,
    processes: int = 2,
    runner: str = DIRECT,
    options: Sequence[str] = (),
    seed: int = 0,
    max_bad_share: float = 0.02,
    bad: Sequence[Mapping[str, Any]] = (),
    retry_bad: bool = False,
    progress: bool = True,
) -> Corpus:
    """Writes the shards of a corpus that are not there yet, and its manifest.

    The files depend on the utterances, `shards` and `seed` alone, not on who wrote them when.

    Args:
      utterances: the recordings.
      folder: folder of the corpus; all of Beam's workers must see it under this name.
      name: of the corpus: how its files begin.
      shards: how many; None: as many as `default_shards` says.
      processes: of the direct runner; 1 works in this process.
      runner: a runner of Beam.
      options: further options of Beam's pipelines, such as `--flink_master=host:8081`.
      seed: of the order of recordings.
      max_bad_share: largest share of the recordings that may be bad.
      bad: rows that were found to be bad before, each with a `reason`.
      retry_bad: write the shards with bad recordings again.
      progress: show a bar on stderr.

    Raises:
      ManifestError: an id occurs twice.
      DataError: Beam failed, shards were not written, or too many recordings are bad.
      ValueError: an argument makes no sense, or Beam is not installed.
    """
    if processes < 1 or not 0.0 <= max_bad_share <= 1.0:
        raise ValueError(
            "expected processes >= 1 and max_bad_share in [0, 1], got"
            f" processes={processes}, max_bad_share={max_bad_share}"
        )
    count = default_shards(utterances) if shards is None else shards
    tasks = plan_corpus(utterances, folder, name, shards=count, seed=seed, retry_bad=retry_bad)
    if tasks:
        with _bar(tasks, count, progress):
            run_tasks(tasks, processes=processes, runner=runner, options=options)
    return finish_corpus(folder, name, shards=count, max_bad_share=max_bad_share, bad=bad)


def run_tasks(
    tasks: Sequence[ShardTask], *, processes: int, runner: str, options: Sequence[str]
) -> None:
    """Has Beam write shards.

    Raises:
      DataError: Beam failed.
      ValueError: Beam is not installed.
    """
    log = Path(tasks[0].plan).parent / _LOG
    try:
        with _log_to(log):
            import apache_beam
            from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ValueError(
            "shards are made with Apache Beam, which is not installed: pip install 'asr_qat[scale]'"
        ) from error
    flags = [f"--runner={runner}"]
    if runner == DIRECT:
        # Beam's own threads would take turns at Python's lock.
        mode = "in_memory" if processes == 1 else "multi_processing"
        flags += [f"--direct_num_workers={processes}", f"--direct_running_mode={mode}"]
        flags += ["--default_sdk_harness_log_level=WARNING"]
    pipeline = apache_beam.Pipeline(options=PipelineOptions([*flags, *options]))
    work = pipeline | apache_beam.Create(list(tasks)) | apache_beam.Reshuffle()
    _ = work | apache_beam.Map(try_write_shard)
    try:
        with _log_to(log):
            if runner == DIRECT:
                _watch(pipeline)
            else:
                pipeline.run().wait_until_finish()
    except ValueError:  # an option that makes no sense
        raise
    except Exception as error:  # those of any runner, of gRPC, of Java
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DataError(
            f"Beam's {runner} failed: {reason}. Its log: {log}. The same command goes on with what"
            " is missing"
        ) from error


def _watch(pipeline: Any) -> None:
    """Runs a pipeline to its end, or until one of its worker processes dies.

    Beam's local runner waits for ever for a worker that was killed, such as for want of memory: it
    notices the death in a thread of its own, where nobody hears of it.
    """
    failures: list[BaseException] = []
    before = threading.excepthook

    def hear(args: Any) -> None:
        before(args)
        if "Worker subprocess" in str(args.exc_value):
            failures.append(args.exc_value)

    def run() -> None:
        try:
            pipeline.run().wait_until_finish()
        except BaseException as error:
            failures.append(error)

    # A daemon, and so are its threads: they must not keep the program from ending.
    thread = threading.Thread(target=run, daemon=True)
    threading.excepthook = hear
    try:
        thread.start()
        while thread.is_alive() and not failures:
            thread.join(_POLL_SECONDS)
    finally:
        threading.excepthook = before
    if failures:
        raise failures[0]


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Sends stderr to a file: Beam's workers are chatty, and inherit the descriptor."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with open(path, "ab") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)


@contextmanager
def _bar(tasks: Sequence[ShardTask], count: int, show: bool) -> Iterator[None]:
    """A bar of finished shards: their files tell, whatever the runner."""
    from tqdm import tqdm

    done = count - len(tasks)
    ended = threading.Event()
    terminal = os.fdopen(os.dup(2), "w", encoding="utf-8")  # not what _log_to makes of it
    disable = None if show else True
    with (
        terminal,
        tqdm(total=count, initial=done, unit="shard", disable=disable, file=terminal) as bar,
    ):

        def follow() -> None:
            last = False
            while not last:
                last = ended.wait(_POLL_SECONDS)
                bar.update(done + finished_shards(tasks) - bar.n)

        thread = threading.Thread(target=follow, daemon=True)
        if not bar.disable:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            if thread.is_alive():
                thread.join()
