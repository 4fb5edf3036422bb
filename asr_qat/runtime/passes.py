"""The passes of one stream: those before the last, and the last one, which goes by segments."""

from collections.abc import Callable, Sequence

import numpy as np

from .encoders import Encoders
from .ends import EndListener, FrameTrack
from .search.hypothesis import Token
from .search.search import Found, Search
from .signature import State


class PassSearch:
    """The search of one pass, and who listens; the first ``delay`` frames belong to nothing."""

    def __init__(
        self,
        start: Callable[[int], Search],
        listeners: Sequence[EndListener],
        delay: int,
        first_frame: int = 0,
    ):
        """Starts a search, which `start` makes given the number of its first frame."""
        self._listeners, self._skip = listeners, delay
        self._search = start(first_frame)

    @property
    def tokens(self) -> list[Token]:
        """What is likeliest so far."""
        return self._search.tokens

    @property
    def settled(self) -> list[int]:
        """The labels that will not change any more."""
        return self._search.settled

    def nbest(self) -> list[Found]:
        """The likeliest label sequences so far, the best first."""
        return self._search.nbest()

    def take(self, encoded: np.ndarray) -> None:
        """Searches further frames float32 [frames, dim]."""
        skipped = min(self._skip, len(encoded))
        self._skip -= skipped
        if not self._listeners:
            self._search.advance(encoded[skipped:])
            return
        for frame in encoded[skipped:]:
            self._search.advance(frame[None])
            for listener in self._listeners:
                listener.hear(frame, self._search)

    def finish(self) -> None:
        """Ends the search: no frame follows."""
        self._search.finish()


class LastPass:
    """The pass that reads the last encoder, segment by segment.

    Each segment is heard by an encoder and a decoder that start anew. At its end the encoder gets
    frames of zeros in place of what follows until it has answered all (2211.15432); these are not
    heard by the next segment. A stream whose segments have no ends is one segment.

    Attributes:
      searches: of each segment so far.
      ended: how many of these have ended, so that they will not change.
    """

    def __init__(
        self,
        encoders: Encoders,
        start: Callable[[int], PassSearch],
        delay: int,
        ends: Sequence[tuple[EndListener, int]] = (),
        tracks: Sequence[FrameTrack] = (),
    ):
        """Starts with a stream.

        Args:
          encoders: of the file.
          start: makes the search of a segment, given the number of its first frame.
          delay: frames by which the last encoder lags behind.
          ends: what hears the ends of segments, and frames in a chunk of the pass that it reads.
          tracks: endpointers that hear the last encoder's frames.
        """
        self._encoders, self._start, self._delay = encoders, start, delay
        self._ends, self._tracks = ends, tracks
        self._state = State()
        self._waiting = np.zeros(encoders.last_input, np.float32)
        self._filled = 0  # frames of `_waiting`
        self._heard = 0  # frames, since the start of the stream
        self._started = 0  # of these, before the present segment
        self.searches = [start(0)]
        self.ended = 0

    def advance(self, frames: np.ndarray) -> None:
        """Takes a chunk's frames: what the last encoder hears, float32 [frames, dim]."""
        begin = self._heard
        ends = [end for end in self._ends_of_segments() if end > begin]
        for end in sorted({*ends, begin + len(frames)}):
            self._take(frames[self._heard - begin : end - begin])
            if end in ends:
                self._flush()
                self._state, self._started = State(), end
                self.searches.append(self._start(self._made_of(end)))

    def finish(self) -> None:
        """Ends the last segment, unless there is nothing of it."""
        if self._heard > self._started or not self.ended:
            self._flush()
        self.ended = len(self.searches)

    def _ends_of_segments(self) -> list[int]:
        """Frames of the last encoder's input up to each end, rising."""
        size = len(self._waiting)
        heard = {
            -(-(frame + 1) * size // frames)
            for listener, frames in self._ends
            for frame in listener.frames
        }
        return sorted(heard)

    def _made_of(self, frames: int) -> int:
        """Output frames of the last encoder for so many input frames."""
        return -(-frames * self._encoders.frames[-1] // len(self._waiting))

    def _take(self, frames: np.ndarray) -> None:
        self._heard += len(frames)
        while len(frames):
            taken = min(len(self._waiting) - self._filled, len(frames))
            self._waiting[self._filled : self._filled + taken] = frames[:taken]
            self._filled, frames = self._filled + taken, frames[taken:]
            if self._filled == len(self._waiting):
                self._run(self._encoders.frames[-1])

    def _run(self, most: int) -> int:
        """Runs the encoder on what waits, and searches at most so many of the frames it makes."""
        encoded = self._encoders.step_last(self._waiting, self._state)
        self._filled = 0
        self.searches[-1].take(encoded[:most])
        for track in self._tracks:
            track.take(encoded)
        return len(encoded)

    def _flush(self) -> None:
        owed = self._made_of(self._filled) + self._delay
        while owed > 0:
            self._waiting[self._filled :] = 0
            owed -= self._run(owed)
        self.searches[-1].finish()
        self.ended = len(self.searches)
