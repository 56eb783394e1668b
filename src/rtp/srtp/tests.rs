//! The test vectors of RFC 3711, and the parts that count. What comes of them all is held against another implementation in
//! `tests/srtp.rs`.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    let bytes: Vec<u8> =
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

#[test]
fn the_key_stream_is_that_of_appendix_b_2() {
    let cipher = Aes128Enc::new(&hex("2b7e151628aed2a6abf7158809cf4f3c").into());
    let mut stream = vec![0; 1_044_512];
    crypt(&cipher, &hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd0000"), &mut stream);
    for (block, expected) in [
        (0, "e03ead0935c95e80e166b16dd92b4eb4"),
        (1, "d23513162b02d0f72a43a2fe4a5f97ab"),
        (2, "41e95b3bb0a2e8dd477901e4fca894c0"),
        (0xfeff, "ec8cdf7398607cb0f2d21675ea9ea1e4"),
        (0xff00, "362b7c3c6773516318a077d7fc5073ae"),
        (0xff01, "6a2cc3787889374fbeb4c81b17ba6c44"),
    ] {
        assert_eq!(stream[16 * block..][..16], hex::<16>(expected), "block {block:#x}");
    }
}

#[test]
fn keys_are_derived_as_in_appendix_b_3() {
    let master = MasterKey::new(hex("e1f97a0d3e018be0d64fa32c06de4139"), hex("0ec675ad498afeebb6960b3aabe6"));
    let cipher = Aes128Enc::new(master.key().into());
    let (mut key, mut salt, mut authentication) = ([0; 16], [0; 14], [0; 20]);
    derive(&cipher, &master, 0, &mut key);
    derive(&cipher, &master, 1, &mut authentication);
    derive(&cipher, &master, 2, &mut salt);
    assert_eq!(key, hex("c61e7a93744f39ee10734afe3ff7a087"));
    assert_eq!(salt, hex("30cbbc08863d8c85d49db34a9ae1"));
    assert_eq!(authentication, hex("cebe321f6ff7716b6fd4ab49af256a156d38baa4"));
}

#[test]
fn no_more_sources_are_kept_than_there_is_room_for_and_those_heard_last_stay() {
    let mut sources = Sources::default();
    for ssrc in 0..100 {
        sources.took(ssrc, 5);
        sources.took(0, u64::from(ssrc));
    }
    let kept: Vec<_> = sources.0.iter().flatten().map(|source| source.ssrc).collect();
    assert_eq!(kept, [0, 99, 98, 97, 96, 95, 94, 93]);
}

#[test]
fn behind_the_last_index_there_is_none() {
    assert_eq!(index_near(RTP_PACKETS - 1, 0), None);
    assert_eq!(index_near(RTP_PACKETS - 2, 0xffff), Some(RTP_PACKETS - 1));
    // Before the first index there is none either.
    assert_eq!(index_near(3, 0xfff0), Some(0xfff0));
}

proptest! {
    /// RFC 3711, appendix A, as it stands there.
    #[test]
    fn the_index_is_guessed_as_in_appendix_a(roc in 1..u64::from(u32::MAX), s_l: u16, seq: u16) {
        // Exactly half a round away either direction is as good.
        prop_assume!(s_l.wrapping_sub(seq) != 1 << 15);
        let (last, next) = (i32::from(s_l), i32::from(seq));
        let v = if last < 32_768 {
            if next - last > 32_768 { roc - 1 } else { roc }
        } else if last - 32_768 > next {
            roc + 1
        } else {
            roc
        };
        prop_assert_eq!(index_near(roc << 16 | u64::from(s_l), seq), Some(v << 16 | u64::from(seq)));
    }

    #[test]
    fn the_window_takes_each_index_once_and_none_that_is_too_old(indices in prop::collection::vec(0..600u64, 1..400)) {
        let mut source = Source { ssrc: 1, highest: indices[0], seen: 1 };
        let (mut taken, mut highest) = (HashSet::from([indices[0]]), indices[0]);
        for &index in &indices[1..] {
            let fresh = !taken.contains(&index) && index + WINDOW > highest;
            prop_assert_eq!(source.is_fresh(index), fresh);
            if fresh {
                source.took(index);
                taken.insert(index);
                highest = highest.max(index);
            }
        }
    }
}
