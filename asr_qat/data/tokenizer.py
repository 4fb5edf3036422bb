"""Tokenizers: text to label ids and back.

Id 0 is the blank (and the start-of-sequence history); pieces start at 1. The text of ids is
`"".join(pieces[i] for i in ids).replace("▁", " ").strip()` for every tokenizer, so a runtime needs
the list of pieces only.
"""

import base64
import binascii
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

BLANK = "<blank>"
WORD_BOUNDARY = "▁"


class LabelError(ValueError):
    """A text that the tokenizer cannot write as labels."""


class Tokenizer(Protocol):
    """What every tokenizer offers."""

    @property
    def pieces(self) -> list[str]:
        """The text of each id; `pieces[0]` is the blank."""

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, with the blank."""

    def encode(self, text: str) -> list[int]:
        """Label ids of a text."""

    def decode(self, ids: Iterable[int]) -> str:
        """Text of label ids; blanks are dropped."""

    def get_config(self) -> dict[str, Any]:
        """JSON-serializable description, for `tokenizer_from_config`; `pieces` lists the labels."""


def pieces_to_text(pieces: Sequence[str], ids: Iterable[int]) -> str:
    """Joins the pieces of ids into text; blanks (id 0) are dropped."""
    return "".join(pieces[i] for i in ids if i != 0).replace(WORD_BOUNDARY, " ").strip()


class CharacterTokenizer:
    """One label a character; the space is the piece "▁".

    Args:
      characters: the vocabulary, each character once, in the order of the ids from 1.

    Raises:
      ValueError: no characters, one that occurs twice, or the reserved "▁".
    """

    def __init__(self, characters: str | Sequence[str]):
        characters = "".join(characters)
        twice = sorted({c for c in characters if characters.count(c) > 1})
        if not characters or twice or WORD_BOUNDARY in characters:
            raise ValueError(
                "expected a non-empty vocabulary of different characters without"
                f" {WORD_BOUNDARY!r}, got {characters!r}"
                + (f" with {twice} more than once" if twice else "")
            )
        self.characters = characters
        self._ids = {character: i for i, character in enumerate(characters, 1)}

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> "CharacterTokenizer":
        """The tokenizer of all characters that occur in texts, sorted."""
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return cls("".join(sorted(characters)))

    @property
    def pieces(self) -> list[str]:
        """The text of each id; `pieces[0]` is the blank."""
        return [BLANK, *(WORD_BOUNDARY if c == " " else c for c in self.characters)]

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, with the blank."""
        return len(self.characters) + 1

    def encode(self, text: str) -> list[int]:
        """Label ids of a text.

        Raises:
          LabelError: a character is outside the vocabulary.
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            raise LabelError(
                f"character {error.args[0]!r} of the text {text!r} is not in the vocabulary"
                f" {self.characters!r}"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Text of label ids; blanks are dropped."""
        return pieces_to_text(self.pieces, ids)

    def get_config(self) -> dict[str, Any]:
        """JSON-serializable description, for `tokenizer_from_config`; `pieces` lists the labels."""
        return {"kind": "characters", "characters": self.characters, "pieces": self.pieces}


class SentencePieceTokenizer:
    """Word pieces of a SentencePiece model; label id = SentencePiece id of a piece + 1.

    SentencePiece's own unknown piece keeps its place (so ids stay aligned) but is never emitted by
    `encode`: a text that needs it is an error, because a label for "something" teaches nothing.

    Args:
      model_proto: the serialized SentencePiece model.

    Raises:
      ValueError: the bytes are no SentencePiece model.
    """

    def __init__(self, model_proto: bytes):
        import sentencepiece

        self.model_proto = bytes(model_proto)
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self.model_proto)
            size = self._processor.get_piece_size()
        except RuntimeError as error:
            raise ValueError(
                f"expected a serialized SentencePiece model, got {len(self.model_proto)} bytes that"
                f" are none: {error}"
            ) from error
        if size == 0:
            raise ValueError("expected a SentencePiece model with pieces, got an empty one")
        self._pieces = [BLANK, *(self._processor.id_to_piece(i) for i in range(size))]
        self._unknown = self._processor.unk_id()

    @property
    def pieces(self) -> list[str]:
        """The text of each id; `pieces[0]` is the blank."""
        return list(self._pieces)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, with the blank."""
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """Label ids of a text.

        Raises:
          LabelError: a character is in no piece of the vocabulary.
        """
        ids = self._processor.encode(text)
        if self._unknown in ids:
            pieces = self._processor.encode(text, out_type=str)
            unknown = pieces[ids.index(self._unknown)].strip(WORD_BOUNDARY) or WORD_BOUNDARY
            raise LabelError(
                f"character {unknown[0]!r} of the text {text!r} is in none of the"
                f" {self.vocabulary_size - 1} word pieces"
            )
        return [i + 1 for i in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of label ids; blanks are dropped."""
        return pieces_to_text(self._pieces, ids)

    def get_config(self) -> dict[str, Any]:
        """JSON-serializable description, for `tokenizer_from_config`; `pieces` lists the labels."""
        proto = base64.b64encode(self.model_proto).decode("ascii")
        return {"kind": "sentencepiece", "model_proto": proto, "pieces": self.pieces}


def train_sentencepiece(texts: Iterable[str], vocabulary_size: int) -> SentencePieceTokenizer:
    """Trains a unigram SentencePiece model.

    Args:
      texts: sentences.
      vocabulary_size: number of labels of the result, with the blank and SentencePiece's unknown.

    Raises:
      ValueError: there is no text, or SentencePiece cannot make that many (or so few) pieces of it.
    """
    import sentencepiece

    sentences = [text for text in texts if text.strip()]
    if not sentences:
        raise ValueError("expected texts to train word pieces on, got none")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=vocabulary_size - 1,
            model_type="unigram",
            character_coverage=1.0,
            # No normalization beyond spaces: labels are what the transcripts say.
            normalization_rule_name="identity",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(
            f"SentencePiece cannot make a vocabulary of {vocabulary_size} labels from"
            f" {len(sentences)} texts: {error}"
        ) from error
    return SentencePieceTokenizer(model.getvalue())


def tokenizer_from_config(
    config: Mapping[str, Any],
) -> CharacterTokenizer | SentencePieceTokenizer:
    """Makes the tokenizer that a `get_config()` describes.

    Raises:
      ValueError: the configuration is incomplete or of an unknown kind.
    """
    kind = config.get("kind")
    key = {"characters": "characters", "sentencepiece": "model_proto"}.get(str(kind))
    if key is None or not isinstance(config.get(key), str):
        raise ValueError(
            "expected a tokenizer configuration of kind 'characters' (with 'characters') or"
            f" 'sentencepiece' (with 'model_proto'), got kind {kind!r} and keys {sorted(config)}"
        )
    if kind == "characters":
        return CharacterTokenizer(config[key])
    try:
        return SentencePieceTokenizer(base64.b64decode(config[key], validate=True))
    except binascii.Error as error:
        raise ValueError(f"model_proto of the tokenizer is no base64: {error}") from error
