//! Reads header fields by their name, and lists in them (RFC 3261 §7.3.1); the stack has put long names for compact ones.

use rsipstack::rsip::{Header, Headers};

/// The values of every field of that name, in their order.
pub(super) fn values<'a>(headers: &'a Headers, name: &str) -> impl Iterator<Item = &'a str> {
    let of_name = move |header: &&Header| header.name().eq_ignore_ascii_case(name);
    headers.iter().filter(of_name).map(|header| header.value().trim())
}

/// The value of the first field of that name.
pub(super) fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    values(headers, name).next()
}

/// The items of a comma-separated list, however many fields it is spread over.
pub(super) fn items<'a>(headers: &'a Headers, name: &str) -> impl Iterator<Item = &'a str> {
    values(headers, name).flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

/// Whether a list has the item; option tags and methods alike.
pub(super) fn lists(headers: &Headers, name: &str, wanted: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(wanted))
}

/// The value of one of the parameters behind the first semicolon, without its quotes.
pub(super) fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = value.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let found = parameters.find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_over_several_fields() {
        let headers: Headers =
            vec![Header::Supported("a, 100REL".into()), Header::Other("supported".into(), ",timer".into())].into();
        assert_eq!(items(&headers, "Supported").collect::<Vec<_>>(), ["a", "100REL", "timer"]);
        assert!(lists(&headers, "supported", "100rel") && !lists(&headers, "Require", "100rel"));
    }

    #[test]
    fn a_parameter_is_found_by_its_name() {
        assert_eq!(parameter("1800 ; x; Refresher = uac", "refresher"), Some("uac"));
        assert_eq!(parameter("refresher=uac", "refresher"), None);
    }
}
