"""From the samples of a WAV file to what the network reads; the twin of audio.rs and features.rs, in float64 until the end.

    samples [L], 8 kHz in [-1, 1)  ->  frames [F, 200]  ->  power [F, 129]  ->  log-mel [F, 40]  ->  x [T, 120], T = F / 3

A frame is 25 ms under a Hann window, one every 10 ms, none beyond the end. Mel bands are the usual triangles, HTK's scale, 60 to 4000 Hz.
The logarithm has a floor 60 dB below the loudest band of the utterance; each band then gets mean 0 and deviation 1 over the utterance, so
neither loudness nor the colour of a channel is left. Three frames make one step of 30 ms.
"""

import functools
import math
import wave

import numpy as np

SAMPLE_RATE = 8000
FRAME, HOP, FFT = 200, 80, 256
BANDS, STACK = 40, 3
LOWEST, HIGHEST = 60.0, 4000.0
FLOOR, SILENCE = 1e-6, 1e-10  # of the loudest band's power; for an utterance of zeros
DEVIATION = 1e-3  # added to every band's, so that a band without any is 0
ZERO_CROSSINGS = 16  # of the resampler's kernel, on each side


def read_wav(path):
    """(samples [L] in [-1, 1), sampling rate) of a WAV file of integers of 8 or 16 bits, mono."""
    with wave.open(str(path)) as file:
        assert file.getnchannels() == 1, path
        found = file.readframes(file.getnframes())
        if file.getsampwidth() == 1:
            return (np.frombuffer(found, np.uint8) - 128.0) / 128.0, file.getframerate()
        return np.frombuffer(found, "<i2") / 32768.0, file.getframerate()


def write_wav(path, samples, sample_bytes, rate):
    """Writes samples [L] in [-1, 1), rounded to 8 or 16 bits."""
    full = 128 if sample_bytes == 1 else 32768
    found = np.clip(np.rint(samples * full), -full, full - 1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(sample_bytes)
        file.setframerate(rate)
        file.writeframes((found + 128).astype(np.uint8).tobytes() if sample_bytes == 1 else found.astype("<i2").tobytes())


@functools.cache
def kernels(rate):
    """(places [P, K], weights [P, K]) of the samples at `rate` Hz of which the first P at 8 kHz are made; then both repeat, rate / gcd samples on."""
    step = rate / SAMPLE_RATE
    centre = np.arange(SAMPLE_RATE // math.gcd(rate, SAMPLE_RATE))[:, None] * rate / SAMPLE_RATE
    reach = math.ceil(ZERO_CROSSINGS * step)
    places = np.floor(centre).astype(int) + np.arange(-reach, reach + 1)
    distance = (places - centre) / step
    window = np.where(np.abs(distance) < ZERO_CROSSINGS, 0.5 + 0.5 * np.cos(np.pi * distance / ZERO_CROSSINGS), 0.0)
    return places, np.sinc(distance) * window / step


def resample(samples, rate):
    """Samples [L] at `rate` Hz, 8000 or more -> [L * 8000 // rate] at 8 kHz: a sinc that passes up to 4 kHz, under a Hann window."""
    if rate == SAMPLE_RATE:
        return samples
    places, weights = kernels(rate)
    passes, phase = np.divmod(np.arange(len(samples) * SAMPLE_RATE // rate), len(places))
    at = places[phase] + (passes * (rate // math.gcd(rate, SAMPLE_RATE)))[:, None]
    edge = -places.min()
    return (np.pad(samples, (edge, edge + 1))[at + edge] * weights[phase]).sum(1)


def mel_filters():
    """[129, 40]: the share of a frequency in a band, triangles on the mel scale."""
    mel = lambda hertz: 2595.0 * np.log10(1.0 + np.asarray(hertz) / 700.0)
    width = (mel(HIGHEST) - mel(LOWEST)) / (BANDS + 1)
    centres = mel(LOWEST) + width * np.arange(1, BANDS + 1)
    frequencies = mel(np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT)
    return np.maximum(0.0, 1.0 - np.abs(frequencies[:, None] - centres) / width)


FILTERS = mel_filters()
WINDOW = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(FRAME) / FRAME)


def features(samples):
    """x [T, 120], float32, of samples [L] at 8 kHz."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    power = np.abs(np.fft.rfft(frames * WINDOW, FFT)) ** 2
    bands = power @ FILTERS
    log_mel = np.log(bands + FLOOR * bands.max() + SILENCE)
    normal = (log_mel - log_mel.mean(0)) / (log_mel.std(0) + DEVIATION)
    steps = len(normal) // STACK
    return normal[: steps * STACK].reshape(steps, STACK * BANDS).astype(np.float32)
