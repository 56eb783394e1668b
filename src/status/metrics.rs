//! What is counted, under the names that docs/operation.md lists. Calls and turns are counted when they are over; what the media thread and
//! the user agent count is read when somebody asks.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::media::MediaCounters;
use crate::record::{CallRecord, SideRecord};
use crate::sip::{Counter as Sip, UserAgent};
use crate::timeline::TurnReport;

/// Names with their values; all of them words of ours, or names of the configuration.
type Labels<const N: usize> = [(&'static str, &'static str); N];

const SOUND_SECONDS: [f64; 12] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0];
const ANSWER_SECONDS: [f64; 11] = [0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0];
const OPINIONS: [f64; 10] = [1.5, 2.0, 2.5, 3.0, 3.3, 3.6, 3.8, 4.0, 4.2, 4.4];

/// Where what is counted elsewhere is read.
#[derive(Clone)]
pub struct Readings {
    /// The media thread's counts.
    pub media: Arc<MediaCounters>,
    /// Calls in progress and trunks.
    pub agent: Weak<UserAgent>,
    /// Records of calls that were lost.
    pub records_dropped: Arc<AtomicU64>,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    media: Arc<MediaCounters>,
    calls: Family<Labels<3>, Counter>,
    turns: Family<Labels<1>, Counter>,
    first_sound: Histogram,
    answer_start: Histogram,
    tokens: Family<Labels<1>, Counter>,
    price: Counter<f64, AtomicU64>,
    opinions: Family<Labels<1>, Histogram, fn() -> Histogram>,
    packets: Family<Labels<1>, Counter>,
    frames: Family<Labels<1>, Counter>,
    dropped: Family<Labels<1>, Counter>,
}

impl Metrics {
    /// All of them at nought.
    pub fn new(readings: Readings) -> Self {
        let mut registry = Registry::with_prefix("offhook");
        let media = readings.media.clone();
        let opinions: fn() -> Histogram = || Histogram::new(OPINIONS);
        let metrics = Self {
            media,
            calls: Family::default(),
            turns: Family::default(),
            first_sound: Histogram::new(SOUND_SECONDS),
            answer_start: Histogram::new(ANSWER_SECONDS),
            tokens: Family::default(),
            price: Counter::default(),
            opinions: Family::new_with_constructor(opinions),
            packets: Family::default(),
            frames: Family::default(),
            dropped: Family::default(),
            registry: Registry::default(),
        };
        registry.register("calls", "Calls that are over", metrics.calls.clone());
        registry.register("turns", "Turns that are over", metrics.turns.clone());
        let help = "From the caller's last voiced sample to the first sound of anything";
        registry.register_with_unit("first_sound", help, Unit::Seconds, metrics.first_sound.clone());
        let help = "From the caller's last voiced sample to the first sound of the answer";
        registry.register_with_unit("answer_start", help, Unit::Seconds, metrics.answer_start.clone());
        registry.register("tokens", "Tokens of calls that are over", metrics.tokens.clone());
        let help = "What calls that are over have cost, in the currency of [price]";
        registry.register("price", help, metrics.price.clone());
        let help = "Mean opinion score of calls that are over, by who listens";
        registry.register("mos", help, metrics.opinions.clone());
        registry.register("rtp_packets", "RTP packets of calls that are over", metrics.packets.clone());
        registry.register("frames", "Frames of 20 ms of calls that are over", metrics.frames.clone());
        let help = "What was dropped because a ring of a call was full, in calls that are over";
        registry.register("ring_dropped", help, metrics.dropped.clone());
        registry.register_collector(Box::new(readings));
        Self { registry, ..metrics }
    }

    /// A turn is over.
    pub fn turn(&self, turn: &TurnReport) {
        self.turns.get_or_create(&[("outcome", turn.outcome.name())]).inc();
        for (ms, histogram) in [(turn.first_sound_ms, &self.first_sound), (turn.answer_start_ms, &self.answer_start)] {
            if let Some(ms) = ms {
                histogram.observe(ms / 1000.0);
            }
        }
    }

    /// A call is over.
    pub fn call(&self, call: &CallRecord) {
        let labels =
            [("direction", call.direction.name()), ("outcome", call.outcome.name()), ("cause", call.cause.name())];
        self.calls.get_or_create(&labels).inc();
        let tokens = [
            ("prompt", call.prompt_tokens),
            ("cached", call.cached_tokens),
            ("answer", call.answer_tokens),
            ("thought", call.thought_tokens),
        ];
        for (kind, count) in tokens {
            self.tokens.get_or_create(&[("kind", kind)]).inc_by(count.into());
        }
        if let Some(price) = call.price.filter(|price| price.is_finite() && *price > 0.0) {
            self.price.inc_by(price);
        }
        let Some(line) = &call.line else { return };
        let opinion = |heard_by, side: Option<SideRecord>| {
            if let Some(side) = side {
                self.opinions.get_or_create(&[("heard_by", heard_by)]).observe(side.mos);
            }
        };
        opinion("us", line.heard);
        opinion("them", line.said);
        for (what, count) in
            [("received", line.received), ("lost", line.lost), ("late", line.late), ("sent", line.sent)]
        {
            self.packets.get_or_create(&[("what", what)]).inc_by(count);
        }
        let frames = [
            ("ticked", line.frames),
            ("concealed", line.concealed),
            ("skipped", line.skipped),
            ("underrun", line.underruns),
        ];
        for (what, count) in frames {
            self.frames.get_or_create(&[("what", what)]).inc_by(count);
        }
        for (ring, count) in line.dropped.by_ring() {
            self.dropped.get_or_create(&[("ring", ring)]).inc_by(count);
        }
    }

    /// All of it as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A string takes everything.
        let _ = encode(&mut text, &self.registry);
        text
    }

    pub(super) fn media(&self) -> &MediaCounters {
        &self.media
    }
}

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readings").finish_non_exhaustive()
    }
}

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let media = &self.media;
        let counters = [
            ("media_wakes", "Wake-ups of the media thread", &media.wakes),
            ("media_late", "Wake-ups of the media thread more than 2 ms after their deadline", &media.late),
            ("media_skipped", "Ptimes in which a call could not be served at all", &media.skipped),
            ("records_dropped", "Records of calls that were lost because too many waited", &self.records_dropped),
        ];
        for (name, help, value) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value.load(Relaxed)).encode(metric)?;
        }
        let seconds = Unit::Seconds;
        let help = "The latest wake-up of the media thread after its deadline";
        let metric = encoder.encode_descriptor("media_worst_lateness", help, Some(&seconds), MetricType::Gauge)?;
        ConstGauge::new(media.worst_lateness_us.load(Relaxed) as f64 / 1e6).encode(metric)?;
        let histograms = [
            ("media_wake_lateness", "How long after its deadline the media thread woke", &media.wake_lateness),
            ("media_tick_lateness", "How long after its deadline a call was served", &media.tick_lateness),
        ];
        for (name, help, lateness) in histograms {
            let mut metric = encoder.encode_descriptor(name, help, Some(&seconds), MetricType::Histogram)?;
            let buckets: Vec<(f64, u64)> =
                lateness.buckets().map(|(bound, count)| (bound.min(f64::MAX), count)).collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            metric.encode_histogram::<NoLabelSet>(lateness.sum(), count, &buckets, None)?;
        }
        let gauges = [
            ("media_lines", "Calls that the media thread serves", media.lines.load(Relaxed) as u64),
            ("media_realtime", "Whether real-time priority was granted", media.realtime.load(Relaxed).into()),
            (
                "media_locked",
                "Whether memory is locked, so that no page of it is fetched",
                media.locked.load(Relaxed).into(),
            ),
        ];
        for (name, help, value) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        let Some(agent) = self.agent.upgrade() else { return Ok(()) };
        let metric = encoder.encode_descriptor(
            "calls_now",
            "Calls in progress, those that ring included",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(agent.calls() as u64).encode(metric)?;
        let help = "Whether calls can come in and go out by the trunk";
        let mut metric = encoder.encode_descriptor("trunk_up", help, None, MetricType::Gauge)?;
        for trunk in agent.trunks() {
            let up = ConstGauge::new(u64::from(trunk.state().is_up()));
            up.encode(metric.encode_family(&[("trunk", trunk.name())])?)?;
        }
        let help = "What the SIP side took, refused, repaired and dropped";
        let mut metric = encoder.encode_descriptor("sip", help, None, MetricType::Counter)?;
        for (counter, value) in agent.counters().iter() {
            let counter: Sip = counter;
            ConstCounter::new(value).encode(metric.encode_family(&[("what", counter.name())])?)?;
        }
        Ok(())
    }
}
