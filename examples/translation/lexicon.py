"""The words of the sentences, and how German inflects them: nouns, adjectives, articles, verbs."""

from dataclasses import dataclass

import numerals


def rows(text):
    """The words of each line."""
    return [line.split() for line in text.strip().splitlines()]


CASES = ["nominative", "accusative", "dative"]
COLUMNS = ["m", "f", "n", "plural"]


def table(text):
    """case -> column -> ending or form; `-` is no ending."""
    return {case: dict(zip(COLUMNS, ("" if form == "-" else form for form in row))) for case, row in zip(CASES, rows(text))}


DEFINITE = table("der die das die \n den die das die \n dem der dem den")
EIN_WORD = table("- e - e \n en e - e \n em er em en")
DIESER = table("er e es e \n en e es e \n em er em en")
ADJECTIVE = {
    "weak": table("e e e en \n en e e en \n en en en en"),
    "mixed": table("er e es en \n en e es en \n en en en en"),
    "strong": table("_ _ _ e \n _ _ _ e \n _ _ _ en"),
}


@dataclass(frozen=True)
class Noun:
    en: str
    en_plural: str
    gender: str
    de: str
    oblique: str  # what weak nouns take in the singular outside of the nominative
    de_plural: str

    def inflected(self, case, plural):
        if not plural:
            return self.de + (self.oblique if case != "nominative" else "")
        return self.de_plural + ("n" if case == "dative" and self.de_plural[-1] not in "ns" else "")


def nouns(text):
    """`+` parts a weak noun from its ending."""
    return [Noun(en, plural, gender, *(de + "+").split("+")[:2], de_plural) for en, plural, gender, de, de_plural in rows(text)]


PEOPLE = nouns("""
    man men m Mann Männer
    woman women f Frau Frauen
    child children n Kind Kinder
    boy boys m Junge+n Jungen
    girl girls n Mädchen Mädchen
    teacher teachers m Lehrer Lehrer
    doctor doctors m Arzt Ärzte
    student students m Student+en Studenten
    sister sisters f Schwester Schwestern
    brother brothers m Bruder Brüder
    king kings m König Könige
    queen queens f Königin Königinnen
""")
THINGS = nouns("""
    book books n Buch Bücher
    apple apples m Apfel Äpfel
    flower flowers f Blume Blumen
    letter letters m Brief Briefe
    car cars n Auto Autos
    coat coats m Mantel Mäntel
    lamp lamps f Lampe Lampen
    chair chairs m Stuhl Stühle
    table tables m Tisch Tische
    picture pictures n Bild Bilder
    key keys m Schlüssel Schlüssel
    knife knives n Messer Messer
    newspaper newspapers f Zeitung Zeitungen
    cup cups f Tasse Tassen
""")
# English, German without an ending, German before an ending
OF_PEOPLE = rows("""
    old alt alt
    young jung jung
    rich reich reich
    tired müde müd
    famous berühmt berühmt
""")
OF_THINGS = rows("""
    new neu neu
    red rot rot
    black schwarz schwarz
    expensive teuer teur
    dark dunkel dunkl
""")
OF_BOTH = rows("""
    small klein klein
    big groß groß
    beautiful schön schön
""")

POSSESSIVES = {"my": "mein", "your": "dein", "his": "sein", "her": "ihr", "our": "unser", "their": "ihr"}


def determiner(draw, case, column):
    """(English, German, declension of adjectives behind it)"""
    plural = column == "plural"
    kind = draw.one(["the", "the", "the", "a", "a", "possessive", "this", "quantity"])
    if kind == "possessive":
        en, de = draw.one(list(POSSESSIVES.items()))
        return en, de + EIN_WORD[case][column], "mixed"
    if kind == "this":
        return "these" if plural else "this", "dies" + DIESER[case][column], "weak"
    if plural and kind in ("a", "quantity"):
        if draw.chance(0.3):
            return "many", "viele" + ("n" if case == "dative" else ""), "strong"
        n = draw.number(2, 12)
        return numerals.english(n), numerals.ein(n), "strong"
    if kind == "quantity":
        return "every", "jed" + DIESER[case][column], "weak"
    if kind == "a":
        return "a", "ein" + EIN_WORD[case][column], "mixed"
    return "the", DEFINITE[case][column], "weak"


@dataclass
class Phrase:
    """A noun phrase or pronoun."""

    en: str
    de: str
    person: str  # of the verb: ich, du, er, wir
    determiner: str = ""
    noun: str = ""


def noun_phrase(draw, noun, case, most_adjectives=2):
    plural = draw.chance(0.4)
    column = "plural" if plural else noun.gender
    article_en, article_de, declension = determiner(draw, case, column)
    own = OF_PEOPLE if noun in PEOPLE else OF_THINGS
    count = min(most_adjectives, draw.one([0, 0, 0, 1, 1, 1, 1, 2]))
    adjectives = [draw.one(OF_BOTH), draw.one(own)] if count == 2 else [draw.one(OF_BOTH + own)] if count else []
    for en, *_ in adjectives:
        draw.note("adjective", en, noun.en)
    words = [en for en, *_ in adjectives] + [noun.en_plural if plural else noun.en]
    if article_en == "a" and words[0][0] in "aeiou":
        article_en = "an"
    ending = ADJECTIVE[declension][case][column]
    german = [article_de] + [stem + ending for *_, stem in adjectives] + [noun.inflected(case, plural)]
    return Phrase(" ".join([article_en] + words), " ".join(german), "wir" if plural else "er", article_en, noun.en)


# English subject, English object, person of the verb, nominative, accusative, dative
PRONOUNS = rows("""
    i me ich ich mich mir
    you you du du dich dir
    he him er er ihn ihm
    she her er sie sie ihr
    we us wir wir uns uns
    they them wir sie sie ihnen
""")


def pronoun(draw, case):
    subject, object_, person, *forms = draw.one(PRONOUNS)
    return Phrase(subject if case == "nominative" else object_, forms[CASES.index(case)], person, noun=subject)


@dataclass(frozen=True)
class Verb:
    en: str
    en_s: str
    en_past: str
    en_participle: str
    prefix: str  # that German separates from the verb, else empty
    infinitive: str
    ich: str
    du: str
    er: str
    participle: str
    auxiliary: str  # of the perfect tense: haben or sein

    def finite(self, person):
        return {"ich": self.ich, "du": self.du, "er": self.er, "wir": self.infinitive.removeprefix(self.prefix)}[person]


def verbs(text):
    """English forms, `prefix|` if there is one, German forms; `_` stands for a space; `*` marks a perfect with `sein`."""
    found = []
    for line in text.strip().splitlines():
        *words, prefix, infinitive, ich, du, er, participle = line.replace("/", " ").split()
        words = [word.replace("_", " ") for word in words]
        auxiliary = "sein" if participle.endswith("*") else "haben"
        prefix = prefix.strip("-")
        found.append(Verb(*words, prefix, prefix + infinitive, ich, du, er, participle.removesuffix("*"), auxiliary))
    return found


OF_THING = verbs("""
    buy buys bought bought / - kaufen kaufe kaufst kauft gekauft
    see sees saw seen / - sehen sehe siehst sieht gesehen
    sell sells sold sold / - verkaufen verkaufe verkaufst verkauft verkauft
    find finds found found / - finden finde findest findet gefunden
    take takes took taken / - nehmen nehme nimmst nimmt genommen
    carry carries carried carried / - tragen trage trägst trägt getragen
    need needs needed needed / - brauchen brauche brauchst braucht gebraucht
    look_for looks_for looked_for looked_for / - suchen suche suchst sucht gesucht
    bring_along brings_along brought_along brought_along / mit bringen bringe bringst bringt mitgebracht
    pick_up picks_up picked_up picked_up / auf heben hebe hebst hebt aufgehoben
    throw_away throws_away threw_away thrown_away / weg werfen werfe wirfst wirft weggeworfen
    give_back gives_back gave_back given_back / zurück geben gebe gibst gibt zurückgegeben
""")
OF_PERSON = verbs("""
    see sees saw seen / - sehen sehe siehst sieht gesehen
    love loves loved loved / - lieben liebe liebst liebt geliebt
    ask asks asked asked / - fragen frage fragst fragt gefragt
    visit visits visited visited / - besuchen besuche besuchst besucht besucht
    greet greets greeted greeted / - begrüßen begrüße begrüßt begrüßt begrüßt
    invite invites invited invited / ein laden lade lädst lädt eingeladen
    call calls called called / an rufen rufe rufst ruft angerufen
    pick_up picks_up picked_up picked_up / ab holen hole holst holt abgeholt
""")
OF_DATIVE = verbs("""
    help helps helped helped / - helfen helfe hilfst hilft geholfen
    thank thanks thanked thanked / - danken danke dankst dankt gedankt
    follow follows followed followed / - folgen folge folgst folgt gefolgt*
    listen_to listens_to listened_to listened_to / zu hören höre hörst hört zugehört
""")
OF_BOTH_OBJECTS = verbs("""
    give gives gave given / - geben gebe gibst gibt gegeben
    show shows showed shown / - zeigen zeige zeigst zeigt gezeigt
    send sends sent sent / - schicken schicke schickst schickt geschickt
""")
OF_NOTHING = verbs("""
    work works worked worked / - arbeiten arbeite arbeitest arbeitet gearbeitet
    sleep sleeps slept slept / - schlafen schlafe schläfst schläft geschlafen
    laugh laughs laughed laughed / - lachen lache lachst lacht gelacht
    arrive arrives arrived arrived / an kommen komme kommst kommt angekommen*
    stay stays stayed stayed / - bleiben bleibe bleibst bleibt geblieben*
""")
SAYING = verbs("""
    know knows knew known / - wissen weiß weißt weiß gewusst
    think thinks thought thought / - glauben glaube glaubst glaubt geglaubt
    say says said said / - sagen sage sagst sagt gesagt
    hope hopes hoped hoped / - hoffen hoffe hoffst hofft gehofft
""")
HABEN = {"ich": "habe", "du": "hast", "er": "hat", "wir": "haben"}
SEIN = {"ich": "bin", "du": "bist", "er": "ist", "wir": "sind"}
BE = {"ich": "am", "du": "are", "er": "is", "wir": "are"}
# English, then German for ich, du, er, wir
MODALS = rows("""
    can kann kannst kann können
    must muss musst muss müssen
    will werde wirst wird werden
    should soll sollst soll sollen
""")
# English, German, in which tenses
ADVERBS = [
    ("today", "heute", "present past perfect modal"),
    ("now", "jetzt", "present modal"),
    ("tomorrow", "morgen", "present modal"),
    ("yesterday", "gestern", "past"),
    ("every day", "jeden Tag", "present past"),
    ("next week", "nächste Woche", "present modal"),
    ("in the evening", "am Abend", "present past modal"),
    ("on {weekday}", "am {Wochentag}", "present past modal"),
]
PLACES = [("in the city", "in der Stadt"), ("in the garden", "im Garten"), ("at home", "zu Hause")]
