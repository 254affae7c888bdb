"""Text and the WordPiece vocab_size trained on it, for pre-training a BERT."""

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
ALPHABET = 1000  # letters a tokenizer may have
TOKENIZER_CHARACTERS = 30_000_000  # more text changes few of the pieces and costs minutes


def read_text(path: Path) -> Iterator[str]:
    """The non-empty lines of a UTF-8 text file, plain or packed as .xz or .gz. Raises UserError if unreadable."""
    path = Path(path)
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for line in file:
                if line := line.strip():
                    yield line
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such text file; check the path in the study.") from error
    except (UnicodeDecodeError, lzma.LZMAError, EOFError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as UTF-8 text ({error}); is the file complete?"
        ) from error


def train_tokenizer(texts: Iterable[str], *, cased: bool, vocab_size: int) -> BertTokenizerFast:
    """A WordPiece tokenizer (Wu et al. 2016) of `vocab_size` pieces from the first 30 M characters of `texts`.

    Fewer pieces come out of a short text, more where the letters alone are more. The same text gives the same ids.
    Raises UserError when its own training text comes out as [UNK].
    """
    sample = list(first_characters(texts, TOKENIZER_CHARACTERS))
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        limit_alphabet=ALPHABET,
        # The trainer numbers continuing letters in the order of a hash map, another at each run, and breaks ties by
        # these numbers: as "special" tokens they get theirs from us.
        special_tokens=SPECIAL_TOKENS + _continuing_letters(sample, tokenizer),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample, trainer)
    # The argument is `vocab`: transformers 5 ignores `vocab_file` without a word and maps everything to [UNK].
    trained = BertTokenizerFast(vocab=tokenizer.get_vocab(), do_lower_case=not cased)
    ids = [i for line in sample[:100] for i in trained(line, add_special_tokens=False)["input_ids"]]
    if not ids or ids.count(trained.unk_token_id) > 0.1 * len(ids):
        raise UserError(
            f"The tokenizer knows too little of its own training text ({ids.count(trained.unk_token_id)} of {len(ids)} "
            f"tokens are [UNK]): give more text or a larger vocab_size than {vocab_size}."
        )
    return trained


def _continuing_letters(sample: list[str], tokenizer: Tokenizer) -> list[str]:
    """ "##a", "##b", ...: letters of the text that can stand within a word."""
    frequent = Counter(itertools.chain.from_iterable(sample)).most_common(ALPHABET)
    letters = sorted(
        set(tokenizer.normalizer.normalize_str(" ".join(letter for letter, _ in frequent))) - {" "}
    )
    return [
        f"##{x}" for x in letters if len(tokenizer.pre_tokenizer.pre_tokenize_str(f"a{x}")) == 1
    ]


def first_characters(texts: Iterable[str], limit: int) -> Iterator[str]:
    """Texts until `limit` characters have been given."""
    for text in texts:
        yield text
        limit -= len(text)
        if limit <= 0:
            return
