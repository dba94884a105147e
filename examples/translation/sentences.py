"""Sentences: a clause is drawn once, and written in English and in German, whose verbs stand second, first or last.

    the man picks up the book today          Der Mann hebt heute das Buch auf.
    today the man picks up the book          Heute hebt der Mann das Buch auf.
    does the man pick up the book today?     Hebt der Mann heute das Buch auf?
    ... because the man picks up the book    ..., weil der Mann das Buch aufhebt.
"""

from dataclasses import dataclass

import lexicon
import numerals
from lexicon import BE, HABEN, SEIN, Phrase, Verb

QUANTITIES_OR_EVERY = {"every", "many"} | {numerals.english(n) for n in range(2, 13)}


@dataclass
class Clause:
    subject: Phrase
    verb: Verb | None  # without one it is a predicate: "is tired"
    adjective: tuple = ()
    tense: str = "present"  # present, past, perfect, or modal
    modal: tuple = ()
    receiver: Phrase | None = None  # in the dative
    thing: Phrase | None = None  # in the accusative
    receiver_last: bool = False  # English: "gives a book to the man"
    adverb: tuple = ()
    place: tuple = ()
    negated: bool = False

    def english(self, order="statement"):
        """`order`: statement, fronted (the adverb comes first), question."""
        finite, rest = self.english_verb(order == "question")
        receiver = [self.receiver.en] if self.receiver else []
        thing = [self.thing.en] if self.thing else []
        objects = thing + ["to"] + receiver if self.receiver_last else receiver + thing
        place = [self.place[0]] if self.place else []
        adverb = [self.adverb[0]] if self.adverb else []
        subject = [self.subject.en]
        front = finite + subject if order == "question" else subject + finite
        if order == "fronted":
            return " ".join(adverb + front + rest + objects + place)
        return " ".join(front + rest + objects + place + adverb)

    def english_verb(self, question):
        """(what stands before the subject in a question, what stands behind it)"""
        third, negation = self.subject.person == "er", ["not"] if self.negated else []
        if not self.verb:
            return [BE["er" if third else "ich" if self.subject.en == "i" else "wir"]], negation + [self.adjective[0]]
        if self.tense == "modal":
            return [self.modal[0]], negation + [self.verb.en]
        if self.tense == "perfect":
            return ["has" if third else "have"], negation + [self.verb.en_participle]
        if question or self.negated:
            return ["did" if self.tense == "past" else "does" if third else "do"], negation + [self.verb.en]
        return [self.verb.en_past if self.tense == "past" else self.verb.en_s if third else self.verb.en], []

    def german(self, order="statement"):
        """`order`: statement (the verb is second), fronted (so, behind the adverb), question (first), final (last)."""
        finite, end = self.german_verb()
        middle = self.german_middle(order != "fronted")
        subject = [self.subject.de]
        if order == "final":
            prefix = end if self.verb and self.tense == "present" else []
            return " ".join(subject + middle + ([] if prefix else end) + ["".join(prefix) + finite])
        if order == "statement":
            return " ".join(subject + [finite] + middle + end)
        front = [self.adverb[1]] if order == "fronted" else []
        return " ".join(front + [finite] + subject + middle + end)

    def german_verb(self):
        """(the finite verb, what stands at the end of a main clause)"""
        person, verb = self.subject.person, self.verb
        if not verb:
            return SEIN[person], [self.adjective[1]]
        if self.tense == "modal":
            return self.modal[1 + "ich du er wir".split().index(person)], [verb.infinitive]
        if self.tense in ("past", "perfect"):
            return (SEIN if verb.auxiliary == "sein" else HABEN)[person], [verb.participle]
        return verb.finite(person), [verb.prefix] if verb.prefix else []

    def german_middle(self, with_adverb):
        """What stands between the verbs: pronouns, time, dative, accusative, negation, place."""
        objects = [phrase for phrase in (self.receiver, self.thing) if phrase]
        negation = ["nicht"] if self.negated else []
        german = [phrase.de for phrase in objects]
        if self.negated and objects and objects[-1].determiner in ("a", "an"):
            german[-1], negation = "k" + german[-1], []
        pronouns = [de for phrase, de in zip(objects, german) if not phrase.determiner]
        others = [de for phrase, de in zip(objects, german) if phrase.determiner]
        adverb = [self.adverb[1]] if self.adverb and with_adverb else []
        return pronouns + adverb + others + negation + ([self.place[1]] if self.place else [])


def subject_of(draw, most_adjectives=2):
    if draw.chance(0.3):
        return lexicon.pronoun(draw, "nominative")
    return lexicon.noun_phrase(draw, draw.one(lexicon.PEOPLE), "nominative", most_adjectives)


def person_in(draw, case, subject, most_adjectives):
    """An object that is a person other than the subject."""
    while True:
        if draw.chance(0.3):
            found = lexicon.pronoun(draw, case)
        else:
            found = lexicon.noun_phrase(draw, draw.one(lexicon.PEOPLE), case, most_adjectives)
        if found.noun != subject.noun:
            return found


def clause(draw, most_adjectives=2, wanted=()):
    """`wanted` may hold `adverb`, or `no adverb` and `no place`."""
    subject = subject_of(draw, most_adjectives)
    kind = draw.one(["thing"] * 4 + ["person", "dative", "both"] * 2 + ["nothing", "predicate"])
    if kind == "predicate" and "adverb" not in wanted:
        return Clause(subject, None, draw.one(lexicon.OF_PEOPLE), negated=draw.chance(0.2) and subject.determiner != "every")
    tables = {"thing": lexicon.OF_THING, "person": lexicon.OF_PERSON, "dative": lexicon.OF_DATIVE, "both": lexicon.OF_BOTH_OBJECTS}
    verb = draw.one(tables.get(kind, lexicon.OF_NOTHING))
    found = Clause(subject, verb, tense=draw.one("present present present past past perfect modal modal".split()))
    draw.note("subject", subject.noun, verb.en)
    if found.tense == "modal":
        found.modal = draw.one(lexicon.MODALS)
    if kind in ("thing", "both"):
        found.thing = lexicon.noun_phrase(draw, draw.one(lexicon.THINGS), "accusative", most_adjectives)
        draw.note("object", verb.en, found.thing.noun)
    if kind == "person":
        found.thing = person_in(draw, "accusative", subject, most_adjectives)
        draw.note("object", verb.en, found.thing.noun)
    if kind in ("dative", "both"):
        found.receiver = person_in(draw, "dative", subject, 1 if kind == "both" else most_adjectives)
        found.receiver_last = kind == "both" and draw.chance(0.4)
        draw.note("object", verb.en, found.receiver.noun)
    if "adverb" in wanted or (draw.chance(0.3) and "no adverb" not in wanted):
        found.adverb = adverb(draw, found.tense)
    if draw.chance(0.7 if kind == "nothing" else 0.1) and "no place" not in wanted:
        found.place = draw.one(lexicon.PLACES)
    found.negated = draw.chance(0.15) and may_be_negated(found)
    return found


def may_be_negated(clause):
    """Only where both languages deny the same thing with the same words."""
    objects = [phrase for phrase in (clause.receiver, clause.thing) if phrase]
    counted = any(phrase.determiner in QUANTITIES_OR_EVERY for phrase in objects) or clause.subject.determiner == "every"
    early = len(objects) == 2 and objects[0].determiner in ("a", "an")
    return not counted and not early and (clause.tense != "modal" or clause.modal[0] in ("can", "will", "should"))


def adverb(draw, tense):
    en, de, _ = draw.one([row for row in lexicon.ADVERBS if tense in row[2].split()])
    day = draw.number(0, 6)
    return en.format(weekday=numerals.WEEKDAYS[day]), de.format(Wochentag=numerals.WOCHENTAGE[day])


def sentence(draw):
    form = draw.one(["statement"] * 5 + ["fronted"] * 3 + ["question", "that", "because"] * 2 + ["wh", "if"])
    if form == "statement":
        whole = clause(draw)
        return finish(whole.english(), whole.german())
    if form == "fronted":
        whole = clause(draw, wanted=["adverb"])
        return finish(whole.english("fronted"), whole.german("fronted"))
    if form == "question":
        whole = clause(draw)
        return finish(whole.english("question"), whole.german("question"), "?")
    if form == "wh":
        en, de, without = draw.one([("why", "warum", ""), ("when", "wann", "no adverb"), ("where", "wo", "no place")])
        whole = clause(draw, wanted=[without])
        return finish(f"{en} {whole.english('question')}", f"{de} {whole.german('question')}", "?")
    inner = clause(draw, 1, ["no place"])
    if form == "that":
        subject, verb = subject_of(draw, 1), draw.one(lexicon.SAYING)
        says = verb.en_s if subject.person == "er" else verb.en
        return finish(f"{subject.en} {says} that {inner.english()}", f"{subject.de} {verb.finite(subject.person)}, dass {inner.german('final')}")
    outer = clause(draw, 0, ["no adverb", "no place"])
    if form == "because":
        return finish(f"{outer.english()} because {inner.english()}", f"{outer.german()}, weil {inner.german('final')}")
    return finish(f"if {inner.english()}, {outer.english()}", f"wenn {inner.german('final')}, {outer.german('question')}")


def price(draw):
    noun = draw.one(lexicon.THINGS)
    en, de = numerals.amount(draw)
    if draw.chance(0.6):
        thing = lexicon.noun_phrase(draw, noun, "nominative", 1)
        verb_en, verb_de = ("costs", "kostet") if thing.person == "er" else ("cost", "kosten")
        return finish(f"{thing.en} {verb_en} {en}", f"{thing.de} {verb_de} {de}")
    buyer, thing = subject_of(draw, 0), lexicon.noun_phrase(draw, noun, "accusative", 1)
    return finish(f"{buyer.en} paid {en} for {thing.en}", f"{buyer.de} {HABEN[buyer.person]} {de} für {thing.de} bezahlt")


def finish(en, de, mark="."):
    return en + mark, de[0].upper() + de[1:] + mark


CATEGORIES = {"numbers": numerals.number, "dates": numerals.date, "times": numerals.time, "prices": price, "sentences": sentence}
