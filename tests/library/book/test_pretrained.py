"""The pretrained network, compared with its authors' example, and the words that it is trained on."""

import pytest
import torch

from scaleinv.book.pretrained import LENGTH, LETTERS, PHONEMES, START, UNSAID, pronouncer, say, word_batches

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_word_is_pronounced_as_in_its_authors_example():
    # the last example of g2p_en's README, a word that is in no dictionary
    assert say(pronouncer(), "activationist") == "AE2 K T IH0 V EY1 SH AH0 N IH0 S T".split()


def test_padding_after_a_word_changes_nothing():
    model = pronouncer()
    words, _ = next(word_batches(1, 8, on="cpu"))
    longer = torch.nn.functional.pad(words, (0, 5))
    with torch.no_grad():
        torch.testing.assert_close(model(longer)[..., :LENGTH], model(words))


def test_batches_are_words_and_their_phonemes():
    words, targets = next(word_batches(1, 64, on="cpu"))
    assert words.shape == (64, 2, LENGTH) and targets.shape == (64, LENGTH)
    assert (words[:, 1, 0] == START).all() and (targets[:, 0] != UNSAID).all()
    assert torch.equal(words[:, 1, 1:], targets[:, :-1].clamp(min=0))
    assert words[:, 0].max() < len(LETTERS) and targets.max() < len(PHONEMES) == 74
    assert torch.equal(words, next(word_batches(1, 64, on="cpu"))[0])
    assert not torch.equal(words, next(word_batches(1, 64, seed=1, on="cpu"))[0])


def test_held_out_words_are_not_drawn_otherwise():
    def drawn(**how):
        return {tuple(word) for words, _ in word_batches(40, 500, on="cpu", **how) for word in words[:, 0].tolist()}

    assert drawn() and not drawn() & drawn(held_out=True)


def test_without_stress_each_vowel_has_one_phoneme():
    (words, stressed), (_, plain) = (next(word_batches(1, 64, stress=stress, on="cpu")) for stress in (True, False))
    names = [[PHONEMES[i] for i in targets[targets != UNSAID]] for targets in (stressed, plain)]
    assert any(name[-1] in "12" for name in names[0]) and not any(name[-1] in "12" for name in names[1])
    assert [name.rstrip("012") for name in names[0]] == [name.rstrip("012") for name in names[1]]
