"""Texts to word pieces, as an encoder reads them and as a decoder writes them."""

from transformers import PreTrainedTokenizerBase

from mtkd.errors import UserError


def encode(
    texts: list[list[str]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    word_starts: list[list[int]] | None = None,
) -> dict[str, list]:
    """Tokenize to `[CLS] X1 [SEP]` or `[CLS] X1 [SEP] X2 [SEP]` (MT-DNN_KD, section 2).

    `texts` has a list per text column. Examples above `max_length` lose the end of their longer
    text, and of both once these are equally long (`longest_first` in transformers). Returns
    `input_ids`, `segment_start` (the position of X2, or the length of a single text) and `length`
    (word pieces before the cut). Which pieces are X2's is the tokenizer's to say, whether or not it
    gives them a segment (RoBERTa's gives none).

    With `word_starts`, the characters at which the words of the last text begin, it also returns
    `words`: the position of each word's first piece, or -1 where that is cut off. Raises
    `UserError` for a tokenizer that does not tell which piece a character is in.
    """
    if word_starts is not None and not tokenizer.is_fast:
        kind = type(tokenizer).__name__
        raise UserError(f"Words cannot be found in the pieces of a {kind}: use a fast tokenizer.")
    # A fast tokenizer that truncates also builds every window of what it cuts off, of a pair every
    # two of them: millions for two texts of 100,000 words.
    options = {"return_token_type_ids": False, "return_attention_mask": False}
    pieces = tokenizer(*texts, truncation=False, verbose=False, **options)
    bare = [] if tokenizer.is_fast else [_bare(column, tokenizer) for column in texts]
    encoded: dict[str, list] = {"input_ids": [], "segment_start": []}
    encoded["length"] = list(map(len, pieces["input_ids"]))
    for row, ids in enumerate(pieces["input_ids"]):
        if tokenizer.is_fast:
            text_of = pieces.sequence_ids(row)
        else:
            text_of = _text_of(len(ids), [column[row] for column in bare])
        kept = range(len(ids))
        if len(ids) > max_length:
            kept = _kept_positions(text_of, max_length)
            ids, text_of = [ids[at] for at in kept], [text_of[at] for at in kept]
        if word_starts is not None:
            new = {old: position for position, old in enumerate(kept)}
            where = [pieces.char_to_token(row, at, len(texts) - 1) for at in word_starts[row]]
            encoded.setdefault("words", []).append([new.get(piece, -1) for piece in where])
        # Of an empty X2, the last separator is left.
        second = text_of.index(1) if 1 in text_of else len(ids) - 1
        encoded["input_ids"].append(ids)
        encoded["segment_start"].append(second if len(texts) == 2 else len(ids))
    return encoded


def encode_targets(
    texts: list[str], tokenizer: PreTrainedTokenizerBase, most: int, ends: list[int]
) -> list[list[int]]:
    """Return the first `most` word pieces of each text to write, and its end; none of an empty one.

    `ends` are the pieces that end the texts.
    """
    options = {"add_special_tokens": False, "return_token_type_ids": False, "verbose": False}
    pieces = tokenizer(texts, **options)["input_ids"]
    each = zip(texts, pieces, ends, strict=True)
    return [[*ids[:most], end] if text else [] for text, ids, end in each]


def _bare(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the number of word pieces of each text, without special ones."""
    pieces = tokenizer(texts, add_special_tokens=False, verbose=False)
    return list(map(len, pieces["input_ids"]))


def _text_of(length: int, sizes: list[int]) -> list[int | None]:
    """Return what `sequence_ids` does for a tokenizer that has no fast form."""
    first, second = sizes[0], sum(sizes[1:])
    between = length - 2 - first - second
    return [None, *[0] * first, *[None] * between, *[1] * second, None]


def _kept_positions(text_of: list[int | None], max_length: int) -> list[int]:
    """Return the positions to keep; `text_of` is the text of each piece, None if it is special."""
    sizes = [text_of.count(0), text_of.count(1)]
    room, shorter = max_length - text_of.count(None), min(sizes)
    limits = [shorter, room - shorter] if 2 * shorter <= room else [room // 2, room - room // 2]
    left = dict(enumerate(reversed(limits) if sizes[0] > sizes[1] else limits))
    kept = []
    for position, text in enumerate(text_of):
        if text is not None:
            left[text] -= 1
        if text is None or left[text] >= 0:
            kept.append(position)
    return kept
