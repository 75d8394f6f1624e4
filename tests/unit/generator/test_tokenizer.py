"""The tokenizer of a trained generator."""

from synaug.generator.architecture import build_tokenizer

CAPTIONS = ["", "a photo of an ankle boot", "a photo of a bag", "a photo of a coat"]


def test_the_same_captions_give_the_same_numbers_of_tokens():
    """Also merges that are equally frequent, as ag and at are here: a resumed training has the old numbers."""
    vocabularies = [build_tokenizer(CAPTIONS).get_vocab() for _ in range(12)]
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)
    assert {"photo</w>", "bag</w>", "coat</w>"} <= vocabularies[0].keys()


def test_any_text_can_be_tokenized():
    tokenizer = build_tokenizer(CAPTIONS)
    text = "ein blaues haus \u00fc \u732b"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True).strip() == text
