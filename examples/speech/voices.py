"""Spoken phrases: espeak-ng says them, in voices that differ from training to test, and noise covers them."""

import concurrent.futures
import subprocess

import numpy as np
from features import SAMPLE_RATE, resample

WORDS = (
    "zero one two three four five six seven eight nine yes no on off up down left right "
    "stop go start wait open close turn set play light door window radio timer"
).split()
MOST_WORDS = 6
SYNTHESIS_RATE = 22050

ACCENTS = "en-us en-us-nyc en-gb en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd en-gb-scotland en-029".split()
# espeak-ng's variants, each a vocal tract and a way of speaking of its own; nobody whom the test hears is in the training
TRAIN_VARIANTS = (
    "adam Alex Alicia Andrea anika antonio aunty benjamin boris caleb croak david Diogo ed edward f1 f3 f4 Gene grandma grandpa gustave Henrique "
    "Hugo iven iven4 Jacky john kaukovalta klatt2 klatt3 klatt4 Lee m1 m2 m4 m5 m6 m8 marcelo Marco Mario max miguel Mike Nguyen norbert pablo "
    "pedro shelby steph steph3 Storm travis Tweaky victor zac"
).split()
TEST_VARIANTS = "Andy AnxiousAndy belinda Denis f2 f5 linda m3 m7 Michael paul quincy rob robert sandro".split()


def synthesise(text, voice, speed, pitch, gap):
    """[L] at 22.05 kHz in [-1, 1): the text as espeak-ng says it, without the silence around it."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-g", str(gap), "--stdout", text]
    done = subprocess.run(command, check=True, capture_output=True)
    samples = np.frombuffer(done.stdout[44:], "<i2") / 32768.0
    heard = np.flatnonzero(np.abs(samples) > 0.01)
    if not len(heard):
        raise SystemExit(f"espeak-ng is silent: {' '.join(command)}")
    return samples[heard[0] : heard[-1] + 1]


def phrases(rng, count, variants):
    """[(text, samples [L] at 8 kHz)]: 1 to 6 random words each, so that nothing but sound tells the next one."""
    jobs = []
    for _ in range(count):
        text = " ".join(rng.choice(WORDS, rng.integers(1, MOST_WORDS + 1)))
        voice = f"{rng.choice(ACCENTS)}+{rng.choice(variants)}"
        jobs.append((text, voice, int(rng.integers(120, 201)), int(rng.integers(20, 81)), int(rng.integers(0, 4))))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(zip([text for text, *_ in jobs], pool.map(lambda job: resample(synthesise(*job), SYNTHESIS_RATE), jobs)))


def noises(rng, spoken, seconds=60):
    """Kinds of noise, each [60 s] of power 1: white, pink, the mains' hum, and many voices at once."""
    length = seconds * SAMPLE_RATE
    white = rng.standard_normal(length)
    pink = np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.arange(1, length // 2 + 2)), length)
    time = np.arange(length) / SAMPLE_RATE
    hum = sum(np.sin(2 * np.pi * (50 * k * time + rng.random())) / k for k in range(1, 12)) + 0.1 * white
    babble = np.zeros(length)
    for _ in range(6):
        order = rng.permutation(len(spoken))
        babble += np.resize(np.concatenate([spoken[i][1] for i in order[:80]]), length)
    return [noise / noise.std() for noise in (white, pink, hum, babble)]


def of_another_size(rng, samples):
    """The samples [L] played up to a sixth faster or slower, [L']: a speaker who is smaller or larger than any of espeak-ng's."""
    return np.interp(np.arange(0.0, len(samples) - 1.0, rng.uniform(0.85, 1.17)), np.arange(len(samples)), samples)


def in_noise(rng, samples, kinds, length):
    """[length] at 8 kHz: the samples [L], somewhere in noise that is 10 to 30 dB below them; its peak is 0.4 to 0.95."""
    noise = kinds[rng.integers(len(kinds))]
    start, before = rng.integers(len(noise) - length), rng.integers(length - len(samples) + 1)
    mixed = noise[start : start + length] * (samples.std() * 10.0 ** (-rng.uniform(10.0, 30.0) / 20.0))
    mixed[before : before + len(samples)] += samples
    return mixed * (rng.uniform(0.4, 0.95) / np.abs(mixed).max())
