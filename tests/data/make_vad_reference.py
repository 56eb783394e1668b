#!/usr/bin/env python3
"""Makes vad.wav and vad_probabilities.txt, against which our inference of the Silero network is checked.

The sound: three espeak-ng utterances (en, he, ru), pauses, and seeded noise. The probabilities: those that onnxruntime
gives for it with the model of the `silero` crate, one a line for each 256 samples.

Needs espeak-ng and sox, and onnxruntime and numpy from PyPI. Both results are committed, so no test needs any of it.

usage: make_vad_reference.py MODEL.onnx
       (the model is ~/.cargo/registry/src/*/silero-0.7.0/models/silero_vad.onnx)
"""

import pathlib
import subprocess
import sys
import wave

import numpy as np
import onnxruntime

RATE, CHUNK, CONTEXT = 8000, 256, 32
HERE = pathlib.Path(__file__).parent


def speak(voice, text, dbfs):
    """One utterance, telephone band, at an RMS level."""
    spoken = subprocess.run(["espeak-ng", "-v", voice, "-z", "--stdout", text], capture_output=True, check=True).stdout
    line = "sox -t wav - -t raw -r 8000 -e signed -b 16 -c 1 - sinc 300-3400"
    raw = subprocess.run(line.split(), input=spoken, capture_output=True, check=True).stdout
    samples = np.frombuffer(raw, np.int16).astype(np.float64)
    return samples * 10 ** (dbfs / 20) * 32768 / np.sqrt(np.mean(samples**2))


def main():
    noise = np.random.default_rng(8000)
    en = speak("en-us", "Hello, I would like a table.", -20)
    he = speak("he", "אני רוצה לקבוע תור", -26)
    ru = speak("ru", "Добрый день.", -23)
    sound = np.concatenate(
        [np.zeros(2400), en, np.zeros(2000), noise.normal(0, 1500, 2400), he, np.zeros(1600), ru, np.zeros(1200)]
    )
    # The last two utterances over noise.
    half = len(sound) // 2
    sound[half:] += noise.normal(0, 300, len(sound) - half)
    sound = np.clip(np.round(sound), -32768, 32767).astype(np.int16)
    sound = sound[: len(sound) // CHUNK * CHUNK]
    with wave.open(str(HERE / "vad.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(sound.tobytes())

    model = onnxruntime.InferenceSession(sys.argv[1])
    state = np.zeros((2, 1, 128), np.float32)
    context = np.zeros((1, CONTEXT), np.float32)
    lines = []
    for chunk in sound.astype(np.float32).reshape(-1, 1, CHUNK) / 32768:
        heard = np.concatenate([context, chunk], axis=1)
        probability, state = model.run(None, {"input": heard, "state": state, "sr": np.array(RATE, np.int64)})
        context = heard[:, -CONTEXT:]
        lines.append(f"{probability[0, 0]:.8f}\n")
    (HERE / "vad_probabilities.txt").write_text("".join(lines))
    print(len(sound), "samples,", len(lines), "chunks,", sum(float(line) >= 0.5 for line in lines), "of them speech")


main()
