//! What the simulator can be told to do wrong, and the names for it on the command line.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `S1`: as it should be.
    None,
    /// `S2`: one write to the socket for every seven bytes.
    SevenByteWrites,
    /// `S3`: a thought before the text.
    ThoughtFirst,
    /// `S4`: a function call with its signature instead of text; the request that brings the function's result is answered.
    FunctionCall,
    /// `S4-two`: two function calls, of which only the first is signed.
    TwoCalls,
    /// `S4-text`: half of the text, then a function call.
    TextThenCall,
    /// `S4-no-id`: a function call without an id.
    CallWithoutId,
    /// `S4-again`: a function call, and for every result another.
    CallsWithoutEnd,
    /// `S5`: the prompt is refused.
    PromptBlocked,
    /// `S6`: half of the text, then the rest is withheld.
    SafetyAfterText,
    /// `S7`: the longest answer is reached within a sentence.
    MaxTokens,
    /// `S8`: the body ends after two events without saying that it is finished.
    EndsEarly,
    /// `S8b`: the connection is reset after two events.
    ResetInStream,
    /// `S9`: one event, then a bare error object.
    ErrorInStream,
    /// `S10`, `S10=MS`: the head at once, the first token after its delay or after so long.
    HeadFirst(Option<Duration>),
    /// `S11`, `S11=MS`: nothing for so long (5 s) in the middle of the text.
    Stall(Duration),
    /// `S12`: lines end in LF only.
    LineFeeds,
    /// `S13`: `data:` without a space.
    NoSpace,
    /// `S14`: the finish comes without content.
    BareFinish,
    /// `end-call`: the text as it should be, and with it the call of `end_call`, if that was offered.
    EndCall,
    /// `end-call-only`: the call of `end_call` without any text, if that was offered.
    EndCallOnly,
    /// `empty`: finished without text, after a thought.
    Empty,
    /// `hang`: the request is taken and never answered.
    Hang,
    /// `reset`: the connection is reset without any answer.
    Reset,
    /// `200-error`: a success whose body is only an error object.
    ErrorFirst,
    /// `200-html`: a success whose body is a web page.
    Page,
    /// `400-key`: the key is not valid.
    InvalidKey,
    /// `400-country`: the free tier does not exist where the caller is.
    Country,
    /// `403`: the key may not do this.
    Forbidden,
    /// `404`: there is no such model.
    NotFound,
    /// `429`: too many requests, with the time after which to ask again (31 s).
    RateLimited,
    /// `429-bare`: too many requests, without any detail.
    RateLimitedBare,
    /// `500`: internal error, wrapped in a list.
    Internal,
    /// `503`: overloaded.
    Overloaded,
    /// `503-empty`: overloaded, without a body.
    OverloadedEmpty,
    /// `503-html`: overloaded, with a web page.
    OverloadedPage,
    /// `504`: deadline exceeded.
    Deadline,
}

/// The names, in the order in which a help text lists them. `S10` and `S11` also take `=MS`.
pub const NAMES: [(&str, Fault); 37] = [
    ("S1", Fault::None),
    ("S2", Fault::SevenByteWrites),
    ("S3", Fault::ThoughtFirst),
    ("S4", Fault::FunctionCall),
    ("S4-two", Fault::TwoCalls),
    ("S4-text", Fault::TextThenCall),
    ("S4-no-id", Fault::CallWithoutId),
    ("S4-again", Fault::CallsWithoutEnd),
    ("S5", Fault::PromptBlocked),
    ("S6", Fault::SafetyAfterText),
    ("S7", Fault::MaxTokens),
    ("S8", Fault::EndsEarly),
    ("S8b", Fault::ResetInStream),
    ("S9", Fault::ErrorInStream),
    ("S10", Fault::HeadFirst(None)),
    ("S11", Fault::Stall(Duration::from_secs(5))),
    ("S12", Fault::LineFeeds),
    ("S13", Fault::NoSpace),
    ("S14", Fault::BareFinish),
    ("end-call", Fault::EndCall),
    ("end-call-only", Fault::EndCallOnly),
    ("empty", Fault::Empty),
    ("hang", Fault::Hang),
    ("reset", Fault::Reset),
    ("200-error", Fault::ErrorFirst),
    ("200-html", Fault::Page),
    ("400-key", Fault::InvalidKey),
    ("400-country", Fault::Country),
    ("403", Fault::Forbidden),
    ("404", Fault::NotFound),
    ("429", Fault::RateLimited),
    ("429-bare", Fault::RateLimitedBare),
    ("500", Fault::Internal),
    ("503", Fault::Overloaded),
    ("503-empty", Fault::OverloadedEmpty),
    ("503-html", Fault::OverloadedPage),
    ("504", Fault::Deadline),
];

/// Not the name of a fault.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{text:?} is no fault; write [REQUEST:]NAME[=MS] with NAME one of {names}", names = NAMES.map(|(name, _)| name).join(", "))]
pub struct UnknownFault {
    text: String,
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let unknown = || UnknownFault { text: text.to_owned() };
        let (name, delay) = match text.split_once('=') {
            Some((name, ms)) => (name, Some(Duration::from_millis(ms.parse().map_err(|_| unknown())?))),
            None => (text, None),
        };
        let fault = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, fault)| *fault);
        match (fault, delay) {
            (Some(fault), None) => Ok(fault),
            (Some(Fault::HeadFirst(_)), delay) => Ok(Fault::HeadFirst(delay)),
            (Some(Fault::Stall(_)), Some(delay)) => Ok(Fault::Stall(delay)),
            _ => Err(unknown()),
        }
    }
}

/// A fault, and the number of the request (from 1) that gets it; without a number every request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The request.
    pub request: Option<u32>,
    /// How it is answered.
    pub fault: Fault,
}

impl FromStr for Order {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        match text.split_once(':') {
            Some((number, fault)) => match number.parse() {
                Ok(number) if number > 0 => Ok(Self { request: Some(number), fault: fault.parse()? }),
                _ => Err(UnknownFault { text: text.to_owned() }),
            },
            None => Ok(Self { request: None, fault: text.parse()? }),
        }
    }
}

/// The fault for a request: an order for its number goes before one for all.
pub(super) fn for_request(orders: &[Order], number: u32) -> Fault {
    let of = |request| orders.iter().find(|order| order.request == request).map(|order| order.fault);
    of(Some(number)).or_else(|| of(None)).unwrap_or(Fault::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_with_number_and_time() {
        let order = |text: &str| text.parse::<Order>().unwrap();
        assert_eq!(order("S5"), Order { request: None, fault: Fault::PromptBlocked });
        assert_eq!(order("2:s9"), Order { request: Some(2), fault: Fault::ErrorInStream });
        let stall = Fault::Stall(Duration::from_millis(250));
        assert_eq!(order("3:S11=250"), Order { request: Some(3), fault: stall });
        for wrong in ["S15", "0:S1", "x:S1", "S5=3", "S11=", ""] {
            let error = wrong.parse::<Order>().unwrap_err();
            assert!(error.to_string().contains("503-html"), "{error}");
        }
    }

    #[test]
    fn a_numbered_order_goes_before_one_for_all() {
        let orders = ["503", "2:S1"].map(|text| text.parse().unwrap());
        assert_eq!([1, 2, 3].map(|n| for_request(&orders, n)), [Fault::Overloaded, Fault::None, Fault::Overloaded]);
        assert_eq!(for_request(&[], 1), Fault::None);
    }
}
