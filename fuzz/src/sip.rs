//! SIP: any bytes at the edge of the room, as a datagram and as a stream cut anywhere.

use offhook::sip::edge::{Edge, Outcome, frames};

/// Shows the edge what there is.
pub fn fuzz(input: &[u8]) {
    let Some((&cuts, message)) = input.split_first() else { return };
    let peer = if cuts & 1 == 0 { Edge::TRUNK } else { Edge::PEER };
    match Edge::default().judge(message, peer) {
        Outcome::Delivered(delivered) => {
            let head = delivered.windows(4).position(|four| four == b"\r\n\r\n").expect("an end of the head");
            assert!(std::str::from_utf8(&delivered[..head]).is_ok());
            assert!(delivered.len() <= 8 * message.len() + 4096, "{} bytes", delivered.len());
        }
        Outcome::Answered(status, response) => {
            assert!(status >= 200 || response == b"\r\n");
            assert!(response.ends_with(b"\r\n") && response.len() <= 8 * message.len() + 4096);
        }
        Outcome::Dropped(_) => {}
    }
    let whole = frames([message]);
    let piece = usize::from(cuts >> 1) % 64 + 1;
    assert_eq!(whole, frames(message.chunks(piece)), "cut after every {piece} bytes");
    let length: usize = whole.0.iter().map(Vec::len).sum();
    assert!(length <= message.len());
}
