//! Rounds of functions, with a model that is a script and functions that need no socket.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde_json::json;

use super::*;
use crate::config::{self, Config, Voicemail};
use crate::http::Http;
use crate::limits::Day;
use crate::model::{Fut, Stage, Usage};
use crate::tools::{Control, Doings};
use crate::voicemail::{Note, Store};

/// What the model says, one list a request.
type Script = VecDeque<(Vec<Delta>, Result<Finish, Fault>)>;

#[derive(Default)]
struct Scripted {
    script: Mutex<Script>,
    /// What it was asked, as the roles and results of each request.
    asked: Mutex<Vec<Vec<Content>>>,
    offered: Mutex<Vec<usize>>,
}

impl LanguageModel for Scripted {
    fn ask(&self, ask: Ask, out: mpsc::Sender<Event>, _: CancellationToken) -> Fut<'static, Result<Finish, Fault>> {
        self.offered.lock().unwrap().push(ask.functions.len());
        self.asked.lock().unwrap().push(ask.contents);
        let (deltas, result) =
            self.script.lock().unwrap().pop_front().expect("asked more often than the script has it");
        Box::pin(async move {
            for delta in deltas {
                let _ = out.send(Event::Delta(delta)).await;
            }
            result
        })
    }

    fn warm(&self) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }
}

fn text(text: &str) -> Delta {
    Delta::Text(text.into())
}

fn call(id: &str, name: &str, args: Value) -> Delta {
    Delta::Call(FunctionCall { id: id.into(), name: name.into(), args, raw: Value::Null })
}

fn fault(class: FaultClass) -> Fault {
    Fault { class, stage: Stage::Waiting, model: "m".into(), http: None, note: "x".into() }
}

struct House {
    model: Arc<Scripted>,
    committed: watch::Sender<bool>,
    doings: Arc<Doings>,
    store: Arc<Store>,
    searches: Arc<AtomicU32>,
    toolbox: Arc<Toolbox>,
    work: Vec<String>,
    turn: u32,
    allowance: Allowance,
    _folder: tempfile::TempDir,
}

impl House {
    fn new(script: impl IntoIterator<Item = (Vec<Delta>, Result<Finish, Fault>)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let voicemail = Voicemail { enabled: true, folder: folder.path().join("messages"), ..Voicemail::default() };
        let store = Arc::new(Store::open(&voicemail).unwrap());
        let searches = Arc::new(AtomicU32::new(0));
        let counted = searches.clone();
        let search = move |query: &str| {
            counted.fetch_add(1, Relaxed);
            if query == "panic" { panic!("as ordered") } else { vec![format!("all about {query}")] }
        };
        let mut config = Config { voicemail, ..Config::default() };
        config.functions.transfer_targets.insert("sales".into(), "sip:621@192.0.2.1".into());
        let http = Http::new(Duration::from_millis(800)).unwrap();
        let toolbox = Toolbox::new(&config, &http, Some(store.clone()), Some(Arc::new(search))).unwrap();
        let model = Scripted { script: Mutex::new(script.into_iter().collect()), ..Scripted::default() };
        Self {
            model: Arc::new(model),
            committed: watch::Sender::new(false),
            doings: Doings::new(5),
            store,
            searches,
            toolbox: Arc::new(toolbox),
            work: Vec::new(),
            turn: 1,
            allowance: Allowance::new(&config::Limits::default(), Day::open(None).unwrap()),
            _folder: folder,
        }
    }

    fn fetch(&self, work: mpsc::Sender<Work>, stop: CancellationToken) -> Fetch {
        Fetch {
            model: self.model.clone(),
            ask: Ask { system: "".into(), contents: Vec::new(), functions: self.toolbox.functions() },
            stop,
            allowance: self.allowance.clone(),
            attempt: Attempt::Due,
            errands: Errands {
                generation: 1,
                work,
                committed: self.committed.subscribe(),
                toolbox: self.toolbox.clone(),
                occasion: Occasion {
                    from: Note { caller: "+972501234567".into(), call: "c".into() },
                    turn: self.turn,
                    doings: self.doings.clone(),
                    press: Arc::new(|_| false),
                },
                said: HashSet::new(),
            },
            guard: Guard::new("one two three four five six seven eight", 6),
        }
    }

    /// Fetches the answer to its end; what was reported of it.
    async fn answer(&mut self) -> String {
        let (work_in, mut work_out) = mpsc::channel(64);
        fetch(self.fetch(work_in, CancellationToken::new())).await;
        while let Ok(work) = work_out.try_recv() {
            self.work.extend(brief(work));
        }
        std::mem::take(&mut self.work).join(", ")
    }

    /// The results that the model was told in its request of that number.
    fn told(&self, request: usize) -> Vec<Value> {
        let asked = self.model.asked.lock().unwrap();
        let results = asked[request].iter().filter_map(|content| match content {
            Content::Results(results) => Some(results.iter().map(|result| result.response.clone())),
            _ => None,
        });
        results.flatten().collect()
    }
}

fn brief(work: Work) -> Option<String> {
    Some(match work {
        Work::Clause { piece, .. } => format!("\"{}\"", piece.text),
        Work::Aside { piece, .. } => format!("aside \"{}\"", piece.text),
        Work::ToolsRun { .. } => "run".into(),
        Work::ToolsDone { .. } => "done".into(),
        Work::Controlled { control, .. } => format!("{control:?}"),
        Work::AnswerEnded { outcome, .. } => format!("{outcome:?}"),
        _ => return None,
    })
}

#[tokio::test(start_paused = true)]
async fn the_model_hears_what_came_of_its_functions_and_what_it_said_before_is_spoken_at_once() {
    let calls = vec![
        text("Let me look, "),
        call("a", "look_up", json!({"query": "prices"})),
        call("b", "look_up", json!({"query": "hours"})),
        call("c", "rob_bank", json!({})),
        call("d", "look_up", json!({"question": "x"})),
    ];
    let mut house = House::new([(calls, Ok(Finish::Stop)), (vec![text("It is ten.")], Ok(Finish::Stop))]);
    assert_eq!(house.answer().await, "\"Let me look,\", run, done, \"It is ten.\", Complete");
    let told = house.told(1);
    assert!(told[0].to_string().contains("all about prices") && told[0].to_string().contains("never instructions"));
    assert!(told[1].to_string().contains("all about hours"));
    assert_eq!(told[2], json!({"error": "there is no such function"}));
    assert!(told[3].to_string().contains("query is missing"));
    let asked = house.model.asked.lock().unwrap();
    let [Content::Calls { text, calls }, Content::Results(results)] = &asked[1][..] else { panic!() };
    assert_eq!(text, "Let me look,");
    assert!(calls.iter().map(|call| &call.id).eq(results.iter().map(|result| &result.id)));
}

#[tokio::test(start_paused = true)]
async fn the_third_round_is_the_last_in_which_anything_can_be_called() {
    let again = || (vec![call("", "look_up", json!({"query": "more"}))], Ok(Finish::Stop));
    let mut house = House::new([again(), again(), again(), (vec![text("Enough.")], Ok(Finish::Stop))]);
    let told = house.answer().await;
    assert!(told.ends_with("done, \"Enough.\", Complete") && told.matches("run").count() == 3, "{told}");
    let offered = house.model.offered.lock().unwrap().clone();
    assert!(offered[..3].iter().all(|functions| *functions > 0) && offered[3] == 0, "{offered:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_called_twice_at_once_goes_back_once_with_its_signature() {
    let called = |id: &str, raw: Value| {
        let args = json!({"query": "hours"});
        Delta::Call(FunctionCall { id: id.into(), name: "look_up".into(), args, raw })
    };
    let twice = vec![called("a", json!({"thoughtSignature": "EjQK"})), called("b", json!({}))];
    let mut house = House::new([(twice, Ok(Finish::Stop)), (vec![text("Ten.")], Ok(Finish::Stop))]);
    house.answer().await;
    let asked = house.model.asked.lock().unwrap();
    let [Content::Calls { calls, .. }, Content::Results(results)] = &asked[1][..] else { panic!() };
    assert_eq!((calls.len(), calls[0].id.as_str(), results[0].id.as_str()), (1, "a", "a"));
}

#[tokio::test(start_paused = true)]
async fn what_has_side_effects_waits_for_the_commit_and_is_dropped_with_the_answer() {
    let wish = || (vec![call("a", "call_back", json!({"when": "tomorrow"}))], Ok(Finish::Stop));
    let mut house = House::new([wish(), wish(), (vec![text("Noted.")], Ok(Finish::Stop))]);
    let (work_in, mut work_out) = mpsc::channel(64);
    let stop = CancellationToken::new();
    let early = tokio::spawn(fetch(house.fetch(work_in, stop.clone())));
    while brief(work_out.recv().await.unwrap()).as_deref() != Some("run") {}
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(house.store.list().unwrap().is_empty());
    stop.cancel();
    early.await.unwrap();
    assert!(house.store.list().unwrap().is_empty());
    house.committed.send_replace(true);
    assert_eq!(house.answer().await, "run, done, \"Noted.\", Complete");
    let notes = house.store.list().unwrap();
    assert!(notes.len() == 1 && notes[0].caller == "+972501234567", "{}", notes.len());
}

#[tokio::test(start_paused = true)]
async fn the_same_wish_is_noted_once_however_often_it_is_called() {
    let wish = |id: &str| call(id, "call_back", json!({"when": "tomorrow"}));
    let mut house = House::new([
        (vec![wish("a"), wish("a")], Ok(Finish::Stop)),
        (vec![wish("a")], Ok(Finish::Stop)),
        (vec![wish("b")], Ok(Finish::Stop)),
        (vec![text("Noted.")], Ok(Finish::Stop)),
    ]);
    house.committed.send_replace(true);
    assert!(house.answer().await.ends_with("\"Noted.\", Complete"));
    assert_eq!(house.store.list().unwrap().len(), 1);
    assert_eq!(house.told(3).len(), 3);
    assert!(house.told(3)[2]["note"].as_str().unwrap().contains("not again"));
}

#[tokio::test(start_paused = true)]
async fn a_person_is_reached_by_name_only_and_a_number_is_refused() {
    let to = |to: &str| (vec![text("Gladly."), call("a", "transfer", json!({"to": to}))], Ok(Finish::Stop));
    let mut house = House::new([to("sales"), to("+15550100"), (vec![text("Sorry.")], Ok(Finish::Stop))]);
    let sales = format!("{:?}", Control::Transfer("sip:621@192.0.2.1".into()));
    assert_eq!(house.answer().await, format!("{sales}, \"Gladly.\", Complete"));
    assert_eq!(house.answer().await, "\"Gladly.\", run, done, \"Sorry.\", Complete");
    assert!(house.told(2)[0].to_string().contains("must be one of"), "{}", house.told(2)[0]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_reads_the_instruction_aloud_is_cut_off() {
    let reveals = "Of course. My orders are one, two, three, four, five, six. Anything else?";
    let mut house = House::new([
        (vec![text(reveals)], Ok(Finish::Stop)),
        (vec![text("One two three four five six seven.")], Ok(Finish::Stop)),
    ]);
    let told = house.answer().await;
    assert!(told.contains("Of course.") && !told.contains("six") && told.ends_with("Truncated"), "{told}");
    assert_eq!(house.answer().await, "Refused");
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_failure_has_its_outcome() {
    use FaultClass::*;
    for (class, outcome) in [
        (Auth, "Hopeless"),
        (Gone, "Hopeless"),
        (Config, "Failed"),
        (RateLimited { retry_after: None }, "Failed"),
        (Overloaded, "Failed"),
        (Timeout, "Failed"),
        (Truncated, "Failed"),
        (Empty, "Failed"),
        (Blocked("SAFETY".into()), "Refused"),
        (Protocol, "Failed"),
        (Network, "Failed"),
    ] {
        let mut house = House::new([(vec![], Err(fault(class.clone())))]);
        assert_eq!(house.answer().await, outcome, "{class:?}");
        let mut house = House::new([(vec![text("Well then. It")], Err(fault(class.clone())))]);
        assert_eq!(house.answer().await, "\"Well then.\", Truncated", "{class:?}");
    }
    let mut house = House::new([(vec![], Ok(Finish::Safety)), (vec![], Ok(Finish::Stop))]);
    assert_eq!([house.answer().await, house.answer().await], ["Refused", "Failed"]);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_breaks_is_an_error_for_the_model_and_no_silence() {
    let mut house = House::new([
        (vec![call("a", "look_up", json!({"query": "panic"}))], Ok(Finish::Stop)),
        (vec![text("I could not find it.")], Ok(Finish::Stop)),
    ]);
    assert_eq!(house.answer().await, "run, done, \"I could not find it.\", Complete");
    assert_eq!(house.told(1), [json!({"error": "it failed"})]);
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_request_that_failed_are_not_made_twice_nor_with_effects() {
    let wish = || call("a", "call_back", json!({"when": "tomorrow"}));
    let mut house = House::new([(vec![wish()], Err(fault(FaultClass::Overloaded)))]);
    house.committed.send_replace(true);
    assert_eq!(house.answer().await, "Failed");
    assert!(house.store.list().unwrap().is_empty());
    let query = |id: &str| call(id, "look_up", json!({"query": "hours"}));
    let mut house =
        House::new([(vec![query("a"), query("b")], Ok(Finish::Stop)), (vec![text("Ten.")], Ok(Finish::Stop))]);
    house.answer().await;
    assert_eq!(house.searches.load(Relaxed), 1);
}

/// A model that never has enough, and what each of its requests costs.
fn insatiable(requests: usize, micros: u64) -> Vec<(Vec<Delta>, Result<Finish, Fault>)> {
    let used = Delta::Usage(Usage { prompt: 1000, micros, ..Usage::default() });
    let again = (vec![used, call("", "look_up", json!({"query": "more"}))], Ok(Finish::Stop));
    vec![again; requests]
}

#[tokio::test(start_paused = true)]
async fn no_round_of_functions_goes_beyond_the_budget_of_the_call() {
    for limits in [
        config::Limits { requests_per_call: 2, ..Default::default() },
        config::Limits { tokens_per_call: 1001, ..Default::default() },
        config::Limits { money_per_call: 0.005, ..Default::default() },
        config::Limits { money_per_day: 0.005, ..Default::default() },
    ] {
        let mut house = House::new(insatiable(2, 2500));
        house.allowance = Allowance::new(&limits, Day::open(None).unwrap());
        assert_eq!(house.answer().await, "run, done, run, done, Unaffordable", "{limits:?}");
        assert_eq!(house.answer().await, "Unaffordable", "{limits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_whose_money_is_spent_answers_nobody_until_midnight_and_then_everybody() {
    let began = tokio::time::Instant::now();
    let clock = move || std::time::UNIX_EPOCH + Duration::from_secs(86_400 * 20_000) + began.elapsed();
    let limits = config::Limits { money_per_day: 1.0, ..Default::default() };
    let day = Day::open(None).unwrap();
    let mut answered = Vec::new();
    // A call an hour, of two requests each, for two days.
    for _ in 0..48 {
        let used = Delta::Usage(Usage { micros: 50_000, ..Usage::default() });
        let answer = (vec![used, text("Ten.")], Ok(Finish::Stop));
        let mut house = House::new([answer.clone(), answer]);
        house.allowance = Allowance::with_clock(&limits, day.clone(), clock);
        answered.push([house.answer().await, house.answer().await].map(|told| told.ends_with("Complete")));
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    let a_day = [[[true; 2]; 10].as_slice(), &[[false; 2]; 14]].concat();
    assert_eq!(answered, [a_day.clone(), a_day].concat());
}

#[tokio::test]
async fn an_early_request_is_made_again_once_and_every_further_one_is_paid_for() {
    use Further::{Again, Another};
    let house = House::new([]);
    let fetch = |attempt| Fetch { attempt, ..house.fetch(mpsc::channel(1).0, CancellationToken::new()) };
    let may = |attempt, round| [Again, Another].map(|further| fetch(attempt).permit(round)(further));
    assert_eq!(may(Attempt::Due, 0), [true, true]);
    assert_eq!(may(Attempt::Early, 0), [false, true]);
    assert_eq!(may(Attempt::Repeated, 0), [false, false]);
    assert_eq!(may(Attempt::Repeated, 1), [true, true], "what follows upon functions is another request");
    let early = fetch(Attempt::Early).permit(0);
    house.committed.send_replace(true);
    assert!(early(Again), "nobody makes it again later");
    let poor = config::Limits { requests_per_call: 1, ..Default::default() };
    let allowance = Allowance::new(&poor, Day::open(None).unwrap());
    let permit = Fetch { allowance: allowance.clone(), ..fetch(Attempt::Due) }.permit(0);
    assert_eq!([permit(Another), permit(Another), allowance.request().is_ok()], [true, false, false]);
}
