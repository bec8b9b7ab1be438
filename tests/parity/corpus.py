"""Text: Debian's licence files, and lines of every script made up from ranges of code points."""
import glob

RANGES = [(0x20, 0x7F), (0xA0, 0x180), (0x370, 0x400), (0x400, 0x460), (0x5D0, 0x5EB), (0x620, 0x64B), (0x905, 0x940), (0xE01, 0xE3B), (0x1E00, 0x1EFF),
          (0x2000, 0x2070), (0x2100, 0x214F), (0x2460, 0x24FF), (0x3000, 0x3100), (0x3300, 0x33FF), (0x4E00, 0x4F00), (0xAC00, 0xAC80), (0xFB00, 0xFB07),
          (0xFE30, 0xFE50), (0xFF00, 0xFFEF), (0x1F300, 0x1F680), (0x300, 0x370), (0x1D400, 0x1D500)]
ODDITIES = ["", " ", "  two  spaces ", "\t tab\tand\ttab ", "trailing space ", "\u00a0nbsp\u00a0", "\u3000wide", "a\u200bb", "\ufeffbom", "▁ underline ▁▁",
            "e\u0301 combining", "ﬁ ligature", "①②③", "Ｆｕｌｌ ｗｉｄｔｈ", "ｶﾞ half", "½ and ¾", "🙂🙂 smile", "👩‍👩‍👧 family", "a\x01b control", "\x7f delete", "x\u0000"[:1],
            "don't can't I'm we've they're", "a , b . c ! d ?", "'quoted' \"text\"", "50% of 1,000.00", "C'est déjà l'été", "Größe: 38½", "мир и труд", "日本語のテキスト",
            "مرحبا بالعالم", "שלום", "ไทย", "हिन्दी", "한국어", "…—–‘’“”", "a\rb", "line\u2028separator", "soft\u00adhyphen", "ﷺ", "㎏ ㍿", "Ⅷ ⅷ", "ǅ ǆ"]


def license_lines():
    seen = {}
    for path in sorted(glob.glob("/usr/share/common-licenses/*")):
        with open(path, encoding="utf-8", errors="replace") as f:
            for line in f.read().split("\n"):
                if line.strip():
                    seen.setdefault(line)
    return list(seen)


def words_of(lines):
    """Plain lower-case words, for questions and answers."""
    out = {}
    for line in lines:
        for w in line.split():
            if w.isascii() and w.isalpha() and w.islower() and 3 <= len(w) <= 12:
                out.setdefault(w)
    return list(out)


def made_up(r, words):
    """One line: words, and stretches of one script, in any order, with odd spacing."""
    parts = []
    for _ in range(int(r.integers(1, 7))):
        if r.random() < 0.4:
            parts.append(words[int(r.integers(0, len(words)))])
        else:
            lo, hi = RANGES[int(r.integers(0, len(RANGES)))]
            parts.append("".join(chr(int(c)) for c in r.integers(lo, hi, int(r.integers(1, 9)))))
    gaps = [" ", " ", " ", "  ", "", "\t", "\u00a0"]
    return "".join(p + gaps[int(r.integers(0, len(gaps)))] for p in parts)


def lines(r, count, words):
    """`count` texts without line feeds, NULs or added tokens."""
    plain = license_lines()
    out = list(ODDITIES)
    while len(out) < count // 2:
        a = plain[int(r.integers(0, len(plain)))]
        out.append(a if r.random() < 0.7 else (a.upper() if r.random() < 0.5 else a.title()))
    while len(out) < count:
        out.append(made_up(r, words))
    return [x.replace("\n", " ").replace("\0", " ") for x in out]
