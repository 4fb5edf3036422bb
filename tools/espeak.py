"""Speech from eSpeak NG, made in this process: audio for the demo and tests without a download.

eSpeak NG is GPL-3.0 software and no dependency of asr_qat: this module finds it, when a person has
installed it, through the `espeakng-loader` wheel (`pip install 'asr_qat[demo]'`).
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

# From espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7
_SynthCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)

# Some variants (iven, Mario) are louder than full scale at eSpeak's default of 100.
_AMPLITUDE = 20

_lock = threading.Lock()


class EspeakError(ValueError):
    """eSpeak NG is absent or cannot do what was asked."""


def synthesize(
    text: str,
    *,
    voice: str = "en-us",
    variant: str | None = None,
    speed: int = 175,
    pitch: int = 50,
    pitch_range: int = 50,
    word_gap: int = 0,
    amplitude: int = _AMPLITUDE,
) -> tuple[np.ndarray, int]:
    """Speaks a text. The same arguments give the same samples.

    Args:
      text: what to say.
      voice: accent, one of `list_voices()`.
      variant: timbre, one of `list_variants()`; None is the accent's own.
      speed: words a minute, 80-450.
      pitch: 0-99.
      pitch_range: 0 (monotone) to 99.
      word_gap: pause between words, in units of 10 ms at the default speed.
      amplitude: 0-200.

    Returns:
      float32 `[samples]` in [-1, 1], and the sample rate in Hz.

    Raises:
      EspeakError: eSpeak NG is not installed, has no such voice, or a number is out of range.
    """
    bounds = {
        "speed": (speed, 80, 450),
        "pitch": (pitch, 0, 99),
        "pitch_range": (pitch_range, 0, 99),
        "word_gap": (word_gap, 0, 100),
        "amplitude": (amplitude, 0, 200),
    }
    for name, (value, low, high) in bounds.items():
        if not low <= value <= high:
            raise EspeakError(f"expected {name} in {low}..{high}, got {value}")
    if variant is not None and variant not in list_variants():
        raise EspeakError(
            f"eSpeak NG has no variant {variant!r}; it has {', '.join(list_variants())}"
        )
    chunks: list[np.ndarray] = []

    @_SynthCallback
    def receive(samples, count, _events):
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    with _fresh_library() as (library, rate):
        library.espeak_SetSynthCallback(receive)
        name = f"{voice}+{variant}" if variant else voice
        if library.espeak_SetVoiceByName(name.encode()) != 0:
            raise EspeakError(
                f"eSpeak NG has no voice {voice!r}; English ones: {', '.join(list_voices())}"
            )
        for parameter, value in (
            (_RATE, speed),
            (_VOLUME, amplitude),
            (_PITCH, pitch),
            (_RANGE, pitch_range),
            (_WORD_GAP, word_gap),
        ):
            library.espeak_SetParameter(parameter, value, 0)
        content = text.encode()
        library.espeak_Synth(content, len(content) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
    if not chunks:
        raise EspeakError(f"eSpeak NG made no sound of the text {text!r}")
    return np.concatenate(chunks).astype(np.float32) / 32768.0, rate


def list_voices(language: str = "en") -> list[str]:
    """Accents of a language that `synthesize` knows, such as "en-us"."""
    voices = set()
    for path in sorted((_data_folder() / "lang").rglob("*")):
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.split()[:1] == ["language"]:
                    voices.add(path.name.lower())
                    break
    return sorted(name for name in voices if name == language or name.startswith(f"{language}-"))


def list_variants() -> list[str]:
    """Timbres that `synthesize` knows, such as "f2"."""
    return sorted(path.name for path in (_data_folder() / "voices" / "!v").iterdir())


def _loader():
    try:
        import espeakng_loader
    except ImportError as error:
        raise EspeakError(
            "eSpeak NG is not installed; to get it: pip install 'asr_qat[demo]'"
        ) from error
    return espeakng_loader


def _data_folder() -> Path:
    return Path(_loader().get_data_path())


@contextmanager
def _fresh_library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """Loads eSpeak NG, and unloads it after use.

    Its flutter and echo live in C statics that not even espeak_Terminate resets, so without the
    unloading every utterance would depend on those before it. Costs about 3 ms.
    """
    with _lock:
        library = ctypes.CDLL(_loader().get_library_path())
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        folder = os.fspath(_data_folder()).encode()
        try:
            rate = library.espeak_Initialize(
                _AUDIO_OUTPUT_SYNCHRONOUS, 0, folder, _INITIALIZE_DONT_EXIT
            )
            if rate <= 0:
                raise EspeakError(f"eSpeak NG cannot start with its data in {_data_folder()}")
            library.espeak_ng_SetRandSeed(1)
            yield library, rate
            library.espeak_Terminate()
        finally:
            _unload(library)


def _unload(library: ctypes.CDLL) -> None:
    import _ctypes

    unload = getattr(_ctypes, "dlclose", None) or getattr(_ctypes, "FreeLibrary")  # noqa: B009
    unload(library._handle)
