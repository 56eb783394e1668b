//! The pages, asked over TCP by an HTTP client, with nothing behind them that ticks but what a test lets tick.

use std::sync::Weak;
use std::sync::atomic::AtomicU64;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

struct Bench {
    media: Arc<MediaCounters>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Bench {
    async fn open() -> Self {
        Self::open_for(doorway::LONGEST).await
    }

    /// With connections that last no longer.
    async fn open_for(longest_connection: Duration) -> Self {
        let media = Arc::<MediaCounters>::default();
        let records_dropped = Arc::<AtomicU64>::default();
        let metrics = Arc::new(Metrics::new(Readings { media: media.clone(), agent: Weak::new(), records_dropped }));
        let page = StatusPage::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let page = StatusPage { longest_connection, ..page };
        let (address, stop) = (page.address(), CancellationToken::new());
        tokio::spawn(page.serve(metrics, stop.clone()));
        Self { media, address, stop }
    }

    async fn get(&self, path: &str, host: Option<&str>) -> (u16, String) {
        // It wants to know who does TLS, also where there is none.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.get(format!("http://{}{path}", self.address));
        if let Some(host) = host {
            request = request.header("Host", host);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn health_is_lost_while_the_media_thread_stands_still() {
    let bench = Bench::open().await;
    let (status, told) = bench.get("/healthz", None).await;
    assert_eq!((status, told.as_str()), (503, "the media thread stands still\n"));
    let media = bench.media.clone();
    let ticking = tokio::spawn(async move {
        loop {
            media.wakes.fetch_add(1, Relaxed);
            tokio::time::sleep(LOOK).await;
        }
    });
    assert_eq!(bench.get("/healthz", None).await, (200, "ok\n".into()));
    ticking.abort();
    let _ = ticking.await;
    assert_eq!(bench.get("/healthz", None).await.0, 503);
}

#[tokio::test]
async fn who_asks_by_a_strange_name_is_told_nothing() {
    let bench = Bench::open().await;
    let (status, told) = bench.get("/metrics", Some("rebound.example:8080")).await;
    assert!(status == 421 && !told.contains("offhook_"), "{status} {told}");
    let (status, told) = bench.get("/metrics", Some("localhost:1")).await;
    assert!(status == 200 && told.contains("offhook_media_wakes_total 0\n"), "{status} {told}");
    assert_eq!(bench.get("/", None).await.0, 404);
}

#[tokio::test]
async fn how_late_the_media_thread_is_is_told_as_a_histogram() {
    let bench = Bench::open().await;
    for ms in [0, 1, 1, 6, 3000] {
        bench.media.tick_lateness.record(Duration::from_millis(ms));
    }
    let (_, told) = bench.get("/metrics", None).await;
    let value = |of: &str| {
        let of = format!("offhook_media_tick_lateness_seconds_{of} ");
        told.lines().find_map(|line| line.strip_prefix(&of)).map(str::to_owned)
    };
    let counted =
        ["0.00002", "0.001", "0.005", "0.007", "+Inf"].map(|bound| value(&format!("bucket{{le=\"{bound}\"}}")));
    assert_eq!(counted, ["1", "3", "3", "4", "5"].map(|count| Some(count.to_owned())), "{told}");
    assert_eq!((value("sum").as_deref(), value("count").as_deref()), (Some("3.008"), Some("5")), "{told}");
}

#[tokio::test]
async fn who_connects_and_says_nothing_keeps_nobody_out_for_ever() {
    let longest = Duration::from_secs(1);
    let bench = Bench::open_for(longest).await;
    let mut silent = Vec::new();
    for _ in 0..doorway::CONNECTIONS {
        silent.push(TcpStream::connect(bench.address).await.unwrap());
    }
    // Half a request is no better.
    silent[0].write_all(b"GET /metrics HTTP/1.1\r\nHost: loc").await.unwrap();
    let mut waits = TcpStream::connect(bench.address).await.unwrap();
    waits.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut told = String::new();
    let early = tokio::time::timeout(Duration::from_millis(300), waits.read_to_string(&mut told)).await;
    assert!(early.is_err(), "one connection too many was served: {told}");
    let late = tokio::time::timeout(longest * 5, waits.read_to_string(&mut told)).await;
    assert!(late.is_ok() && told.starts_with("HTTP/1.1 200"), "{told}");
}
