//! Torture messages in the notation of RFC 4475 section 2, and the bytes that they stand for.

/// A message's name and its bytes.
pub type Named = (String, Vec<u8>);

/// The messages of RFC 4475.
pub fn rfc4475() -> Vec<Named> {
    read(include_str!("rfc4475.txt"))
}

/// The messages of RFC 5118.
pub fn rfc5118() -> Vec<Named> {
    read(include_str!("rfc5118.txt"))
}

fn read(text: &str) -> Vec<Named> {
    let mut messages = Vec::new();
    for part in text.split("=== ").skip(1) {
        let (name, message) = part.split_once('\n').expect("a name");
        if name != "end" {
            messages.push((name.to_owned(), expand(message)));
        }
    }
    messages
}

fn expand(message: &str) -> Vec<u8> {
    let mut joined = String::new();
    let mut one_line = false;
    for line in message.lines() {
        match line {
            "<allOneLine>" => one_line = true,
            "</allOneLine>" => {
                one_line = false;
                joined.push('\n');
            }
            line => {
                joined.push_str(line);
                if !one_line {
                    joined.push('\n');
                }
            }
        }
    }
    bytes(&repeated(&joined).replace('\n', "\r\n"))
}

fn repeated(text: &str) -> String {
    let Some((before, rest)) = text.split_once("<repeat count=") else {
        return text.to_owned();
    };
    let (count, rest) = rest.split_once('>').expect("a count");
    let (what, after) = rest.split_once("</repeat>").expect("an end");
    format!("{before}{}{}", what.repeat(count.parse().expect("a number")), repeated(after))
}

fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<hex>") {
        bytes.extend_from_slice(before.as_bytes());
        let (digits, after) = after.split_once("</hex>").expect("an end");
        let pairs = digits.as_bytes().chunks(2);
        bytes.extend(pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect("hex")));
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
