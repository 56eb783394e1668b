#!/bin/bash
# Renders the clips that are built into offhook, and writes manifest.toml beside them.
# Needs espeak-ng and sox (Debian: apt-get install espeak-ng sox). Run it in any folder; it writes next to itself.
# To speak with another voice, change the lines at the end, or record files of your own and describe them in a manifest of the same shape.
# Afterwards: `offhook clips . --write-cuts`, which finds where each clip may be cut and writes it beside it.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
target=-20 # dBFS over the voiced parts

cat >manifest.toml <<'HEAD'
# The clips of this folder. Written by render.sh; `offhook` reads it at start.
# All are synthetic speech by espeak-ng: they serve until somebody records better ones.
# Level: -20 dBFS over the voiced parts. Rate: 16 kHz. Treble: a shelf of 9 dB at 2.5 kHz, without which a telephone swallows the sibilants, taken back at 4.5 kHz,
# where a wide call has them anyway: what a telephone leaves of a clip is within 1 dB as loud as the whole.
# Placeholders come in four lengths: 200 to 345 ms, 350 to 480 ms, 700 to 1000 ms, about 1.5 s. The longer ones pause between their words, so that an answer
# need not wait for their end. Where each clip may be cut is beside it, in NAME.cuts.toml; `offhook clips audio --write-cuts` finds it.
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
# A bar in the text makes a pause of some 120 ms between two words; in phonemes, _:: _: does.
clip() {
  local language=$1 kind=$2 name=$3 voice=$4 speed=$5 text=$6 phonemes=${7:-} file=$1/$3.wav spoken=${6//|/<break time=\"120ms\"/>} made pauses
  text=${text//| /}
  made="espeak-ng -v $voice -s $speed from the text"
  if [ -n "$phonemes" ]; then
    spoken="[[$phonemes]]"
    made="espeak-ng -v $voice -s $speed from phonemes written by hand, ${why[$language]}"
  fi
  mkdir -p "$language"
  espeak-ng -m -v "$voice" -s "$speed" -z -w "$work/raw.wav" "$spoken"
  # To 16 kHz, high-pass against DC, sibilants lifted within the telephone band (without that the silence detector takes the s of "sorry" away),
  # then silence off both ends (reversed for the second).
  sox -D "$work/raw.wav" -r 16000 -c 1 -b 16 "$work/cut.wav" gain -9 rate -v 16000 highpass 80 treble 9 2500 treble -12 4500 \
    silence 1 0.005 -48d reverse silence 1 0.005 -48d reverse
  # Matched, peaks softened so that none clips, and matched again.
  sox -D "$work/cut.wav" "$work/soft.wav" gain "$(missing "$work/cut.wav" -6)" compand 0.0003,0.02 -18,-18,-6,-13 0 -90 0.001
  sox -D "$work/soft.wav" "$file" gain "$(missing "$work/soft.wav")" fade h 0.005 -0 0.005
  {
    printf '\n[[clip]]\nname = "%s-%s"\nfile = "%s"\nlanguage = "%s"\nkind = "%s"\ntext = "%s"\n' "$language" "$name" "$file" "$language" "$kind" "$text"
    [ -z "$phonemes" ] || printf "phonemes = '''%s'''\n" "$phonemes"
    printf 'voice = "espeak-ng %s"\nmade = "%s"\nlicence = "CC0-1.0"\n' "$voice" "$made"
    pauses=$({ grep -oE '\||_::' <<<"$6$phonemes" || true; } | wc -l)
    [ "$pauses" = 0 ] || printf 'pauses = %d\n' "$pauses"
    printf 'duration_ms = %d\n' "$(sox "$file" -n stat 2>&1 | awk '/^Length/ {print int($3 * 1000 + 0.5)}')"
  } >>manifest.toml
}

en=en-us
clip en greeting greeting $en 160 "Hello, this is an automated assistant. How can I help you?"
clip en placeholder okay $en 230 "Okay."
clip en placeholder right $en 200 "Right."
clip en placeholder sure $en 215 "Sure."
clip en placeholder one-sec $en 185 "One sec." "wVn s'Ek"
clip en placeholder a-moment $en 190 "A moment."
clip en placeholder let-me-see $en 185 "Let me see." "l%Em%i: s'i:"
clip en placeholder one-moment $en 205 "One | moment."
clip en placeholder let-me-check $en 265 "Okay, | let me | check."
clip en placeholder one-moment-let-me-see $en 210 "One | moment, | let me | see."
clip en placeholder let-me-look-at-that $en 210 "Sure, | let me | look | at that."
clip en still still-looking $en 210 "Still | looking, | one | moment."
clip en still nearly-there $en 210 "Not | done yet, | nearly | there."
clip en prompt are-you-there $en 170 "Are you | still there?"
clip en goodbye goodbye $en 165 "Thank you | for calling. | Goodbye."
clip en apology apology $en 160 "Sorry, I cannot answer right now. Please try again."

clip ru greeting greeting ru 160 "Здравствуйте, это автоматический помощник. Чем могу помочь?"
clip ru placeholder seychas ru 250 "Сейчас."
clip ru placeholder yasno ru 190 "Ясно."
clip ru placeholder ponyatno ru 230 "Понятно."
clip ru placeholder sekundu ru 170 "Секунду."
clip ru placeholder minutku ru 170 "Минутку."
clip ru placeholder moment ru 165 "Момент."
clip ru placeholder uzhe-ishchu ru 195 "Так, | уже | ищу."
clip ru placeholder odin-moment ru 220 "Да, | один | момент."
clip ru placeholder seychas-naydu ru 195 "Так, | сейчас | я это | найду."
clip ru placeholder moment-ishchu ru 190 "Один | момент, | уже | ищу."
clip ru still eshche-ishchu ru 200 "Ещё | ищу, | один | момент."
clip ru still pochti-gotovo ru 190 "Уже | почти | готово."
clip ru prompt na-linii ru 170 "Вы ещё | на линии?"
clip ru goodbye goodbye ru 165 "Спасибо | за звонок. | До свидания."
clip ru apology apology ru 160 "Извините, сейчас не могу ответить. Пожалуйста, попробуйте ещё раз."

clip he greeting greeting he 160 "שָׁלוֹם, זֶה עוֹזֵר אוֹטוֹמָטִי. אֵיךְ אֶפְשָׁר לַעֲזוֹר?" "Sal'om _: z'e ?oz'eQ\" ?otom'ati _:_: 'ejX ?efS'aQ\" la?az'oQ\""
clip he placeholder tov he 165 "טוֹב." "t'ov"
clip he placeholder ken he 175 "כֵּן." "k'en"
clip he placeholder okey he 215 "אוֹקֵיי." "?ok'ej"
clip he placeholder rega he 165 "רֶגַע." "Q\"'ega"
clip he placeholder shniya he 175 "שְׁנִיָּה." "Snij'a"
clip he placeholder daka he 165 "דַּקָּה." "dak'a"
clip he placeholder od-rega he 225 "טוֹב, עוֹד רֶגַע." "t'ov _:: _: ?od _:: _: Q\"'ega"
clip he placeholder rak-rega he 225 "כֵּן, רַק רֶגַע." "k'en _:: _: Q\"'ak _:: _: Q\"'ega"
clip he placeholder rega-bodkim he 225 "טוֹב, רֶגַע אֶחָד, בּוֹדְקִים." "t'ov _:: _: Q\"'ega _:: _: ?eX'ad _:: _: bodk'im"
clip he placeholder kvar-bodkim he 225 "רֶגַע, כְּבָר בּוֹדְקִים אֶת זֶה." "Q\"'ega _:: _: kv'aQ\" _:: _: bodk'im _:: _: ?etz'e"
clip he still adayin-bodkim he 225 "עֲדַיִן בּוֹדְקִים, עוֹד רֶגַע." "?ad'ajin _:: _: bodk'im _:: _: ?od _:: _: Q\"'ega"
clip he still kimat-siyamnu he 225 "כִּמְעַט סִיַּמְנוּ, עוֹד רֶגַע." "kim'at _:: _: sij'amnu _:: _: ?od _:: _: Q\"'ega"
clip he prompt shomim-oti he 180 "הָלוֹ, שׁוֹמְעִים אוֹתִי?" "hal'o _:: _: Som?'im _:: _: ?ot'i"
clip he goodbye goodbye he 165 "תּוֹדָה עַל הַשִּׂיחָה, לְהִתְרָאוֹת." "tod'a _:: _: ?alhasiX'a _:: _: lehitQ\"a?'ot"
clip he apology apology he 160 "סְלִיחָה, אִי אֶפְשָׁר לַעֲנוֹת כָּרֶגַע. אָנָּא נַסּוּ שׁוּב." "sliX'a _: 'i ?efS'aQ\" la?an'ot kaQ\"'ega _:_: 'ana nas'u S'uv"
