//! What runs on the media thread allocates nothing after it is built, and frees nothing: each part by itself, and a whole line.

use allocation_counter::measure;

mod hearing;
mod line;
mod rtp;
mod srtp;

#[test]
fn the_counter_sees_an_allocation_and_a_free() {
    let mut kept = None;
    assert_eq!(measure(|| kept = Some(std::hint::black_box(Box::new(5)))).count_total, 1);
    assert_eq!(measure(|| drop(kept.take())).count_current, -1);
}
