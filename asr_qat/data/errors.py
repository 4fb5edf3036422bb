"""What can be wrong with recordings."""


class AudioError(ValueError):
    """An audio file that cannot be used; the message names it."""


class ShardError(AudioError):
    """A shard that is missing or damaged as a whole.

    One bad recording can be left out; a shard holds a large part of a corpus.
    """
