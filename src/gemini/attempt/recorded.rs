//! Streams as the interface sends them (tests/data/gemini and tests/data/interactions, written by hand), cut at every byte: the same events come out.

use super::*;
use crate::model::END_CALL;

/// A stream, and what it comes to: how it ends, what is said, what is called.
struct Recorded {
    name: &'static str,
    api: GeminiApi,
    body: &'static str,
    result: Result<Finish, FaultClass>,
    text: &'static str,
    calls: &'static [&'static str],
}

macro_rules! recorded {
    ($name:literal, $result:expr, $text:expr, $calls:expr) => {
        recorded!(GeminiApi::Generate, "gemini/", $name, $result, $text, $calls)
    };
    ($api:expr, $folder:literal, $name:literal, $result:expr, $text:expr, $calls:expr) => {
        Recorded {
            name: $name,
            api: $api,
            body: include_str!(concat!("../../../tests/data/", $folder, $name, ".sse")),
            result: $result,
            text: $text,
            calls: $calls,
        }
    };
}

const WHOLE: &str = "בטח, ההזמנה שלך יצאה אתמול. היא תגיע ביום שלישי.";
const BEGUN: &str = "בטח, ההזמנה שלך יצאה אתמול. היא תגיע";

fn all() -> Vec<Recorded> {
    let blocked = FaultClass::Blocked("PROHIBITED_CONTENT".into());
    vec![
        recorded!("S1", Ok(Finish::Stop), WHOLE, &[]),
        recorded!("S3", Ok(Finish::Stop), WHOLE, &[]),
        recorded!("S4", Ok(Finish::Stop), "", &["fc-1 {\"order\":\"4721\"} signed"]),
        recorded!("S4-two", Ok(Finish::Stop), "", &["fc-1 {\"order\":\"4721\"} signed", "fc-2 {\"order\":\"מס׳ 12\"}"]),
        recorded!("S4-text", Ok(Finish::Stop), "רק רגע, ", &["fc-1 {\"order\":\"4721\"} signed"]),
        recorded!("S5", Err(blocked), "", &[]),
        recorded!("S6", Ok(Finish::Safety), BEGUN, &[]),
        recorded!("S7", Ok(Finish::MaxTokens), "בטח, ההזמנה שלך יצאה אתמול. היא תגיע ביום", &[]),
        recorded!("S8", Err(FaultClass::Truncated), BEGUN, &[]),
        recorded!("S9", Err(FaultClass::Overloaded), "בטח, ", &[]),
        recorded!("S12", Ok(Finish::Stop), WHOLE, &[]),
        recorded!("S13", Ok(Finish::Stop), WHOLE, &[]),
        recorded!("S14", Ok(Finish::Stop), WHOLE, &[]),
    ]
}

macro_rules! interaction {
    ($name:literal, $result:expr, $text:expr, $calls:expr) => {
        recorded!(GeminiApi::Interactions, "interactions/", $name, $result, $text, $calls)
    };
}

fn interactions() -> Vec<Recorded> {
    vec![
        interaction!("normal", Ok(Finish::Stop), WHOLE, &[]),
        interaction!("thinks", Ok(Finish::Stop), WHOLE, &[]),
        interaction!("calls", Ok(Finish::Stop), "", &["fc-1 {\"order\":\"4721\"} signed"]),
        interaction!(
            "calls-two",
            Ok(Finish::Stop),
            "",
            &["fc-1 {\"order\":\"4721\"} signed", "fc-2 {\"order\":\"מס׳ 12\"}"]
        ),
        interaction!("says-and-calls", Ok(Finish::Stop), "רק רגע, ", &["fc-1 {\"order\":\"4721\"} signed"]),
        interaction!("incomplete", Ok(Finish::MaxTokens), "בטח, ההזמנה שלך יצאה אתמול. היא תגיע ביום", &[]),
        interaction!("ends-early", Err(FaultClass::Truncated), BEGUN, &[]),
        interaction!("error", Err(FaultClass::Timeout), "בטח, ", &[]),
        interaction!("failed", Err(FaultClass::Overloaded), "", &[]),
    ]
}

/// What comes of a body that arrives in these parts.
async fn read(api: GeminiApi, parts: &[&[u8]]) -> (Result<Finish, FaultClass>, String, Vec<String>, Option<Usage>) {
    let (model, key) = ("gemini-3.5-flash-lite".into(), Secret::new("k"));
    let order_status = Function { name: "order_status".into(), ..END_CALL };
    let functions = [order_status];
    let asked = Asked { api, functions: &functions, ..Asked::to(&model, &key) };
    let (out, mut events) = mpsc::channel(100);
    let mut answer = Answer { out, stage: Stage::Waiting };
    let mut reading = Reading::new(asked.api);
    let mut taken = Ok(());
    for part in parts {
        if taken.is_ok() {
            taken = reading.take(&asked, &mut answer, part).await;
        }
    }
    let result = match taken {
        Ok(()) => reading.end(&asked, &mut answer).await,
        Err(fault) => Err(fault),
    };
    let (mut text, mut calls, mut usage) = (String::new(), Vec::new(), None);
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Delta(Delta::Text(more)) => text += &more,
            Event::Delta(Delta::Call(call)) => {
                let signed = if call.raw.get("thoughtSignature").or(call.raw.pointer("/0/signature")).is_some() {
                    " signed"
                } else {
                    ""
                };
                calls.push(format!("{} {}{signed}", call.id, call.args));
            }
            Event::Delta(Delta::Usage(cost)) => usage = Some(cost),
            _ => {}
        }
    }
    (result.map_err(|fault| fault.class), text, calls, usage)
}

#[tokio::test]
async fn a_stream_comes_to_the_same_wherever_it_is_cut() {
    for Recorded { name, api, body, result, text, calls } in all().into_iter().chain(interactions()) {
        let bytes = body.as_bytes();
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let read = read(api, &[first, second]).await;
            assert_eq!((&read.0, read.1.as_str()), (&result, text), "{name} cut at {cut}");
            assert_eq!(read.2, calls, "{name} cut at {cut}");
            let cost = read.3.map(|usage| (usage.prompt, usage.audio, usage.answer, usage.thoughts));
            assert_eq!(cost, result.is_ok().then_some((612, 160, 31, 12)), "{name} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(api, &single).await.1, text, "{name} byte by byte");
    }
}

#[tokio::test]
async fn a_stream_that_ends_anywhere_has_said_the_beginning_of_it_and_does_not_count_as_whole() {
    for (normal, last) in [(&all()[0], "finishReason"), (&interactions()[0], "\"completed\"")] {
        let finish = normal.body.find(last).unwrap();
        let first = normal.body.find("}\r\n").or(normal.body.find("}\n")).unwrap() + 1;
        for end in (0..normal.body.len()).filter(|end| normal.body.is_char_boundary(*end)) {
            let (result, text, ..) = read(normal.api, &[&normal.body.as_bytes()[..end]]).await;
            assert!(WHOLE.starts_with(&text), "ends at {end}: {text}");
            match result {
                Ok(finished) => assert!(end > finish && finished == Finish::Stop, "ends at {end}"),
                // What is less than one event might be anything.
                Err(FaultClass::Protocol) => assert!(end > 0 && end < first, "ends at {end}"),
                Err(class) => assert_eq!(class, FaultClass::Truncated, "ends at {end}"),
            }
        }
    }
}
