"""Numbers, prices, dates and times in English and German: each function takes a `Draw` and returns (English, German)."""

UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth", "twelve": "twelfth"}
EINER = "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn".split()
ZEHNER = "_ _ zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()
ORDNUNGSZAHLEN = {"eins": "erst", "drei": "dritt", "sieben": "siebt", "acht": "acht"}

MONTHS = "january february march april may june july august september october november december".split()
MONATE = "Januar Februar März April Mai Juni Juli August September Oktober November Dezember".split()
DAYS_OF_MONTH = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
WOCHENTAGE = "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag".split()


def english(n, conjunction="and "):
    """0 to 9999: `three thousand two hundred and one`."""
    if n < 20:
        return UNITS[n]
    if n < 100:
        return TENS[n // 10] + (f"-{UNITS[n % 10]}" if n % 10 else "")
    size, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    head, rest = f"{UNITS[n // size]} {name}", n % size
    if not rest:
        return head
    return f"{head} {conjunction if rest < 100 else ''}{english(rest, conjunction)}"


def german(n):
    """0 to 9999, in one word: `dreitausendzweihunderteins`."""
    if n < 20:
        return EINER[n]
    if n < 100:
        return (f"{ein(n % 10)}und" if n % 10 else "") + ZEHNER[n // 10]
    size, name = (1000, "tausend") if n >= 1000 else (100, "hundert")
    return ein(n // size) + name + (german(n % size) if n % size else "")


def ein(n):
    """The number before a noun or within a compound, where `eins` loses its end."""
    return german(n).removesuffix("s") if n % 100 == 1 else german(n)


def ordinal(n):
    """1 to 31: `twenty-first`."""
    head, dash, last = english(n).rpartition("-")
    return head + dash + (ORDINALS.get(last) or last.removesuffix("y") + ("ieth" if last.endswith("y") else "th"))


def ordnungszahl(n, ending):
    """1 to 31, as an adjective with the weak ending: `einundzwanzigsten`."""
    stem = german(n)
    return (ORDNUNGSZAHLEN.get(stem) or stem + ("t" if n < 20 else "st")) + ending


def any_number(draw, low=1, high=9999):
    """Of any length with the same chance, else most numbers would have four digits."""
    n = draw.number(low, min(high, draw.one([99, 999, 9999, 9999])))
    if n >= 100:
        draw.note("number", n)
    return n


def number(draw):
    n = any_number(draw)
    en, de = english(n, draw.one(["and ", ""])), german(n)
    return draw.one(
        [
            (en, de),
            (f"page {en}", f"Seite {de}"),
            (f"room number {en}", f"Zimmer Nummer {de}"),
            (f"the number {en}", f"die Zahl {de}"),
            (f"{en} {'metre' if n == 1 else 'metres'}", f"{ein(n)} Meter"),
        ]
    )


def amount(draw):
    """An amount of money in the accusative."""
    euros, cents = any_number(draw, 2, 999), draw.one([0, draw.number(2, 99)])
    en, de = f"{english(euros)} euros", f"{ein(euros)} Euro"
    if not cents:
        return en, de
    draw.note("price", euros, cents)
    return f"{en} and {english(cents)} cents", f"{de} und {ein(cents)} Cent"


def year(draw):
    """1100 to 1999 by hundreds, 2000 to 2099 by the thousand."""
    n = draw.number(1900, 2099) if draw.chance(0.6) else draw.number(1100, 1999)
    draw.note("year", n)
    if n >= 2000:
        return english(n), german(n)
    century, rest = divmod(n, 100)
    en = "hundred" if not rest else f"oh {english(rest)}" if rest < 10 else english(rest)
    return f"{english(century)} {en}", f"{german(century)}hundert{german(rest) if rest else ''}"


def date(draw):
    month, weekday = draw.number(0, 11), draw.number(0, 6)
    day = draw.number(1, DAYS_OF_MONTH[month])
    draw.note("date", day, MONTHS[month])
    en, name = f"the {ordinal(day)} of {MONTHS[month]}", MONATE[month]
    nominative, dative = f"{ordnungszahl(day, 'e')} {name}", f"{ordnungszahl(day, 'en')} {name}"
    en, de = draw.one(
        [
            (en, f"der {nominative}"),
            (f"on {en}", f"am {dative}"),
            (f"since {en}", f"seit dem {dative}"),
            (f"until {en}", f"bis zum {dative}"),
            (f"today is {en}", f"heute ist der {nominative}"),
            (f"{WEEKDAYS[weekday]}, {en}", f"{WOCHENTAGE[weekday]}, der {nominative}"),
            (f"on {WEEKDAYS[weekday]}, {en}", f"am {WOCHENTAGE[weekday]}, dem {dative}"),
        ]
    )
    if draw.chance(0.5):
        return en, de
    year_en, year_de = year(draw)
    return f"{en} {year_en}", f"{de} {year_de}"


def clock(draw, hour):
    """A time of day as it is spoken: Germans count the half hour, and five minutes around it, from the hour to come."""
    minute = 5 * draw.number(0, 11) if draw.chance(0.7) else draw.number(1, 59)
    this, following = english(hour), english(hour % 12 + 1)
    diese, folgende = german(hour), german(hour % 12 + 1)
    match minute:
        case 0:
            return f"{this} o'clock", f"{ein(hour)} Uhr"
        case 15:
            return f"a quarter past {this}", f"Viertel nach {diese}"
        case 25:
            return f"twenty-five past {this}", f"fünf vor halb {folgende}"
        case 30:
            return f"half past {this}", f"halb {folgende}"
        case 35:
            return f"twenty-five to {following}", f"fünf nach halb {folgende}"
        case 45:
            return f"a quarter to {following}", f"Viertel vor {folgende}"
    past, count = minute < 30, min(minute, 60 - minute)
    en_unit, de_unit = ("", "") if minute % 5 == 0 else (" minute", " Minute") if count == 1 else (" minutes", " Minuten")
    en = f"{english(count)}{en_unit} {'past ' + this if past else 'to ' + following}"
    return en, f"{'eine' if count == 1 else german(count)}{de_unit} {'nach ' + diese if past else 'vor ' + folgende}"


def time(draw):
    hour = draw.number(1, 12)
    en, de = clock(draw, hour)
    later = ("in the afternoon", "nachmittags") if hour in (12, 1, 2, 3, 4, 5) else ("in the evening", "abends")
    en_part, de_part = draw.one([("", ""), ("in the morning", "morgens") if hour < 12 else ("", ""), later])
    weekday = draw.number(0, 6)
    en, de = f"{en} {en_part}".strip(), f"{de} {de_part}".strip()
    draw.note("time", en)
    return draw.one(
        [
            (f"at {en}", f"um {de}"),
            (f"it is {en}", f"es ist {de}"),
            (f"until {en}", f"bis {de}"),
            (f"on {WEEKDAYS[weekday]} at {en}", f"am {WOCHENTAGE[weekday]} um {de}"),
            (f"every {WEEKDAYS[weekday]} at {en}", f"jeden {WOCHENTAGE[weekday]} um {de}"),
        ]
    )
