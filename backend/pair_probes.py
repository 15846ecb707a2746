"""Texts that tell two tokenizers apart: numbers, code, blanks, emoji, scripts, accents, dialogue.

Goes in: nothing. Comes out: about 200 short texts, the same ones every time. Knows nothing of tokenizers or models.
"""

from __future__ import annotations

import unicodedata

DIALOGUE = (
    {"role": "user", "content": "What is 12 + 30?"},
    {"role": "assistant", "content": "12 + 30 = 42. The answer is 42."},
    {"role": "user", "content": "And doubled?\n"},
)
NUMBERS = ("3.14159", "-2.5e-10", "1,234,567.89", "0x1F", "0b1010", "12:30", "1/2", "50%", "$9.99", "№ 7", "٣٤٥", "½", "x²", "10^6", "1st 2nd 3rd")
CODE = (
    "def f(x):\n    return x ** 2  # 3.14", "for (int i = 0; i < n; ++i) {", '{"name": "Ada", "age": 36}', "SELECT * FROM t WHERE a >= 1;",
    "<div class='a'>&nbsp;</div>", "if x != y and not z:", "let mut v: Vec<u8> = vec![0; 4];", "a->b::c.d[e](f)", "#!/bin/sh\n\techo \"$HOME\"",
    "\\frac{a}{b} \\sum_{i=1}^n", "camelCase snake_case SCREAMING_CASE kebab-case", "https://example.org/a?b=c&d=%20", 
    "/* ** */ // ///", "\\n\\t\\\\",
    "==> <=> !== ===", "[[0, 1], [2, 3]]", "```python\nprint('x')\n```", "- [ ] a\n- [x] b\n", "user@example.org", "C:\\temp\\new",
)  # fmt: skip
WORDS = (
    "Hello, world!", "hello HELLO hELLO", "don't can't I'll WE'VE it's", "state-of-the-art", "antidisestablishmentarianism", "a b c d",
    "supercalifragilistic", "The answer is 42.", "e.g. i.e. etc.", "“quoted” ‘single’", "wait... what?!", "(a) [b] {c} <d>", "yes/no", "#tag @name",
    "re-re-re", "aaaaaaaaaaaaaaaaaaaa", "lol :-) :D", "Mr. O'Neill-Smith", "1990s", "A4", "x=1;y=2", "—–-_", "…", "!!!???", "~^`|",
)  # fmt: skip
SCRIPTS = (
    "北京", "你好，世界。", "日本語のテキスト", "カタカナ ひらがな", "한국어 텍스트", "עברית", "العربية", "فارسی", "ภาษาไทย", "हिन्दी", "தமிழ்",
    "ελληνικά", "русский язык", "Українська", "ქართული", "Հայերեն", "አማርኛ", "Tiếng Việt", "Türkçe İıŞş", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "ｆｕｌｌｗｉｄｔｈ", "㋿㍻",
)  # fmt: skip
ACCENTS = ("naïve café", "Größe", "Ångström", "crème brûlée", "señor", "žluťoučký kůň", "Łódź", "São Paulo", "fiancée", "ﬁ ligature")
EMOJI = ("🙂", "👍🏽", "👩‍👩‍👧‍👦", "🇫🇷🇩🇪", "❤️", "🏳️‍🌈", "a🙂b", " 🙂 ", "🙂🙂🙂🙂", "1️⃣", "😀 grin 😀", "☃", "♥♦", "🤖💥✨")
BLANKS = ("\t", "\t\t\t", "\n", "\n\n", "\n\n\n", "\r\n", " \n", "\n ", " \n \n ")
RARE = ("\u00a0", "\u2003", "\u200b", "\ufeff", "a\u0000b", "\x7f", "\ufffd")


def probes() -> list[str]:
    """The texts. Accents come composed and decomposed, words with and without a leading blank, blanks and digits in runs of all lengths."""
    digits = ["1234567890123456"[:n] for n in range(1, 17)]
    blanks = [" " * n for n in range(1, 17)] + ["x" + " " * n + "y" for n in range(2, 9)]
    decomposed = [unicodedata.normalize("NFD", text) for text in ACCENTS]
    led = [" " + text for text in WORDS[:12] + SCRIPTS[:6] + NUMBERS[:6]]
    return [*digits, *blanks, *NUMBERS, *CODE, *WORDS, *SCRIPTS, *ACCENTS, *decomposed, *EMOJI, *BLANKS, *RARE, *led]
