//! The latency waterfall: a picture of where the time goes in each turn.
//!
//! A self-contained SVG without scripts, 1000 units wide, with its own background.

use std::fmt::Write as _;

use super::TurnReport;

const WIDTH: f64 = 1000.0;
/// Where the time axis begins and ends.
const LEFT: f64 = 140.0;
const RIGHT: f64 = 975.0;
const LANE: f64 = 22.0;
const BAR: f64 = 13.0;
const GROUP_HEAD: f64 = 34.0;
const GROUP_GAP: f64 = 12.0;
/// First sound, after the caller's last voiced sample.
const GOAL_MS: f64 = 500.0;
/// Mean width of a character at the size of the labels; on the generous side.
const CHARACTER: f64 = 6.1;

const INK: &str = "#1f2933";
const FAINT: &str = "#616e7c";
const GOAL: &str = "#b42318";
const WAIT: &str = "#9aa5b1";
const CLIP: &str = "#d98207";
const MODEL_WAIT: &str = "#a9c6f5";
const MODEL: &str = "#2f6fd0";
const VOICE: &str = "#7b4fb5";
const ANSWER: &str = "#23845a";

/// A stretch of time in a lane.
struct Bar {
    from: f64,
    to: f64,
    colour: &'static str,
}

/// One line of a turn.
struct Lane {
    name: &'static str,
    bars: Vec<Bar>,
    /// Words that go before the bars, where there is room.
    before: String,
    /// Words that go after the bars.
    label: String,
}

impl Lane {
    fn new(name: &'static str, bars: Vec<Bar>, label: String) -> Self {
        Self { name, bars, before: String::new(), label }
    }
}

/// Draws the turns under a title, each from its end of speech, and `notes` below, a line each.
pub fn waterfall_svg(title: &str, turns: &[TurnReport], notes: &[&str]) -> String {
    let scale = Scale::of(turns);
    let groups: Vec<(String, Vec<Lane>, Option<f64>)> =
        turns.iter().map(|turn| (heading(turn), lanes(turn, scale.span_ms), turn.first_sound_ms)).collect();
    let top = 84.0;
    let bottom = top + groups.iter().map(|(_, lanes, _)| group_height(lanes)).sum::<f64>();
    let height = bottom + 24.0 + 18.0 * notes.len() as f64 + 8.0;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif\" font-size=\"11\" fill=\"{INK}\">\n\
         <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fdfdfc\"/>\n\
         <text x=\"20\" y=\"30\" font-size=\"18\" font-weight=\"600\">{title}</text>\n\
         <text x=\"20\" y=\"48\" fill=\"{FAINT}\">milliseconds from the caller's last voiced sample; ▼ first sound</text>\n",
        title = escaped(title),
    );
    axis(&mut svg, &scale, top, bottom);
    let mut y = top;
    for (heading, lanes, first_sound) in &groups {
        group(&mut svg, &scale, y, heading, lanes, *first_sound);
        y += group_height(lanes);
    }
    for (line, note) in notes.iter().enumerate() {
        let y = bottom + 26.0 + 18.0 * line as f64;
        let _ = writeln!(svg, "<text x=\"20\" y=\"{y:.1}\" fill=\"{FAINT}\">{}</text>", escaped(note));
    }
    svg.push_str("</svg>\n");
    svg
}

fn group_height(lanes: &[Lane]) -> f64 {
    GROUP_HEAD + LANE * lanes.len() as f64 + GROUP_GAP
}

/// Milliseconds to units.
struct Scale {
    span_ms: f64,
    step_ms: f64,
}

impl Scale {
    /// Everything up to the start of the answers fits; an answer may run off the right edge.
    fn of(turns: &[TurnReport]) -> Self {
        let latest = turns
            .iter()
            .flat_map(TurnReport::times)
            .filter(|(key, _)| *key != "answer_end_ms")
            .filter_map(|(_, ms)| ms)
            .filter(|ms| ms.is_finite())
            .fold(850.0, f64::max);
        let wanted = latest * 1.3;
        let step_ms = [100.0, 250.0, 500.0, 1000.0, 2000.0, 5000.0].into_iter().find(|step| wanted / step <= 12.0);
        let step_ms = step_ms.unwrap_or_else(|| (wanted / 12_000.0).ceil() * 1000.0);
        Self { span_ms: (wanted / step_ms).ceil() * step_ms, step_ms }
    }

    fn x(&self, ms: f64) -> f64 {
        let share = ms / self.span_ms;
        LEFT + (RIGHT - LEFT) * if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
    }
}

fn axis(svg: &mut String, scale: &Scale, top: f64, bottom: f64) {
    let steps = (scale.span_ms / scale.step_ms).round() as u32;
    for step in 0..=steps {
        let ms = f64::from(step) * scale.step_ms;
        let x = scale.x(ms);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"#e4e7eb\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{FAINT}\" text-anchor=\"middle\">{ms}</text>",
            top - 6.0
        );
    }
    let x = scale.x(GOAL_MS);
    let _ = writeln!(
        svg,
        "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"{GOAL}\" stroke-dasharray=\"5 4\"/>\
         <text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{GOAL}\" text-anchor=\"middle\">goal: first sound by {GOAL_MS} ms</text>",
        top,
        top - 22.0
    );
}

fn group(svg: &mut String, scale: &Scale, y: f64, heading: &str, lanes: &[Lane], first_sound: Option<f64>) {
    let lanes_top = y + GROUP_HEAD;
    let _ = writeln!(
        svg,
        "<line x1=\"20\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"#cbd2d9\"/>\
         <rect x=\"20\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#fdfdfc\"/>\
         <text x=\"20\" y=\"{:.1}\" font-size=\"12\" font-weight=\"600\">{}</text>",
        y + 1.0,
        heading.chars().count() as f64 * 7.2,
        22.0,
        y + 17.0,
        escaped(heading)
    );
    for (index, lane) in lanes.iter().enumerate() {
        let middle = lanes_top + LANE * (index as f64 + 0.5);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{FAINT}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            middle + 4.0,
            lane.name
        );
        for bar in &lane.bars {
            let (from, to) = (scale.x(bar.from), scale.x(bar.to));
            let _ = writeln!(
                svg,
                "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{}\"/>",
                middle - BAR / 2.0,
                (to - from).max(2.0),
                bar.colour
            );
            if bar.to > scale.span_ms {
                let edge = RIGHT + 4.0;
                let _ = writeln!(
                    svg,
                    "<path d=\"M {edge} {:.1} l 8 {:.1} l -8 {:.1} z\" fill=\"{}\"/>",
                    middle - BAR / 2.0,
                    BAR / 2.0,
                    BAR / 2.0,
                    bar.colour
                );
            }
        }
        label(svg, scale, lane, middle);
    }
    if let Some(ms) = first_sound {
        let (x, y) = (scale.x(ms), lanes_top - 1.0);
        let height = LANE * lanes.len() as f64;
        let _ = writeln!(
            svg,
            "<path d=\"M {x:.1} {y:.1} l -5 -8 h 10 z\"/>\
             <line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"{INK}\" stroke-width=\"0.8\" stroke-opacity=\"0.55\"/>",
            y + height
        );
    }
}

/// Puts a lane's words where no bar is: after its bars, or before them, or else upon them.
fn label(svg: &mut String, scale: &Scale, lane: &Lane, middle: f64) {
    if lane.bars.is_empty() {
        let words = if lane.label.is_empty() { "none" } else { &lane.label };
        return text(svg, LEFT + 8.0, middle, "start", FAINT, words);
    }
    let ends = |pick: fn(&Bar) -> f64| lane.bars.iter().map(pick);
    let first = scale.x(ends(|bar| bar.from).fold(scale.span_ms, f64::min)) - 8.0;
    let last = scale.x(ends(|bar| bar.to).fold(0.0, f64::max)) + 8.0;
    let width = |words: &str| words.chars().count() as f64 * CHARACTER;

    let mut words = lane.label.clone();
    if !lane.before.is_empty() {
        if first - width(&lane.before) >= LEFT {
            text(svg, first, middle, "end", INK, &lane.before);
        } else if !words.is_empty() && last + width(&words) <= RIGHT {
            // What comes early has no room before it; upon its bar it still stands apart from the rest.
            text(svg, first + 16.0, middle, "start", INK, &lane.before);
        } else {
            words = [lane.before.as_str(), words.as_str()]
                .into_iter()
                .filter(|w| !w.is_empty())
                .collect::<Vec<_>>()
                .join(" · ");
        }
    }
    if words.is_empty() {
        return;
    }
    if last + width(&words) <= RIGHT {
        text(svg, last, middle, "start", INK, &words);
    } else if lane.before.is_empty() && first - width(&words) >= LEFT {
        text(svg, first, middle, "end", INK, &words);
    } else {
        text(svg, first + 16.0, middle, "start", INK, &words);
    }
}

fn text(svg: &mut String, x: f64, middle: f64, anchor: &str, colour: &str, words: &str) {
    let y = middle + 4.0;
    // The halo keeps words readable where a line or a bar passes behind them.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\" stroke=\"#fdfdfc\" stroke-width=\"3\" \
         paint-order=\"stroke\">{}</text>",
        escaped(words)
    );
}

fn heading(turn: &TurnReport) -> String {
    let mut text = format!("Turn {} · {}", turn.turn, turn.outcome.name().replace('_', " "));
    if let Some(ms) = turn.first_sound_ms {
        let _ = write!(text, " · first sound {} ms", whole(ms));
    }
    if let Some(ms) = turn.answer_start_ms {
        let _ = write!(text, " · answer {} ms", whole(ms));
    }
    if turn.resumed > 0 {
        let _ = write!(text, " · caller went on {}×", turn.resumed);
    }
    text
}

fn lanes(turn: &TurnReport, span_ms: f64) -> Vec<Lane> {
    vec![decision(turn), placeholder(turn), gemini(turn, span_ms), voice(turn), answer(turn)]
}

fn decision(turn: &TurnReport) -> Lane {
    let mut bars = Vec::new();
    let end = turn.end_of_utterance_ms;
    if let Some(committed) = turn.committed_ms {
        bars.push(Bar { from: end.unwrap_or(0.0), to: committed, colour: "#dfe4ea" });
    }
    if let Some(end) = end {
        bars.push(Bar { from: 0.0, to: end, colour: WAIT });
    }
    Lane::new("end of utterance", bars, words(&[("decided", end), ("committed", turn.committed_ms)]))
}

fn placeholder(turn: &TurnReport) -> Lane {
    let Some(start) = turn.placeholder_start_ms else {
        return Lane::new("placeholder", Vec::new(), String::new());
    };
    let bars = vec![Bar { from: start, to: turn.placeholder_end_ms.unwrap_or(start), colour: CLIP }];
    let mut label = words(&[("from", Some(start)), ("to", turn.placeholder_end_ms)]);
    if let Some(clip) = &turn.placeholder {
        // Only as much of the name as leaves the times readable.
        let shown: String = clip.chars().take(24).collect();
        label = format!("{shown}: {label}");
    }
    Lane::new("placeholder", bars, label)
}

fn gemini(turn: &TurnReport, span_ms: f64) -> Lane {
    let mut bars = Vec::new();
    let full = turn.gemini_full_response_ms;
    if let Some(start) = turn.gemini_start_ms {
        let waited = turn.gemini_first_token_ms.or(full).or(turn.answer_end_ms).unwrap_or(span_ms);
        bars.push(Bar { from: start, to: waited.min(span_ms), colour: MODEL_WAIT });
    }
    if let Some(first) = turn.gemini_first_token_ms {
        bars.push(Bar { from: first, to: full.unwrap_or(first), colour: MODEL });
    }
    let label = words(&[("first token", turn.gemini_first_token_ms), ("whole", full)]);
    Lane { before: words(&[("request", turn.gemini_start_ms)]), ..Lane::new("Gemini", bars, label) }
}

fn voice(turn: &TurnReport) -> Lane {
    let mut bars = Vec::new();
    if let Some(start) = turn.first_clause_ms.or(turn.tts_start_ms) {
        bars.push(Bar {
            from: start,
            to: turn.tts_first_audio_ms.or(turn.tts_start_ms).unwrap_or(start),
            colour: VOICE,
        });
    }
    let label = words(&[
        ("first clause", turn.first_clause_ms),
        ("voice asked", turn.tts_start_ms),
        ("first audio", turn.tts_first_audio_ms),
    ]);
    Lane::new("clause and voice", bars, label)
}

fn answer(turn: &TurnReport) -> Lane {
    let Some(start) = turn.answer_start_ms else {
        return Lane::new("answer audible", Vec::new(), String::new());
    };
    let bars = vec![Bar { from: start, to: turn.answer_end_ms.unwrap_or(start), colour: ANSWER }];
    Lane::new("answer audible", bars, words(&[("from", Some(start)), ("to", turn.answer_end_ms)]))
}

/// `from 312 · to 905 ms`
fn words(parts: &[(&str, Option<f64>)]) -> String {
    let known: Vec<String> = parts.iter().filter_map(|(word, ms)| Some(format!("{word} {}", whole((*ms)?)))).collect();
    if known.is_empty() { String::new() } else { format!("{} ms", known.join(" · ")) }
}

fn whole(ms: f64) -> i64 {
    ms.round() as i64
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no place for control characters.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::TurnOutcome;

    fn turn(json: serde_json::Value) -> TurnReport {
        serde_json::from_value(json).unwrap()
    }

    fn turns() -> Vec<TurnReport> {
        let mut whole = turn(serde_json::json!({
            "call": "c1", "turn": 1, "outcome": "answered", "placeholder": "en-moment", "resumed": 0,
            "end_of_utterance_ms": 304.0, "committed_ms": 704.0, "placeholder_start_ms": 318.2, "placeholder_end_ms": 905.0,
            "gemini_start_ms": 305.1, "gemini_first_token_ms": 809.4, "gemini_full_response_ms": 1423.0, "first_clause_ms": 858.0,
            "tts_start_ms": 858.3, "tts_first_audio_ms": 882.0, "first_sound_ms": 318.2, "answer_start_ms": 980.4,
            "answer_end_ms": 4210.0, "total_ms": 980.4
        }));
        let mut quick = whole.clone();
        (quick.turn, quick.placeholder, quick.placeholder_start_ms, quick.placeholder_end_ms) = (2, None, None, None);
        (quick.first_sound_ms, quick.answer_start_ms, quick.answer_end_ms) = (Some(712.0), Some(712.0), Some(1100.0));
        (quick.gemini_first_token_ms, quick.gemini_full_response_ms, quick.resumed) = (Some(420.0), Some(540.0), 1);
        (quick.first_clause_ms, quick.tts_start_ms, quick.tts_first_audio_ms) = (Some(450.0), Some(450.0), Some(475.0));
        let mut silent = whole.clone();
        (silent.turn, silent.outcome) = (3, TurnOutcome::Apologised);
        (silent.gemini_first_token_ms, silent.gemini_full_response_ms, silent.first_clause_ms) = (None, None, None);
        (silent.tts_start_ms, silent.tts_first_audio_ms, silent.answer_start_ms, silent.answer_end_ms) =
            (None, None, None, None);
        whole.placeholder = Some("a <clip> & \"more\"".into());
        vec![whole, quick, silent]
    }

    /// Every element is closed, and nothing is left unescaped.
    fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        let mut rest = svg;
        while let Some(start) = rest.find('<') {
            let end = start + rest[start..].find('>').expect("a tag ends");
            let tag = &rest[start + 1..end];
            assert!(!tag.contains('<'), "{tag}");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name.to_owned())),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split_whitespace().next().unwrap().to_owned()),
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf\""));
    }

    #[test]
    fn every_turn_shows_its_times_and_strange_names_do_no_harm() {
        let svg = waterfall_svg("Three turns & a <title>", &turns(), &["The model is a simulator."]);
        assert_well_formed(&svg);
        for text in [
            "Three turns &amp; a &lt;title&gt;",
            "Turn 1 · answered · first sound 318 ms · answer 980 ms",
            "a &lt;clip&gt; &amp; &quot;more&quot;: from 318 · to 905 ms",
            "request 305 ms",
            "first token 809 · whole 1423 ms",
            "caller went on 1×",
            "Turn 3 · apologised",
            "goal: first sound by 500 ms",
            "The model is a simulator.",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        if let Some(path) = std::env::var_os("OFFHOOK_WATERFALL") {
            std::fs::write(path, svg).unwrap();
        }
    }

    #[test]
    fn a_picture_of_nothing_and_of_the_absurd_is_still_a_picture() {
        assert_well_formed(&waterfall_svg("", &[], &[]));
        let mut absurd = turns().remove(0);
        (absurd.gemini_start_ms, absurd.gemini_full_response_ms) = (Some(-300.0), Some(1e12));
        (absurd.first_sound_ms, absurd.answer_start_ms) = (Some(f64::NAN), Some(f64::INFINITY));
        let svg = waterfall_svg("absurd", &[absurd], &[]);
        assert_well_formed(&svg);
        assert!(svg.len() < 100_000);
    }
}
