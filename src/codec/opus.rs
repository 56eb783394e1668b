//! Opus (RFC 6716) on a telephone line: mono, and no more of it than the house can use.
//!
//! libopus does the work, at 16 kHz both ways. RFC 7587 for what stands in SDP.

use std::fmt;

use opus::{Application, Bandwidth, Bitrate, Channels};

use crate::pcm::RATE;

/// The clock that timestamps follow.
const CLOCK_RATE: u32 = 48_000;
/// What we spend on a second of speech unless the far side wants less: speech up to 8 kHz is transparent to most from here on.
const BIT_RATE: u32 = 28_000;
/// What Opus can be told to spend (RFC 7587 §6.1).
const BIT_RATES: std::ops::RangeInclusive<u32> = 6_000..=510_000;
/// Of 10: more is hardly heard and costs twice.
const COMPLEXITY: i32 = 5;
/// The loss that redundancy is made for, in percent, where the far side can use it.
const EXPECTED_LOSS: i32 = 5;
/// Concealment comes in steps of 10 ms: it is offered in less, but the part of Opus that speech is in makes no less, and throws the rest away.
const STEP: usize = RATE as usize / 100;
/// The longest piece that it makes at once: 60 ms.
const LONGEST: usize = 6 * STEP;
/// Samples of the frames that [`Encoder::encode`] takes: 10, 20, 40 and 60 ms.
pub const FRAMES: [usize; 4] = [STEP, 2 * STEP, 4 * STEP, 6 * STEP];

/// What is agreed on about Opus, from the far side's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Format {
    /// Dynamic.
    pub payload_type: u8,
    /// The far side uses what a packet tells of the one before it.
    pub fec: bool,
    /// The far side wants all packets to be of one length.
    pub cbr: bool,
    /// The far side wants no more bits a second.
    pub max_bit_rate: u32,
}

impl Format {
    /// What we offer.
    pub const OURS: Self = Self { payload_type: 111, fec: true, cbr: false, max_bit_rate: 40_000 };

    /// Reads the parameters of `a=fmtp`; what is unknown or makes no sense is as if it were not there (RFC 7587 §6.1).
    pub fn parse(payload_type: u8, parameters: &str) -> Self {
        let mut format = Self { payload_type, fec: false, cbr: false, max_bit_rate: *BIT_RATES.end() };
        for parameter in parameters.split(';') {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "useinbandfec" => format.fec = value == "1",
                "cbr" => format.cbr = value == "1",
                "maxaveragebitrate" => {
                    if let Ok(rate) = value.parse::<u32>() {
                        format.max_bit_rate = rate.clamp(*BIT_RATES.start(), *BIT_RATES.end());
                    }
                }
                _ => {}
            }
        }
        format
    }

    /// The parameters that we describe ourselves by.
    pub fn parameters() -> String {
        let rate = Self::OURS.max_bit_rate;
        format!("maxplaybackrate={RATE};sprop-maxcapturerate={RATE};maxaveragebitrate={rate};stereo=0;useinbandfec=1")
    }
}

/// How long a payload lasts, in timestamp units; 0 when it is none of Opus.
pub fn units(payload: &[u8]) -> u32 {
    opus::packet::get_nb_samples(payload, CLOCK_RATE).map_or(0, |samples| samples as u32)
}

/// Payloads of one source into sound, and what stands for those that did not come.
pub struct Decoder(opus::Decoder);

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("opus::Decoder").finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder that has heard nothing; `None` when there is no memory for it.
    pub fn new() -> Option<Self> {
        opus::Decoder::new(RATE, Channels::Mono).ok().map(Self)
    }

    /// Forgets what it has heard.
    pub fn reset(&mut self) {
        // Cannot fail: it is no request with an argument.
        let _ = self.0.reset_state();
    }

    /// Decodes a payload into `out`; returns how many samples at 16 kHz were written: none when it is no payload or does not fit.
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> usize {
        if payload.is_empty() || out.is_empty() {
            return 0;
        }
        self.0.decode(payload, out, false).unwrap_or(0).min(out.len())
    }

    /// Fills `out`, whole steps of 10 ms, in place of payloads that did not come. `next` is the first that did: what it tells of the one
    /// before it is used, where it does.
    pub fn conceal(&mut self, next: Option<&[u8]>, out: &mut [i16]) {
        let told = next.map_or(0, |next| (units(next) / (CLOCK_RATE / RATE)) as usize);
        let unknown = if told > 0 && told <= out.len() { out.len() - told } else { out.len() };
        let (unknown, told) = out.split_at_mut(unknown);
        for piece in unknown.chunks_mut(LONGEST) {
            if self.0.decode(&[], piece, false).is_err() {
                piece.fill(0);
            }
        }
        if let Some(next) = next.filter(|_| !told.is_empty())
            && self.0.decode(next, told, true).is_err()
        {
            told.fill(0);
        }
    }

    /// Rounds up to what [`Self::conceal`] can fill.
    pub fn whole_steps(samples: usize) -> usize {
        samples.next_multiple_of(STEP)
    }
}

/// The house's sound into payloads of one source.
pub struct Encoder {
    encoder: opus::Encoder,
    format: Format,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("opus::Encoder").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder that has said nothing; `None` when there is no memory for it.
    pub fn new(format: Format) -> Option<Self> {
        let mut encoder = opus::Encoder::new(RATE, Channels::Mono, Application::Voip).ok()?;
        encoder.set_complexity(COMPLEXITY).ok()?;
        encoder.set_max_bandwidth(Bandwidth::Wideband).ok()?;
        let mut encoder = Self { encoder, format };
        encoder.apply().ok()?;
        Some(encoder)
    }

    /// Goes on as agreed anew.
    pub fn set_format(&mut self, format: Format) {
        if self.format != format {
            self.format = format;
            // The requests are those of `new`, with other values that are valid.
            let _ = self.apply();
        }
    }

    fn apply(&mut self) -> opus::Result<()> {
        let Format { fec, cbr, max_bit_rate, .. } = self.format;
        self.encoder.set_bitrate(Bitrate::Bits(BIT_RATE.min(max_bit_rate) as i32))?;
        self.encoder.set_vbr(!cbr)?;
        self.encoder.set_inband_fec(fec)?;
        self.encoder.set_packet_loss_perc(if fec { EXPECTED_LOSS } else { 0 })
    }

    /// Encodes 10, 20, 40 or 60 ms at 16 kHz into `payload`; returns how many bytes were written, and 0 for another length or too little
    /// room.
    pub fn encode(&mut self, sound: &[i16], payload: &mut [u8]) -> usize {
        self.encoder.encode(sound, payload).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::{FRAME_SAMPLES, level, wav};

    #[test]
    fn the_parameters_of_the_far_side_are_taken_and_nonsense_is_as_if_it_were_not_there() {
        let plain = Format { payload_type: 96, fec: false, cbr: false, max_bit_rate: 510_000 };
        for (parameters, expected) in [
            ("", plain),
            ("useinbandfec=1; stereo=1", Format { fec: true, ..plain }),
            (
                " UseInbandFec = 1 ;cbr=1;maxaveragebitrate=20000",
                Format { fec: true, cbr: true, max_bit_rate: 20_000, ..plain },
            ),
            ("maxaveragebitrate=1", Format { max_bit_rate: 6_000, ..plain }),
            ("maxaveragebitrate=99999999999;useinbandfec=yes;;=;x", plain),
        ] {
            assert_eq!(Format::parse(96, parameters), expected, "{parameters}");
        }
        let ours = Format::parse(111, &Format::parameters());
        assert_eq!(ours, Format::OURS);
    }
    /// The speech that G.722 is tried with, and what ffmpeg 5.1 made of it: `ffmpeg -i wideband.wav -c:a libopus -b:a 24k -application voip -bitexact
    /// wideband.opus`.
    const SPEECH: &[u8] = include_bytes!("../../tests/data/wideband.wav");
    const BY_FFMPEG: &[u8] = include_bytes!("../../tests/data/wideband.opus");
    /// How far the noise is below the speech in what `ffmpeg -i wideband.opus -ar 16000` makes of that, in dB.
    const DECODED_BY_FFMPEG_DB: f32 = 10.05;

    /// The packets of a file (RFC 7845), without its two headers.
    fn packets(mut ogg: &[u8]) -> Vec<Vec<u8>> {
        let (mut packets, mut packet) = (Vec::new(), Vec::new());
        while ogg.len() > 27 {
            let (lengths, mut rest) = ogg[27..].split_at(usize::from(ogg[26]));
            for &length in lengths {
                packet.extend_from_slice(&rest[..usize::from(length)]);
                rest = &rest[usize::from(length)..];
                if length < 255 {
                    packets.push(std::mem::take(&mut packet));
                }
            }
            ogg = rest;
        }
        packets.split_off(2)
    }

    fn decoded(packets: &[Vec<u8>]) -> Vec<i16> {
        let (mut decoder, mut sound) = (Decoder::new().unwrap(), Vec::new());
        for packet in packets {
            let mut frame = [0; 3 * FRAME_SAMPLES];
            let length = decoder.decode(packet, &mut frame);
            assert_eq!(length as u32 * 3, units(packet));
            sound.extend(&frame[..length]);
        }
        sound
    }

    fn encoded(sound: &[i16], frame: usize, format: Format) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(format).unwrap();
        let encode = |frame: &[i16]| {
            let mut payload = [0; 480];
            let length = encoder.encode(frame, &mut payload);
            payload[..length].to_vec()
        };
        sound.chunks_exact(frame).map(encode).collect()
    }

    /// How far the noise is below the sound, in dB, when `heard` comes later by what is least.
    fn snr(said: &[i16], heard: &[i16]) -> f32 {
        let noise = |delay: usize| {
            let pairs = said.iter().zip(&heard[delay..]).map(|(a, b)| a.saturating_sub(*b));
            level::rms_dbfs(&pairs.collect::<Vec<i16>>())
        };
        let least = (0..200).map(noise).fold(f32::INFINITY, f32::min);
        level::rms_dbfs(said) - least
    }

    #[test]
    fn what_ffmpeg_encoded_is_decoded_as_well_as_by_ffmpeg_and_encoded_no_worse() {
        let speech = wav::read(SPEECH).unwrap().samples;
        let theirs = snr(&speech, &decoded(&packets(BY_FFMPEG)));
        assert!((theirs - DECODED_BY_FFMPEG_DB).abs() < 1.0, "{theirs} dB");
        for frame in [FRAME_SAMPLES / 2, FRAME_SAMPLES, 2 * FRAME_SAMPLES, 3 * FRAME_SAMPLES] {
            let packets = encoded(&speech, frame, Format::OURS);
            let ours = snr(&speech, &decoded(&packets));
            // In 10 ms there is less to go by.
            let worse = if frame < FRAME_SAMPLES { 3.0 } else { 1.0 };
            assert!(ours > theirs - worse, "{frame} samples: {ours} dB, ffmpeg {theirs} dB");
            let bytes: usize = packets.iter().map(Vec::len).sum();
            let bit_rate = bytes as u64 * 8 * u64::from(RATE) / speech.len() as u64;
            assert!((20_000..36_000).contains(&bit_rate), "{frame} samples: {bit_rate} bit/s");
        }
    }

    #[test]
    fn the_far_sides_wishes_are_kept() {
        let speech = wav::read(SPEECH).unwrap().samples;
        let wish = Format::parse(96, "cbr=1;maxaveragebitrate=12000");
        let packets = encoded(&speech, FRAME_SAMPLES, wish);
        assert!(packets.iter().all(|packet| packet.len() == 30), "12 kbit/s are 30 bytes in 20 ms");
        let mut encoder = Encoder::new(wish).unwrap();
        encoder.set_format(Format::parse(96, "cbr=1;maxaveragebitrate=20000"));
        assert_eq!(encoder.encode(&speech[..FRAME_SAMPLES], &mut [0; 480]), 50);
    }

    #[test]
    fn a_packet_tells_of_the_one_before_it_and_what_nobody_tells_is_made_up() {
        let speech = wav::read(SPEECH).unwrap().samples;
        let packets = encoded(&speech, FRAME_SAMPLES, Format::OURS);
        let whole = decoded(&packets);
        // Every fourth packet is lost; its sound is replaced by nothing, by what is made up, or by what the next one tells.
        let replaced = |how: u8| {
            let (mut decoder, mut sound) = (Decoder::new().unwrap(), Vec::new());
            for (n, packet) in packets.iter().enumerate() {
                let mut frame = [0; FRAME_SAMPLES];
                match (n % 4 == 2, how) {
                    (false, _) => {
                        decoder.decode(packet, &mut frame);
                    }
                    (true, 0) => {}
                    (true, 1) => decoder.conceal(None, &mut frame),
                    (true, _) => decoder.conceal(packets.get(n + 1).map(Vec::as_slice), &mut frame),
                }
                sound.extend(frame);
            }
            let noise: Vec<i16> = whole.iter().zip(&sound).map(|(a, b)| a.saturating_sub(*b)).collect();
            level::rms_dbfs(&whole) - level::rms_dbfs(&noise)
        };
        let [nothing, made_up, told] = [0, 1, 2].map(replaced);
        assert!(made_up > nothing + 0.5 && told > made_up + 1.0, "{nothing} {made_up} {told} dB");
    }

    #[test]
    fn what_is_no_payload_is_nothing_and_no_room_is_overrun() {
        let mut random = fastrand::Rng::with_seed(6716);
        let mut decoder = Decoder::new().unwrap();
        for _ in 0..3000 {
            let payload: Vec<u8> = (0..random.usize(..300)).map(|_| random.u8(..)).collect();
            let mut out = vec![0; random.usize(..2000)];
            let length = decoder.decode(&payload, &mut out);
            assert!(length == 0 || length as u32 * 3 == units(&payload));
            let step = STEP * random.usize(..20);
            decoder.conceal(Some(payload.as_slice()).filter(|_| random.bool()), &mut vec![0; step]);
        }
        assert_eq!(units(&[]), 0);
        assert_eq!(units(&[0xff, 0xff, 0xff]), 0, "63 frames are more than 120 ms");
    }
}
