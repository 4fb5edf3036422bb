"""Audio files in and out: any common format, rate and channel count to 16 kHz mono."""

import io
import os
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr_qat.data.errors import AudioError
from asr_qat.data.records import unpack_record
from asr_qat.data.shards import parse_address, read_record

SAMPLE_RATE = 16_000  # Hz


def load_audio(path: str | os.PathLike[str], sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Decodes a WAV, FLAC, Ogg (Vorbis, Opus) or MP3 file, or a record of a shard.

    Channels are averaged and other rates are resampled (soxr, high quality).

    Args:
      path: the file, or the address of a record (see `shards.py`).
      sample_rate: rate of the result, in Hz.

    Returns:
      float32 `[samples]`, nominally in [-1, 1].

    Raises:
      AudioError: the file is missing, is no audio, is empty, or holds NaN or infinity.
      ShardError: a whole shard is missing or damaged.
    """
    address = parse_address(path)
    source: str | io.BytesIO = os.fspath(path)
    if address is not None:
        source = io.BytesIO(unpack_record(read_record(*address), str(path))[1])
    try:
        samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        found = getattr(error, "error_string", str(error))
        if address is None and not Path(path).is_file():
            found = "there is no such file"
        raise AudioError(f"{path}: expected a WAV, FLAC, Ogg or MP3 file; {found}") from error
    if samples.size == 0:
        raise AudioError(f"{path}: expected audio, got a file without samples")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise AudioError(
            f"{path}: expected finite samples, got {np.count_nonzero(~np.isfinite(mono))} that are"
            " NaN or infinite"
        )
    mono = resample(mono, rate, sample_rate)
    if mono.size == 0:
        raise AudioError(f"{path}: too short: nothing is left at {sample_rate} Hz")
    return mono


def resample(samples: np.ndarray, rate: float, new_rate: float) -> np.ndarray:
    """Changes the rate of float32 `[samples]` from `rate` to `new_rate` Hz."""
    samples = np.ascontiguousarray(samples, np.float32)
    return samples if rate == new_rate else soxr.resample(samples, rate, new_rate)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Float `[samples]` in [-1, 1] as 16-bit integers; what is beyond full scale is clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def encode_flac(samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> bytes:
    """A FLAC file of int16 `[samples]`, mono."""
    # The fastest level to decode; its files are 2 % larger than those of the default level.
    file = io.BytesIO()
    soundfile.write(
        file, samples, sample_rate, format="FLAC", subtype="PCM_16", compression_level=0.0
    )
    return file.getvalue()


def write_wav(
    path: str | os.PathLike[str], samples: np.ndarray, sample_rate: int = SAMPLE_RATE
) -> None:
    """Writes float `[samples]` in [-1, 1] as a mono 16-bit WAV file, atomically.

    Samples beyond full scale are clipped. Folders are made as needed.

    Raises:
      AudioError: the samples are not a non-empty vector of finite numbers.
    """
    path = Path(path)
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or samples.size == 0 or not np.isfinite(samples).all():
        raise AudioError(
            f"{path}: expected a non-empty vector of finite samples to write, got shape"
            f" {samples.shape}"
        )
    integers = to_int16(samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        soundfile.write(temporary, integers, sample_rate, subtype="PCM_16", format="WAV")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
