"""One utterance, as it is spoken."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .ends import FrameTrack, StreamEnds
from .passes import LastPass, PassSearch
from .samples import as_float32
from .search.config import GREEDY, SearchConfig
from .search.hypothesis import Token
from .search.scorer import LabelScorer
from .search.search import Search
from .search.words import Word, words_of
from .transcript import Transcript, transcript_of, words_taken_back


class StreamError(ValueError):
    """A stream was used after its end."""


class Stream:
    """One utterance: accepts blocks of samples of any size and knows the text so far.

    Attributes:
      revised_words: how many words of `text` were taken back so far, each time that it changed
        (2006.01416's unstable words): from the first changed word on, those shown before. A last
        word that only grows is not taken back. Greedy search by one pass takes back none.
    """

    def __init__(
        self,
        recognizer: Any,
        eou_threshold: float | None = None,
        eos_threshold: float | None = None,
        search: SearchConfig = GREEDY,
        scorers: Sequence[LabelScorer] = (),
    ):
        """Starts an utterance; see `Recognizer.stream`."""
        self._recognizer = recognizer
        encoders, passes = recognizer.encoders, recognizer.model_file.passes
        self._states = encoders.states()
        thresholds = {"utterance": eou_threshold, "segment": eos_threshold}
        self._ends = StreamEnds(recognizer.endpointers, recognizer.end_joints, thresholds)
        depths = [len(one["encoders"]) for one in passes]
        frames = {n: encoders.frames[k - 1] for n, k in zip(recognizer.passes, depths, strict=True)}
        *starts, last = [
            partial(
                PassSearch,
                partial(Search, decoder, search, recognizer.max_symbols_per_frame, scorers),
                self._ends.reading(one["name"]),
                one["delay"],
            )
            for one, decoder in zip(passes, recognizer.decoders, strict=True)
        ]
        self._early = [start() for start in starts]
        self._last = LastPass(
            encoders,
            last,
            passes[-1]["delay"],
            [(end, frames[end.joint.reads]) for end in self._ends.listeners.get("segment", ())],
            [track for track in self._ends.tracks if track.depth == len(encoders.frames)],
        )
        # Who takes frames of the encoders before the last one, and of which.
        tracks = [track for track in self._ends.tracks if track.depth < len(encoders.frames)]
        self._takers: list[tuple[int, PassSearch | FrameTrack]] = [
            *zip(depths, self._early, strict=False),
            *((track.depth, track) for track in tracks),
        ]
        self._chunk = np.zeros(recognizer.chunk_samples, np.float32)
        self._filled = 0  # samples of `_chunk` that wait for the rest
        self._finished = False
        self._shown = ""
        self.revised_words = 0

    @property
    def tokens(self) -> list[Token]:
        """The likeliest labels of the last pass so far, with their frames."""
        return [token for search in self._last.searches for token in search.tokens]

    @property
    def labels(self) -> list[int]:
        """The likeliest label ids of the last pass so far."""
        return [token.label for token in self.tokens]

    @property
    def texts(self) -> list[str]:
        """The text so far of every pass; a pass that looks ahead is so much behind."""
        early = [self._text_of(search) for search in self._early]
        return [*early, " ".join(self._texts_of(self._last.searches))]

    @property
    def segments(self) -> list[str]:
        """The final texts so far, by the last pass: of the segments that have ended, if any text.

        A stream without `eos_threshold` is one segment.
        """
        return self._texts_of(self._last.searches[: self._last.ended])

    @property
    def stable_text(self) -> str:
        """What the final text will begin with: what the last pass's hypotheses share.

        It only grows. With one pass, `text` begins with it as well.
        """
        texts = [self._recognizer.text(search.settled) for search in self._last.searches]
        return " ".join(text for text in texts if text)

    @property
    def words(self) -> list[Word]:
        """The words of the last pass so far, with their times in the stream."""
        searches, pieces = self._last.searches, self._recognizer.pieces
        seconds = self._recognizer.frame_seconds
        return [word for search in searches for word in words_of(search.tokens, pieces, seconds)]

    def nbest(self, segment: int = -1) -> list[Transcript]:
        """The likeliest transcripts of a segment by the last pass so far, the best first.

        So many as the search's `nbest` at most. A stream without `eos_threshold` is one segment.
        """
        pieces, seconds = self._recognizer.pieces, self._recognizer.frame_seconds
        found = self._last.searches[segment].nbest()
        return [transcript_of(one, pieces, seconds) for one in found]

    @property
    def ended(self) -> bool:
        """Whether the end of the utterance was heard, by an end joint that marks utterances."""
        return self._ends.heard("utterance")

    @property
    def frame_class(self) -> str | None:
        """What the endpointer says of its last frame; None without endpointer, or yet.

        One of `speech`, `initial_silence`, `intermediate_silence` and `final_silence`.
        """
        return next((track.last for track in self._ends.tracks), None)

    @property
    def silence_seconds(self) -> float | None:
        """How long there has been no speech, by the endpointer; None without one."""
        return next((track.silence_seconds for track in self._ends.tracks), None)

    def _text_of(self, search: PassSearch) -> str:
        return self._recognizer.text([token.label for token in search.tokens])

    def _texts_of(self, searches: Iterable[PassSearch]) -> list[str]:
        return [text for text in map(self._text_of, searches) if text]

    @property
    def text(self) -> str:
        """The text so far: the first pass's, and the last one's once the stream is finished."""
        return self.texts[-1 if self._finished else 0]

    def accept(self, samples: np.ndarray) -> str:
        """Takes the next block of samples.

        Args:
          samples: float32 in [-1, 1] or int16, [n]; any n, also 0.

        Returns:
          The text so far, by the first pass.

        Raises:
          AudioError: the samples are of another kind; the stream is unchanged.
          StreamError: the stream is finished.
        """
        if self._finished:
            raise StreamError("this stream is finished; start another with Recognizer.stream()")
        self._take(as_float32(samples))
        return self._show()

    def finish(self) -> str:
        """Ends the utterance: decodes what is left, followed by the model's tail of silence.

        A pass that looks ahead then hears frames of zeros until it has answered all.

        Returns:
          The final text, by the last pass: its segments, joined by spaces. A second call returns
          it again.
        """
        if not self._finished:
            size = self._recognizer.chunk_samples
            missing = -(self._filled + self._recognizer.tail_samples) % size
            self._take(np.zeros(self._recognizer.tail_samples + missing, np.float32))
            for search in self._early:
                search.finish()
            self._last.finish()
            self._finished = True
            self._show()
        return self.text

    def _show(self) -> str:
        text = self.text
        self.revised_words += words_taken_back(self._shown, text)
        self._shown = text
        return text

    def _take(self, samples: np.ndarray) -> None:
        size, position = self._chunk.size, 0
        while position < samples.size:
            taken = min(size - self._filled, samples.size - position)
            self._chunk[self._filled : self._filled + taken] = samples[position : position + taken]
            self._filled += taken
            position += taken
            if self._filled == size:
                self._filled = 0
                encoded = self._recognizer.encoders.step(self._chunk, self._states)
                for depth, taker in self._takers:
                    taker.take(encoded[depth])
                self._last.advance(encoded[-1])
