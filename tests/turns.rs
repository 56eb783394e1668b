//! Turn-taking on the wire: what is undone, what is asked early, and how calls end. Simulator, service and test phone in one process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use offhook::config::Config;
use offhook::hearing::{EndOfTurn, Hint, Spoken};
use offhook::phone::mouth::Utterance;
use offhook::simulator;
use offhook::timeline::TurnOutcome;

#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;
use house::Sound::{Answer, Apology, Goodbye, Greeting, Placeholder, Prompt, Second};
use house::{Call, House, samples, say, soon};

const QUESTION: &str = "Are you open on Friday afternoon?";
const ANOTHER: &str = "How do I find you in the city?";
/// Frames of a phrase of the answer, and how many phrases the simulator's first answer has.
const PHRASE: usize = 30;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A voice of about 200 ms, as a cough or an "mm" is.
fn cough() -> Utterance {
    let mut sound = samples(&say("Huh"));
    sound.truncate(16 * 200);
    Utterance::from_sound(&sound, "a cough").unwrap()
}

/// How long the answer was heard, in frames.
fn answered(call: &Call) -> usize {
    call.heard.iter().filter(|stretch| stretch.sound == Answer).map(|stretch| stretch.frames).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cough_over_the_answer_takes_nothing_of_it_and_is_no_turn() {
    let house = House::open(|_, cloud| cloud.first_token = ms(900)).await;
    let whole = house.call(house.options(vec![say(QUESTION)])).await.unwrap();
    let mut options = house.options(vec![say(QUESTION), cough()]);
    options.script.barge_in = Some((1, ms(500)));
    let call = house.call(options).await.unwrap();
    assert_eq!(call.sounds(), [Placeholder, Answer], "{:?}", call.heard);
    // The frames at the edges of the pause are not whole, and on a busy machine the phone misses some; which samples are heard is tested in
    // virtual time. The cough and its silence last for 16 frames and more.
    assert!(answered(&call) + 8 >= answered(&whole), "{:?} of {:?}", call.heard, whole.heard);
    assert_eq!(house.simulator.counts().requests, 2);
    let turns = house.close().await;
    let outcomes: Vec<_> = turns.iter().map(|turn| (turn.turn, turn.outcome)).collect();
    assert_eq!(outcomes, [(1, TurnOutcome::Answered); 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cough_into_the_greeting_does_not_stop_it_and_a_sentence_does() {
    let house = House::open(|config, cloud| {
        config.conversation.greeting = true;
        cloud.first_token = ms(900);
    })
    .await;
    let mut heard = Vec::new();
    for words in [cough(), say(ANOTHER)] {
        let mut options = house.options(vec![words]);
        options.script.barge_in = Some((0, ms(300)));
        options.script.answer_wait = ms(2500);
        heard.push(house.call(options).await.unwrap());
    }
    let [coughed, spoke] = &heard[..] else { unreachable!() };
    assert_eq!(coughed.sounds(), [Greeting], "{:?}", coughed.heard);
    assert!(coughed.heard[0].frames >= 46, "{:?}", coughed.heard);
    assert_eq!(spoke.sounds(), [Greeting, Placeholder, Answer], "{:?}", spoke.heard);
    assert!(spoke.heard[0].frames < 30, "{:?}", spoke.heard);
    house.close().await;
}

/// Finds that callers always have more to say, when they have said anything.
struct Doubtful;

impl EndOfTurn for Doubtful {
    fn judge(&self, spoken: Spoken<'_>) -> Hint {
        if spoken.samples.len() > 8 * 500 { Hint::Open } else { Hint::Unknown }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_judges_ends_of_turns_moves_the_commit() {
    let mut committed = Vec::new();
    for model in [None, Some(Arc::new(Doubtful) as Arc<dyn EndOfTurn>)] {
        let house = House::open_with(model, |_, _| {}).await;
        house.call(house.options(vec![say(QUESTION)])).await.unwrap();
        committed.push(house.close().await[0].committed_ms.unwrap());
    }
    assert!((700.0..900.0).contains(&committed[0]) && committed[1] >= committed[0] + 400.0, "{committed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_request_leaves_before_the_end_is_certain_and_is_the_only_one() {
    let house = House::open(|_, cloud| cloud.first_token = ms(900)).await;
    let call = house.call(house.options(vec![say(QUESTION)])).await.unwrap();
    assert_eq!(call.sounds(), [Placeholder, Answer]);
    let requests = house.simulator.counts().requests;
    let turns = house.close().await;
    let [turn] = &turns[..] else { panic!("{turns:?}") };
    assert!(turn.speculative && turn.gemini_start_ms < turn.end_of_utterance_ms, "{turn:?}");
    assert_eq!((turn.requests, turn.requests - turn.requests_wasted), (requests, 1), "{turn:?}");
    assert!(turn.answer_start_ms >= turn.committed_ms, "{turn:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_speculation_the_request_waits_for_the_soft_end() {
    let house = House::open(|config, _| config.conversation.speculation = false).await;
    house.call(house.options(vec![say(QUESTION)])).await.unwrap();
    let turns = house.close().await;
    let [turn] = &turns[..] else { panic!("{turns:?}") };
    assert!(!turn.speculative && turn.gemini_start_ms >= turn.end_of_utterance_ms, "{turn:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_goes_on_over_the_placeholder_is_in_one_turn_and_the_model_is_told_what_was_heard() {
    let house = House::open(|_, cloud| cloud.first_token = ms(1500)).await;
    let words =
        [samples(&say("I would like to order a taxi")), vec![0; 16 * 900], samples(&say("for tomorrow morning"))];
    let sentence = Utterance::from_sound(&words.concat(), "a sentence with a long pause").unwrap();
    let call = house.call(house.options(vec![sentence])).await.unwrap();
    assert_eq!(call.sounds(), [Placeholder, Answer], "{:?}", call.heard);
    let seen = house.simulator.seen();
    let last = seen.last().unwrap();
    assert_eq!((last.caller_turns, last.audio.len()), (1, 1));
    let said: Duration = ms(words.iter().map(|part| part.len() as u64 / 16).sum());
    assert!(last.audio[0].duration + ms(100) > said, "{:?} of {said:?}", last.audio[0].duration);
    assert!(last.json.contains("a tone for the placeholder"), "{}", last.json);
    assert!(!seen[0].json.contains("a tone for the placeholder"), "{}", seen[0].json);
    let outcomes: Vec<_> = house.close().await.iter().map(|turn| turn.outcome).collect();
    assert_eq!(outcomes, [TurnOutcome::Answered]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_caller_is_asked_for_a_word_and_then_the_call_ends() {
    let house = House::open(|config, _| config.conversation.silence_prompt = ms(600)).await;
    let mut options = house.options(vec![]);
    options.script.greeting_quiet = Duration::from_secs(20);
    options.script.greeting_wait = Duration::from_secs(20);
    let call = house.call(options).await.unwrap();
    assert_eq!((call.sounds(), call.report.ended_by), (vec![Prompt, Goodbye], "callee"), "{:?}", call.heard);
    assert!(house.close().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_ends_the_call_after_its_last_word_or_the_goodbye_clip() {
    for (order, last) in [("end-call", Answer), ("end-call-only", Goodbye)] {
        let house = House::open(|_, cloud| {
            cloud.first_token = ms(900);
            cloud.faults = vec![order.parse().unwrap()];
        })
        .await;
        let mut options = house.options(vec![say("Thank you, goodbye.")]);
        options.script.answer_quiet = Duration::from_secs(20);
        options.script.answer_wait = Duration::from_secs(20);
        let call = house.call(options).await.unwrap();
        assert_eq!((call.sounds(), call.report.ended_by), (vec![Placeholder, last], "callee"), "{order}");
        let outcomes: Vec<_> = house.close().await.iter().map(|turn| turn.outcome).collect();
        assert_eq!(outcomes, [TurnOutcome::Answered], "{order}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_may_not_end_the_call_does_not() {
    let house = House::open(|config, cloud| {
        config.conversation.end_call = false;
        cloud.first_token = ms(900);
        cloud.faults = vec!["end-call".parse().unwrap()];
    })
    .await;
    let call = house.call(house.options(vec![say(QUESTION), say(ANOTHER)])).await.unwrap();
    assert_eq!((call.sounds(), call.report.ended_by), (vec![Placeholder, Answer, Placeholder, Second], "caller"));
    assert!(!house.simulator.seen()[0].json.contains("end_call"));
    house.close().await;
}

/// A caller who hangs up so long after the question; what was heard, and how the turn ended.
async fn hung_up(
    after: Duration,
    change: impl FnOnce(&mut Config, &mut simulator::Options),
) -> (Call, Vec<TurnOutcome>, simulator::Counts, Duration) {
    let house = House::open(change).await;
    let mut options = house.options(vec![say(QUESTION)]);
    (options.script.answer_wait, options.script.longest_sound) = (after, after);
    let call = house.call(options).await.unwrap();
    let ended = Instant::now();
    house.is_empty().await;
    assert!(ended.elapsed() < Duration::from_secs(1), "free only after {:?}", ended.elapsed());
    let counts = soon("the end of every request", house.simulator.reached(|counts| counts.in_flight == 0)).await;
    let cancelled = counts.cancelled_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(ended));
    (call, house.close().await.iter().map(|turn| turn.outcome).collect(), counts, cancelled)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_up_in_any_phase_of_a_turn_cancels_the_request_within_100_ms_and_frees_everything_within_a_second() {
    let hang = |_: &mut Config, cloud: &mut simulator::Options| cloud.faults = vec!["hang".parse().unwrap()];
    let slow = |_: &mut Config, cloud: &mut simulator::Options| cloud.tokens_per_second = 10.0;
    let fail = |_: &mut Config, cloud: &mut simulator::Options| cloud.faults = vec!["503".parse().unwrap()];
    // Asked early, in the placeholder, in thought.
    for (after, sounds) in [(240, vec![]), (560, vec![Placeholder]), (1200, vec![Placeholder])] {
        let (call, outcomes, counts, cancelled) = hung_up(ms(after), hang).await;
        assert_eq!((call.sounds(), outcomes), (sounds, vec![TurnOutcome::HungUp]), "after {after} ms");
        assert_eq!((counts.requests, counts.cancelled), (1, 1), "after {after} ms");
        assert!(cancelled < ms(100), "after {after} ms: only {cancelled:?} later");
    }
    // In the answer, of which the model still has some to write.
    let (call, outcomes, counts, cancelled) = hung_up(ms(1700), slow).await;
    assert_eq!((call.sounds(), outcomes), (vec![Placeholder, Answer], vec![TurnOutcome::HungUp]));
    assert_eq!((counts.requests, counts.cancelled), (1, 1));
    assert!(answered(&call) < 2 * PHRASE && cancelled < ms(100), "{:?}, {cancelled:?}", call.heard);
    // In the apology: nothing is asked any more.
    let (call, outcomes, counts, _) = hung_up(ms(950), fail).await;
    assert_eq!((call.sounds(), outcomes), (vec![Placeholder, Apology], vec![TurnOutcome::HungUp]), "{:?}", call.heard);
    // Early, and once more at the soft end.
    assert_eq!((counts.requests, counts.cancelled), (2, 0));
}
