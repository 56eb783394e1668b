#!/bin/bash
# Renders the clips that are built into offhook, and writes manifest.toml beside them.
# Needs espeak-ng and sox (Debian: apt-get install espeak-ng sox). Run it in any folder; it writes next to itself.
# To speak with another voice, change the lines at the end, or record files of your own and describe them in a manifest of the same shape.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
target=-20 # dBFS over the voiced parts

cat >manifest.toml <<'HEAD'
# The clips of this folder. Written by render.sh; `offhook` reads it at start.
# All are synthetic speech by espeak-ng: they serve until somebody records better ones.
# Level: -20 dBFS over the voiced parts. Treble: a shelf of 9 dB at 2.5 kHz, without which a telephone swallows the sibilants.
# A placeholder lasts 350 to 480 ms, so that even a quick model's answer does not wait for its end.
# cut_points_ms: where a pause between phrases begins, and the end; a clip may stop there.
HEAD

# missing FILE [OFFSET]: the gain in dB that brings its voiced parts to the target, plus an offset.
missing() {
  sox "$1" -n silence -l 1 0.02 -45d -1 0.02 -45d stats 2>&1 | awk -v t=$((target + ${2:-0})) '/^RMS lev/ {print t - $4}'
}

# Why phonemes are written by hand instead of leaving them to the text, by language.
declare -A why=(
  [en]="so that the first word is unstressed and the whole stays short"
  [he]="because espeak-ng 1.51 cannot read Hebrew; a fallback, not a native voice"
)

# clip LANGUAGE KIND NAME VOICE SPEED TEXT [PHONEMES]
clip() {
  local language=$1 kind=$2 name=$3 voice=$4 speed=$5 text=$6 phonemes=${7:-} file=$1/$3.wav spoken=$6 made
  made="espeak-ng -v $voice -s $speed from the text"
  if [ -n "$phonemes" ]; then
    spoken="[[$phonemes]]"
    made="espeak-ng -v $voice -s $speed from phonemes written by hand, ${why[$language]}"
  fi
  mkdir -p "$language"
  espeak-ng -v "$voice" -s "$speed" -z -w "$work/raw.wav" "$spoken"
  # To 8 kHz, high-pass against DC, sibilants lifted (without that the silence detector takes the s of "sorry" away),
  # then silence off both ends (reversed for the second).
  sox -D "$work/raw.wav" -r 8000 -c 1 -b 16 "$work/cut.wav" gain -9 rate -v 8000 highpass 80 treble 9 2500 \
    silence 1 0.005 -48d reverse silence 1 0.005 -48d reverse
  # Matched, peaks softened so that none clips, and matched again.
  sox -D "$work/cut.wav" "$work/soft.wav" gain "$(missing "$work/cut.wav" -6)" compand 0.0003,0.02 -18,-18,-6,-13 0 -90 0.001
  sox -D "$work/soft.wav" "$file" gain "$(missing "$work/soft.wav")" fade h 0.005 -0 0.005
  {
    printf '\n[[clip]]\nname = "%s-%s"\nfile = "%s"\nlanguage = "%s"\nkind = "%s"\ntext = "%s"\n' "$language" "$name" "$file" "$language" "$kind" "$text"
    [ -z "$phonemes" ] || printf "phonemes = '''%s'''\n" "$phonemes"
    printf 'voice = "espeak-ng %s"\nmade = "%s"\nlicence = "CC0-1.0"\n' "$voice" "$made"
    # Gaps: at least 80 ms in a row of 10 ms pieces below -42 dBFS; shorter ones are plosives inside words.
    sox "$file" -t dat - | awk '!/^;/ {
        sum += $2 * $2; n++
        if (++k == 80) { quiet = (sum / 80 < 6.3e-5); k = 0; sum = 0; piece++
          if (quiet) { if (!run) start = piece - 1; if (++run == 8) points = points (points ? ", " : "") start * 10 } else run = 0 } }
      END { ms = int(n / 8 + 0.5); printf "duration_ms = %d\ncut_points_ms = [%s%s%d]\n", ms, points, points ? ", " : "", ms }'
  } >>manifest.toml
}

en=en-us
clip en greeting greeting $en 160 "Hello, this is an automated assistant. How can I help you?"
clip en placeholder one-sec $en 185 "One sec." "wVn s'Ek"
clip en placeholder a-moment $en 190 "A moment."
clip en placeholder let-me-see $en 185 "Let me see." "l%Em%i: s'i:"
clip en apology apology $en 160 "Sorry, I cannot answer right now. Please try again."

clip ru greeting greeting ru 160 "Здравствуйте, это автоматический помощник. Чем могу помочь?"
clip ru placeholder sekundu ru 170 "Секунду."
clip ru placeholder minutku ru 170 "Минутку."
clip ru placeholder moment ru 165 "Момент."
clip ru apology apology ru 160 "Извините, сейчас не могу ответить. Пожалуйста, попробуйте ещё раз."

clip he greeting greeting he 160 "שָׁלוֹם, זֶה עוֹזֵר אוֹטוֹמָטִי. אֵיךְ אֶפְשָׁר לַעֲזוֹר?" "Sal'om _: z'e ?oz'eQ\" ?otom'ati _:_: 'ejX ?efS'aQ\" la?az'oQ\""
clip he placeholder rega he 165 "רֶגַע." "Q\"'ega"
clip he placeholder shniya he 175 "שְׁנִיָּה." "Snij'a"
clip he placeholder daka he 165 "דַּקָּה." "dak'a"
clip he apology apology he 160 "סְלִיחָה, אִי אֶפְשָׁר לַעֲנוֹת כָּרֶגַע. אָנָּא נַסּוּ שׁוּב." "sliX'a _: 'i ?efS'aQ\" la?an'ot kaQ\"'ega _:_: 'ana nas'u S'uv"
