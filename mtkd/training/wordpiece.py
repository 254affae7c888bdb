"""Text files, and the WordPiece vocabulary trained on their text for pre-training a BERT."""

import gzip
import itertools
import lzma
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizerFast

from mtkd.errors import UserError

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ALPHABET = 1000  # letters that a tokenizer may have
TOKENIZER_CHARACTERS = 30_000_000  # more text changes few of the pieces and costs minutes


def read_text(path: Path) -> Iterator[str]:
    """Yield the non-empty lines of a UTF-8 text file, plain, .xz or .gz.

    Raises `UserError` where it cannot be read.
    """
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(Path(path).suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            yield from filter(None, map(str.strip, file))
    except (UnicodeDecodeError, lzma.LZMAError, EOFError, OSError) as error:
        raise UserError(f"{path}: not a readable, complete UTF-8 text file ({error}).") from error


def train_tokenizer(texts: Iterable[str], *, cased: bool, vocab_size: int) -> BertTokenizerFast:
    """Train a WordPiece tokenizer (Wu et al. 2016, arXiv:1609.08144) on 30 M characters of text.

    It has `vocab_size` pieces: fewer for a short text, more where the letters alone are more. The
    same text gives the same ids. Raises `UserError` where its own text comes out as [UNK].
    """
    sample = list(first_characters(texts, TOKENIZER_CHARACTERS))
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        limit_alphabet=ALPHABET,
        # The trainer numbers continuing letters in a hash map's order, which differs between runs,
        # and breaks ties by these numbers: as special tokens they get fixed numbers.
        special_tokens=SPECIAL_TOKENS + _continuing_letters(sample, tokenizer),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample, trainer)
    # The argument is `vocab`: transformers 5 silently ignores `vocab_file`.
    trained = BertTokenizerFast(vocab=tokenizer.get_vocab(), do_lower_case=not cased)
    ids = [i for line in sample[:100] for i in trained(line, add_special_tokens=False)["input_ids"]]
    unknown = ids.count(trained.unk_token_id)
    if not ids or unknown > 0.1 * len(ids):
        raise UserError(
            f"The tokenizer does not know its own training text ({unknown} of {len(ids)} tokens "
            f"are [UNK]): give more text or a vocab_size above {vocab_size}."
        )
    return trained


def _continuing_letters(sample: list[str], tokenizer: Tokenizer) -> list[str]:
    """Return "##a", "##b", ...: the text's letters that can occur within a word."""
    frequent = Counter(itertools.chain.from_iterable(sample)).most_common(ALPHABET)
    joined = " ".join(letter for letter, _ in frequent)
    letters = sorted(set(tokenizer.normalizer.normalize_str(joined)) - {" "})
    split = tokenizer.pre_tokenizer.pre_tokenize_str
    return [f"##{letter}" for letter in letters if len(split(f"a{letter}")) == 1]


def first_characters(texts: Iterable[str], limit: int) -> Iterator[str]:
    """Yield texts until they have `limit` characters."""
    for text in texts:
        yield text
        limit -= len(text)
        if limit <= 0:
            return
