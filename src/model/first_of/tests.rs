//! Models that do what they are told, in virtual time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::model::{Content, Usage};

/// What a model does with a request.
#[derive(Debug, Clone)]
enum Does {
    /// Speaks after so long.
    Speaks(Duration),
    /// Speaks, and does not end.
    SpeaksOn,
    /// Speaks, and fails in mid-answer.
    BreaksOff,
    /// Fails after so long.
    Fails(Duration, FaultClass),
    /// Calls a function, and then fails.
    CallsAndFails,
    /// Calls a function, and that is all.
    Calls,
    /// Is never heard of.
    Hangs,
}

use Does::*;

struct Fake {
    name: &'static str,
    does: Vec<Does>,
    asked: Arc<AtomicUsize>,
    /// Requests that run.
    running: Arc<AtomicUsize>,
    new_key: Arc<AtomicBool>,
}

struct Runs(Arc<AtomicUsize>);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LanguageModel for Fake {
    fn ask(&self, _: Ask, out: mpsc::Sender<Event>, _: CancellationToken) -> Fut<'static, Result<Finish, Fault>> {
        let nth = self.asked.fetch_add(1, Ordering::Relaxed);
        let does = self.does[nth.min(self.does.len() - 1)].clone();
        self.running.fetch_add(1, Ordering::Relaxed);
        let (runs, name) = (Runs(self.running.clone()), self.name);
        Box::pin(async move {
            let _runs = runs;
            let fault =
                move |class, stage| Err(Fault { class, stage, model: name.into(), http: None, note: "".into() });
            let now = std::time::Instant::now;
            let call = || FunctionCall {
                id: "1".into(),
                name: "order_status".into(),
                args: serde_json::Value::Null,
                raw: serde_json::Value::Null,
            };
            out.send(Event::Mark(Mark::RequestSent, now())).await.unwrap();
            match does {
                Speaks(after) => {
                    tokio::time::sleep(after).await;
                    out.send(Event::Mark(Mark::FirstToken, now())).await.unwrap();
                    out.send(Event::Delta(Delta::Text(name.into()))).await.unwrap();
                }
                SpeaksOn => {
                    out.send(Event::Delta(Delta::Text(name.into()))).await.unwrap();
                    std::future::pending().await
                }
                BreaksOff => {
                    out.send(Event::Delta(Delta::Text(name.into()))).await.unwrap();
                    return fault(FaultClass::Truncated, Stage::Answering);
                }
                Fails(after, class) => {
                    tokio::time::sleep(after).await;
                    return fault(class, Stage::Waiting);
                }
                CallsAndFails => {
                    out.send(Event::Delta(Delta::Call(call()))).await.unwrap();
                    return fault(FaultClass::Truncated, Stage::Waiting);
                }
                Calls => out.send(Event::Delta(Delta::Call(call()))).await.unwrap(),
                Hangs => std::future::pending().await,
            }
            out.send(Event::Mark(Mark::FullResponse, now())).await.unwrap();
            out.send(Event::Delta(Delta::Usage(Usage::default()))).await.unwrap();
            out.send(Event::Delta(Delta::Finished(Finish::Stop))).await.unwrap();
            Ok(Finish::Stop)
        })
    }

    fn has_new_key(&self) -> bool {
        self.new_key.swap(false, Ordering::Relaxed)
    }

    fn warm(&self) -> Fut<'_, Result<(), Fault>> {
        let does = self.does[0].clone();
        Box::pin(async move {
            match does {
                Fails(_, class) => {
                    Err(Fault { class, stage: Stage::Request, model: self.name.into(), http: None, note: "".into() })
                }
                _ => Ok(()),
            }
        })
    }
}

struct Line {
    models: FirstOf,
    asked: Vec<Arc<AtomicUsize>>,
    running: Arc<AtomicUsize>,
    /// Somebody has mended the key of them all.
    new_key: Arc<AtomicBool>,
    /// Further requests that are permitted.
    permits: Arc<AtomicUsize>,
}

/// What came of a request.
struct Came {
    result: Result<Finish, FaultClass>,
    text: String,
    calls: usize,
    marks: Vec<Mark>,
    took: Duration,
}

const NAMES: [&str; 3] = ["first", "second", "third"];
const SECOND: Duration = Duration::from_secs(1);
const AT_ONCE: Duration = Duration::ZERO;

fn line(does: &[&[Does]], hedge: Option<Duration>) -> Line {
    let (running, new_key) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let asked: Vec<Arc<AtomicUsize>> = does.iter().map(|_| Arc::default()).collect();
    let candidates = does.iter().zip(&asked).zip(NAMES).map(|((does, asked), name)| Candidate {
        name: name.into(),
        account: name.into(),
        model: Arc::new(Fake {
            name,
            does: does.to_vec(),
            asked: asked.clone(),
            running: running.clone(),
            new_key: new_key.clone(),
        }),
    });
    let patience = Patience { hedge, silent: 3 * SECOND, whole: 20 * SECOND };
    Line {
        models: FirstOf::new(candidates.collect(), patience),
        asked,
        running,
        new_key,
        permits: Arc::new(100.into()),
    }
}

fn question() -> Ask {
    Ask {
        system: "".into(),
        contents: vec![Content::Caller { audio: vec![], text: Some("hello".into()) }],
        functions: [].into(),
    }
}

impl Line {
    /// Asks, and gives up after `patience`.
    async fn ask_for(&self, patience: Duration) -> Came {
        let (out, mut events) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let began = Instant::now();
        let permits = self.permits.clone();
        let take =
            move |_| permits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        let asking = self.models.ask_within(question(), Arc::new(take), out, stop.clone());
        let collect = async {
            let mut all = Vec::new();
            while let Some(event) = events.recv().await {
                all.push(event);
            }
            all
        };
        let give_up = async {
            tokio::time::sleep(patience).await;
            stop.cancel();
            std::future::pending::<()>().await;
        };
        let (result, events) = tokio::select! {
            both = async { tokio::join!(asking, collect) } => both,
            () = give_up => unreachable!("it never ends"),
        };
        let mut came = Came {
            result: result.map_err(|fault| fault.class),
            text: String::new(),
            calls: 0,
            marks: vec![],
            took: began.elapsed(),
        };
        for event in events {
            match event {
                Event::Mark(mark, _) => came.marks.push(mark),
                Event::Delta(Delta::Text(text)) => came.text += &text,
                Event::Delta(Delta::Call(_)) => came.calls += 1,
                Event::Delta(_) => {}
            }
        }
        assert_eq!(self.running.load(Ordering::Relaxed), 0, "a request runs on");
        came
    }

    async fn ask(&self) -> Came {
        self.ask_for(60 * SECOND).await
    }

    fn asked(&self) -> Vec<usize> {
        self.asked.iter().map(|asked| asked.load(Ordering::Relaxed)).collect()
    }
}

fn fails(class: FaultClass) -> Does {
    Fails(AT_ONCE, class)
}

#[tokio::test(start_paused = true)]
async fn the_next_model_answers_when_one_fails_before_it_has_spoken() {
    for class in [
        FaultClass::Auth,
        FaultClass::Config,
        FaultClass::Gone,
        FaultClass::RateLimited { retry_after: None },
        FaultClass::Overloaded,
        FaultClass::Timeout,
        FaultClass::Truncated,
        FaultClass::Empty,
        FaultClass::NoText,
        FaultClass::Protocol,
        FaultClass::Network,
    ] {
        let line = line(&[&[fails(class.clone())], &[fails(FaultClass::Overloaded)], &[Speaks(AT_ONCE)]], None);
        let came = line.ask().await;
        assert_eq!((came.result, came.text.as_str()), (Ok(Finish::Stop), "third"), "{class}");
        assert_eq!(came.marks, [Mark::RequestSent, Mark::FirstToken, Mark::FullResponse], "{class}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_after_text_was_passed_on() {
    let line = line(&[&[BreaksOff], &[Speaks(AT_ONCE)]], Some(SECOND));
    let came = line.ask().await;
    assert_eq!((came.result, came.text.as_str(), line.asked()), (Err(FaultClass::Truncated), "first", vec![1, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_its_content_is_final() {
    let line = line(&[&[fails(FaultClass::Blocked("SAFETY".into()))], &[Speaks(AT_ONCE)]], None);
    assert_eq!((line.ask().await.result, line.asked()), (Err(FaultClass::Blocked("SAFETY".into())), vec![1, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_lone_model_is_asked_twice_and_several_once_each() {
    let lone = line(&[&[fails(FaultClass::Overloaded)]], None);
    assert_eq!((lone.ask().await.result, lone.asked()), (Err(FaultClass::Overloaded), vec![2]));
    let wrong = line(&[&[fails(FaultClass::Auth)]], None);
    assert_eq!((wrong.ask().await.result, wrong.asked()), (Err(FaultClass::Auth), vec![1]));
    let two = line(&[&[fails(FaultClass::Overloaded)], &[fails(FaultClass::Network)]], None);
    assert_eq!((two.ask().await.result, two.asked()), (Err(FaultClass::Overloaded), vec![1, 1]));
}

#[tokio::test(start_paused = true)]
async fn no_request_besides_the_first_leaves_without_a_permit() {
    let ill = || vec![fails(FaultClass::Overloaded)];
    for (permits, asked) in [(0, [1, 0, 0]), (1, [1, 1, 0]), (2, [1, 1, 1])] {
        let line = line(&[&ill(), &ill(), &ill()], None);
        line.permits.store(permits, Ordering::Relaxed);
        assert_eq!((line.ask().await.result, line.asked()), (Err(FaultClass::Overloaded), asked.to_vec()));
    }
    let lone = line(&[&ill()], None);
    lone.permits.store(0, Ordering::Relaxed);
    assert_eq!((lone.ask().await.result, lone.asked()), (Err(FaultClass::Overloaded), vec![1]));
    let slow = line(&[&[Speaks(4 * SECOND)], &[Speaks(AT_ONCE)]], Some(SECOND));
    slow.permits.store(0, Ordering::Relaxed);
    assert_eq!((slow.ask().await.text.as_str(), slow.asked()), ("first", vec![1, 0]));
    // One that takes no sound was not asked.
    let deaf = line(&[&[fails(FaultClass::NoText)], &[Speaks(AT_ONCE)]], None);
    deaf.permits.store(0, Ordering::Relaxed);
    assert_eq!(deaf.ask().await.text, "second");
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_tried_again_when_it_is_another_one_and_once_an_hour() {
    let refused = || fails(FaultClass::Auth);
    let line = line(&[&[refused(), refused(), Speaks(AT_ONCE)], &[Speaks(AT_ONCE)]], None);
    for _ in 0..3 {
        assert_eq!(line.ask().await.text, "second");
    }
    assert_eq!(line.asked(), [1, 3]);
    tokio::time::sleep(3600 * SECOND).await;
    assert_eq!((line.ask().await.text.as_str(), line.asked()), ("second", vec![2, 4]));
    assert_eq!((line.ask().await.text.as_str(), line.asked()), ("second", vec![2, 5]));
    line.new_key.store(true, Ordering::Relaxed);
    assert_eq!((line.ask().await.text.as_str(), line.asked()), ("first", vec![3, 5]));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_keeps_failing_is_left_alone_and_tried_again_after_its_rest() {
    let ill = fails(FaultClass::Overloaded);
    let line = line(&[&[ill.clone(), ill, Speaks(AT_ONCE)], &[Speaks(AT_ONCE)]], None);
    for _ in 0..4 {
        assert_eq!(line.ask().await.text, "second");
    }
    assert_eq!(line.asked(), [2, 4]);
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(line.ask().await.text, "first");
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_is_left_alone_although_who_asks_gives_up_first() {
    let line = line(&[&[Hangs], &[Speaks(AT_ONCE)]], None);
    for _ in 0..2 {
        let came = line.ask_for(4 * SECOND).await;
        assert_eq!((came.result, came.took), (Err(FaultClass::Cancelled), 4 * SECOND));
    }
    let came = line.ask_for(4 * SECOND).await;
    assert_eq!((came.result, came.text.as_str(), came.took), (Ok(Finish::Stop), "second", AT_ONCE));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_taken_back_soon_says_nothing_of_the_model() {
    let line = line(&[&[Hangs], &[Speaks(AT_ONCE)]], None);
    for _ in 0..10 {
        assert_eq!(line.ask_for(2 * SECOND).await.result, Err(FaultClass::Cancelled));
    }
    assert_eq!(line.asked(), [10, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_caller_cuts_off_forgives_earlier_failures() {
    let ill = fails(FaultClass::Overloaded);
    let line = line(&[&[ill.clone(), SpeaksOn, ill, Speaks(AT_ONCE)], &[Speaks(AT_ONCE)]], None);
    assert_eq!(line.ask().await.text, "second");
    let cut_off = line.ask_for(4 * SECOND).await;
    assert_eq!((cut_off.result, cut_off.text.as_str()), (Err(FaultClass::Cancelled), "first"));
    assert_eq!(line.ask().await.text, "second");
    assert_eq!(line.ask().await.text, "first");
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_future_is_dropped_counts_as_one_that_was_given_up() {
    let line = line(&[&[Hangs], &[Speaks(AT_ONCE)]], None);
    for _ in 0..2 {
        let (out, _events) = mpsc::channel(4);
        let asking = line.models.ask(question(), out, CancellationToken::new());
        assert!(tokio::time::timeout(4 * SECOND, asking).await.is_err());
    }
    assert_eq!(line.ask().await.text, "second");
}

#[tokio::test(start_paused = true)]
async fn the_next_model_is_asked_besides_a_slow_one_and_the_first_that_speaks_is_heard() {
    let hedge = Some(Duration::from_millis(1800));
    let slow = line(&[&[Speaks(4 * SECOND)], &[Speaks(SECOND)]], hedge);
    let came = slow.ask().await;
    assert_eq!((came.text.as_str(), came.took), ("second", Duration::from_millis(2800)));
    assert_eq!(came.marks, [Mark::RequestSent, Mark::FirstToken, Mark::FullResponse]);

    let late = line(&[&[Speaks(2 * SECOND)], &[Speaks(SECOND)]], hedge);
    let came = late.ask().await;
    assert_eq!((came.text.as_str(), came.took, late.asked()), ("first", 2 * SECOND, vec![1, 1]));

    let quick = line(&[&[Speaks(SECOND)], &[Speaks(AT_ONCE)]], hedge);
    assert_eq!((quick.ask().await.text.as_str(), quick.asked()), ("first", vec![1, 0]));

    let off = line(&[&[Speaks(4 * SECOND)], &[Speaks(AT_ONCE)]], None);
    assert_eq!((off.ask().await.text.as_str(), off.asked()), ("first", vec![1, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_overtaken_twice_is_left_alone() {
    let line = line(&[&[Hangs], &[Speaks(AT_ONCE)]], Some(SECOND));
    assert_eq!((line.ask().await.took, line.ask().await.took), (SECOND, SECOND));
    assert_eq!((line.ask().await.took, line.asked()), (AT_ONCE, vec![2, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_fails_while_another_is_asked_besides_leaves_it_the_word() {
    let first = line(&[&[Fails(2 * SECOND, FaultClass::Network)], &[Speaks(3 * SECOND)]], Some(SECOND));
    let came = first.ask().await;
    assert_eq!((came.text.as_str(), came.took, first.asked()), ("second", 4 * SECOND, vec![1, 1]));
    let second = line(&[&[Speaks(3 * SECOND)], &[fails(FaultClass::Network)]], Some(SECOND));
    let came = second.ask().await;
    assert_eq!((came.text.as_str(), came.took), ("first", 3 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn calls_are_passed_on_when_the_answer_is_whole_and_not_those_of_a_failed_one() {
    let line = line(&[&[CallsAndFails], &[Calls]], None);
    let came = line.ask().await;
    assert_eq!((came.result, came.calls, line.asked()), (Ok(Finish::Stop), 1, vec![1, 1]));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_takes_no_sound_does_not_keep_a_resting_one_from_being_asked() {
    let limited = fails(FaultClass::RateLimited { retry_after: None });
    let line = line(&[&[limited, Speaks(AT_ONCE)], &[fails(FaultClass::NoText)]], None);
    assert_eq!(
        (line.ask().await.result, line.asked()),
        (Err(FaultClass::RateLimited { retry_after: None }), vec![1, 1])
    );
    let came = line.ask().await;
    assert_eq!((came.result, came.text.as_str(), line.asked()), (Ok(Finish::Stop), "first", vec![2, 2]));
    let deaf = self::line(&[&[fails(FaultClass::NoText)], &[fails(FaultClass::NoText)]], None);
    assert_eq!((deaf.ask().await.result, deaf.asked()), (Err(FaultClass::NoText), vec![1, 1]));
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_spares_the_other_models_of_the_account() {
    let asked: Vec<Arc<AtomicUsize>> = (0..3).map(|_| Arc::default()).collect();
    let does = [fails(FaultClass::Auth), Speaks(AT_ONCE), Speaks(AT_ONCE)];
    let candidates =
        does.into_iter().zip(&asked).zip(["a", "a", "b"]).zip(NAMES).map(|(((does, asked), account), name)| {
            Candidate {
                name: name.into(),
                account: account.into(),
                model: Arc::new(Fake {
                    name,
                    does: vec![does],
                    asked: asked.clone(),
                    running: Arc::default(),
                    new_key: Arc::default(),
                }),
            }
        });
    let patience = Patience { hedge: None, silent: 3 * SECOND, whole: 20 * SECOND };
    let models = FirstOf::new(candidates.collect(), patience);
    for _ in 0..2 {
        let (out, mut events) = mpsc::channel(16);
        assert_eq!(models.ask(question(), out, CancellationToken::new()).await, Ok(Finish::Stop));
        while events.recv().await.is_some() {}
    }
    assert_eq!(asked.iter().map(|asked| asked.load(Ordering::Relaxed)).collect::<Vec<_>>(), [1, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn the_whole_answer_is_bounded_and_the_silence_is_held_against_the_model() {
    let line = line(&[&[Hangs]], None);
    let came = line.ask().await;
    assert_eq!((came.result, came.took), (Err(FaultClass::Timeout), 20 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn warming_up_succeeds_when_anybody_can_be_reached() {
    let one = line(&[&[fails(FaultClass::Network)], &[Speaks(AT_ONCE)]], None);
    assert_eq!(one.models.warm().await, Ok(()));
    let none = line(&[&[fails(FaultClass::Network)], &[fails(FaultClass::Auth)]], None);
    assert_eq!(none.models.warm().await.unwrap_err().class, FaultClass::Network);
}
