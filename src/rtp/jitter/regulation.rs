//! Making the delay what it should be: a period more or less, and what never fits left out.

use super::*;

impl JitterBuffer {
    /// Lengthens or shortens what waits when the delay is not what it should be.
    pub(super) fn regulate(&mut self, now_us: i64, frame: usize) {
        let Some(base_us) = self.arrivals.base_us() else { return };
        let head = self.position - self.units(self.strip.len());
        self.delay_us = now_us - base_us - self.us(head);
        let (step, frame_us) = self.step_us(frame, self.ptime_units);
        // How far the packets' bounds lie behind the frames'; taking that away costs no packet its time, less than a step gains none.
        let off = self.us_of(self.strip.len()) % step;
        let slack = self.delay_us - (frame_us - step + off);
        let target = self.target_us();
        if slack < target - SHORTER_US.1 {
            self.calm = 0;
            let lacking = (target - slack + step - 1) / step * step - off;
            let (most, sound) = match self.is_quiet(frame) {
                true => (lacking, Sound::Quiet),
                false if slack < target - SHORTER_US.0 => (lacking.max(PERIOD_US), Sound::Speech),
                false => return,
            };
            let added = self.strip.lengthen(self.samples_of_us(most), sound);
            self.counters.stretched += u64::from(added > 0);
            self.counters.stretched_samples += added as u64;
            return;
        }
        let spare = (slack - target - LONGER_US).max(0) / step * step;
        let excess = spare + if slack >= target { off } else { 0 };
        if excess < WORTH_US {
            self.calm = 0;
            return;
        }
        let quiet = self.is_quiet(frame);
        let calm = if quiet { CALM.1 } else { CALM.0 };
        self.calm += 1;
        let presses = excess > PRESSING_US;
        if self.calm < calm && !presses {
            return;
        }
        let excess = self.samples_of_us(excess);
        self.fetch(frame + excess.min(self.samples_of_us(20_000)));
        let spare = self.strip.len() - frame;
        let sound = match (quiet, presses) {
            (true, _) => Sound::Quiet,
            (_, true) => Sound::Urgent,
            _ => Sound::Speech,
        };
        let taken = self.strip.shorten(excess.min(spare), sound);
        if taken > 0 {
            self.counters.shortened += 1;
            self.counters.shortened_samples += taken as u64;
            self.calm = self.calm.min(CALM.0 - BETWEEN);
        }
    }

    /// Whether what was played last and what waits is so quiet that any length may be taken out of it or put into it.
    pub(super) fn is_quiet(&self, frame: usize) -> bool {
        let around = self.strip.around(frame);
        let level = level::rms_dbfs(around);
        level < QUIET_DBFS.0 || (level < QUIET_DBFS.1 && level < self.background_dbfs + 6.0)
    }

    /// Drops the oldest packets when the newest ends later than anything may be held back.
    pub(super) fn trim(&mut self) {
        let Some(newest) = self.newest else { return };
        let end = newest.time + i64::from(newest.units);
        let head = self.position - self.units(self.strip.len());
        // Timestamps may overlap: what waits then lasts longer than they say.
        let depth_us = self.depth().as_micros() as i64;
        let last_us = self.us(i64::from(newest.units));
        if self.us(end - head).max(depth_us) <= CAP_US + last_us {
            return;
        }
        self.concealment.begin(self.strip.before(0));
        let kept_us = (self.target_us() + last_us).min(CAP_US + last_us - self.us_of(self.strip.len()));
        while let Some(&Slot { sequence, time, units, .. }) = self.packets.head() {
            let waiting_us = self.us(i64::from(self.packets.waiting_units()));
            if self.us(end - time).max(waiting_us) <= kept_us || sequence >= newest.sequence {
                self.position = time;
                break;
            }
            self.counters.overflow += u64::from(units > 0);
            self.finish(sequence);
        }
        self.waited = 0;
    }
}
