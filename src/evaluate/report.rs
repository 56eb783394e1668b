//! The report as one table of text.

use std::fmt::Write as _;

use super::Report;
use super::figures::{Figures, PausePoint};
use super::policy::{Policy, Waits};
use super::sweep::Tried;

/// The whole report for a terminal, 110 columns.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    let setting = &report.setting;
    let _ = writeln!(
        out,
        "{} recordings, {} turns, {:.0} minutes of sound; seed {}, {} % of the packets lost; soft end {:.0} ms, hard end {:.0} ms, threshold {}\n",
        setting.recordings,
        setting.turns,
        setting.minutes,
        setting.seed,
        setting.loss_percent,
        setting.soft_end_ms,
        setting.hard_end_ms,
        setting.vad_threshold
    );
    let _ = writeln!(
        out,
        "{:<22}{:>6}{:>9}{:>8}{:>10}{:>10}{:>18}{:>18}{:>10}{:>8}",
        "",
        "turns",
        "cut off",
        "missed",
        "soft end",
        "reopened",
        "soft end after ms",
        "hard end after ms",
        "spurious",
        "wasted"
    );
    let _ = writeln!(
        out,
        "{:<22}{:>6}{:>9}{:>8}{:>10}{:>10}{:>18}{:>18}{:>11}{:>9}",
        "", "", "%", "%", "undone %", "by noise", "p50  p90  p99", "p50  p90  p99", "starts/min", "req/turn"
    );
    let endpointing = &report.endpointing;
    row(&mut out, "overall", &endpointing.overall);
    let _ = writeln!(out, "  (SNR ≥ 10 dB, pauses ≤ 600 ms: what the goals are for)");
    section(&mut out, "by language (as overall)", &endpointing.languages);
    section(&mut out, "by SNR in dB (pauses ≤ 600 ms)", &endpointing.snr);
    section(&mut out, "by noise (any SNR, pauses ≤ 600 ms)", &endpointing.noise);
    section(&mut out, "by kind (SNR ≥ 10 dB, any pause)", &endpointing.kinds);
    section(
        &mut out,
        "callers with several turns (SNR ≥ 10 dB, any pause): the first, the later ones",
        &endpointing.callers,
    );
    let _ = writeln!(out);
    row(&mut out, "everything", &endpointing.everything);

    let _ = writeln!(out, "\ncut-offs by length of the pause, %");
    pauses(&mut out, "SNR ≥ 10 dB", &endpointing.pauses);
    pauses(&mut out, "SNR 5 dB", &endpointing.pauses_at_5_db);
    tried(&mut out, "other hard ends", &report.sweep.hard_end);
    tried(&mut out, "other soft ends", &report.sweep.soft_end);

    policy(&mut out, &report.policy);

    let _ = writeln!(out, "\ngoals");
    for goal in &report.goals {
        let measured = goal.measured.map_or("nothing measured".to_owned(), |value| value.to_string());
        let met = if goal.met { "met" } else { "MISSED" };
        let _ = writeln!(out, "  {met:<8}{:<40}{measured:>10}  (at most {})", goal.figure, goal.at_most);
    }
    out
}

fn section<'a>(out: &mut String, title: &str, groups: impl IntoIterator<Item = (&'a String, &'a Figures)>) {
    let mut groups: Vec<_> = groups.into_iter().collect();
    // 5 before 10, names by name.
    groups.sort_by_key(|(name, _)| (name.parse::<u32>().unwrap_or(u32::MAX), *name));
    let _ = writeln!(out, "{title}");
    for (name, figures) in groups {
        row(out, &format!("  {name}"), figures);
    }
}

fn row(out: &mut String, name: &str, figures: &Figures) {
    let three = |values: [Option<f64>; 3]| {
        values.map(|value| value.map_or("   –".to_owned(), |ms| format!("{ms:4.0}"))).join(" ")
    };
    let _ = writeln!(
        out,
        "{name:<22}{:>6}{:>9.1}{:>8.1}{:>10.1}{:>10.1}{:>18}{:>18}{:>11.2}{:>9.2}",
        figures.turns,
        figures.cut_offs_percent,
        figures.misses_percent,
        figures.soft_ends_taken_back_percent,
        figures.reopened_by_noise_percent,
        three([figures.decision_p50_ms, figures.decision_p90_ms, figures.decision_p99_ms]),
        three([figures.hard_end_p50_ms, figures.hard_end_p90_ms, figures.hard_end_p99_ms]),
        figures.spurious_starts_per_minute,
        figures.probable_ends_taken_back_per_turn,
    );
}

fn pauses(out: &mut String, name: &str, points: &[PausePoint]) {
    if points.is_empty() {
        return;
    }
    let line = |first: &str, cell: &dyn Fn(&PausePoint) -> String| {
        let cells: String = points.iter().map(|point| format!("{:>7}", cell(point))).collect();
        format!("  {first:<16}{cells}\n")
    };
    out.push_str(&line("pause, ms", &|point| point.pause_ms.to_string()));
    out.push_str(&line(name, &|point| format!("{:.1}", point.cut_offs_percent)));
    out.push_str(&line("of how many", &|point| point.pauses.to_string()));
}

fn tried(out: &mut String, name: &str, tried: &[Tried]) {
    let _ = writeln!(out, "\n{name}, ms (a part of the corpus, as overall; * configured)");
    let line = |first: &str, cell: &dyn Fn(&Tried) -> String| {
        let cells: String = tried.iter().map(|tried| format!("{:>8}", cell(tried))).collect();
        format!("  {first:<28}{cells}\n")
    };
    let ms = |value: Option<f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.0}"));
    out.push_str(&line("", &|tried| format!("{:.0}{}", tried.limit_ms, if tried.configured { "*" } else { "" })));
    out.push_str(&line("cut off, %", &|tried| format!("{:.1}", tried.figures.cut_offs_percent)));
    out.push_str(&line("cut off, any pause, %", &|tried| format!("{:.1}", tried.cut_offs_of_all_pauses_percent)));
    out.push_str(&line("soft end undone, %", &|tried| format!("{:.0}", tried.figures.soft_ends_taken_back_percent)));
    out.push_str(&line("soft end after, p50", &|tried| ms(tried.figures.decision_p50_ms)));
    out.push_str(&line("hard end after, p50", &|tried| ms(tried.figures.hard_end_p50_ms)));
}

fn policy(out: &mut String, policy: &Policy) {
    let preset = format!("{:?}", policy.preset).to_lowercase();
    let _ = writeln!(
        out,
        "\nplaceholders (preset {preset}): ms from the caller's true end to when the sound leaves the box; added: what the clip costs the answer"
    );
    let _ = writeln!(
        out,
        "  {:<16}{:>6}{:>16}{:>12}{:>16}{:>9}{:>10}{:>14}{:>10}{:>11}",
        "answer after",
        "turns",
        "first p50 95 99",
        "answer p50",
        "added mean p95",
        "clips %",
        "second %",
        "though ready",
        "mid-word",
        "loud cuts"
    );
    for waits in &policy.answers {
        waits_row(out, &waits.answer_after, waits);
    }
    for waits in [&policy.overall, &policy.bridged, &policy.in_noise] {
        waits_row(out, &waits.answer_after, waits);
    }
    let _ = writeln!(
        out,
        "  (though ready: clips played although the answer was ready within the grace; after the grace: the turns a clip can help)"
    );
}

fn waits_row(out: &mut String, name: &str, waits: &Waits) {
    let ms = |value: Option<f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.0}"));
    let _ = writeln!(
        out,
        "  {name:<16}{:>6}{:>16}{:>12}{:>16}{:>9.0}{:>10.0}{:>14}{:>10}{:>11}",
        waits.turns,
        format!(
            "{:>4} {:>4} {:>4}",
            ms(waits.first_sound_p50_ms),
            ms(waits.first_sound_p95_ms),
            ms(waits.first_sound_p99_ms)
        ),
        ms(waits.answer_p50_ms),
        format!("{:>4} {:>4}", ms(waits.added_mean_ms), ms(waits.added_p95_ms)),
        waits.clips_percent,
        waits.second_clips_percent,
        waits.clips_though_ready,
        waits.mid_word_cuts,
        waits.loud_cuts,
    );
}
