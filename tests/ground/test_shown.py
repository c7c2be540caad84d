"""What acts in a terminal is shown as an escape, and stays JSON."""

import json
import unicodedata

import pytest

from symbol_llm.ground.terminal import shown

HARMLESS = "SELECT 'naïve', 3\t-- ∀x (P(x) → Q(x))\n  |▁▂ 中文 \u00a0\u3000"


def test_plain_text_stays_as_it_is():
    assert shown(HARMLESS) == HARMLESS


@pytest.mark.parametrize("category", ["Cc", "Cs"])
def test_no_control_character_and_no_half_of_one_is_left(category):
    acting = [chr(n) for n in range(0x11000) if unicodedata.category(chr(n)) == category and chr(n) not in "\n\t"]
    assert acting
    assert all(shown(one) == f"\\u{ord(one):04x}" for one in acting)


def test_direction_cannot_be_turned():
    turns = [
        chr(n)
        for n in range(0x2000, 0x2100)
        if unicodedata.bidirectional(chr(n)) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    ]
    assert len(turns) == 9
    assert not set(shown("".join(turns))) & set(turns)


def test_json_stays_the_same_value():
    value = {"program": "a\x1b[2Jb\x9bc\u202ed\ud800\n", "n": 1}
    assert json.loads(shown(json.dumps(value, ensure_ascii=False, indent=2))) == value
