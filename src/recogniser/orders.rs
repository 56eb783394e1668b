//! What a call tells its listening engine, over a bounded queue that nobody waits for.

use tokio::sync::mpsc;

use super::Listening;

/// Orders that may wait: frames of 20 ms, so about 20 s.
const ORDERS: usize = 1024;

/// What the engine is told.
#[derive(PartialEq, Eq)]
pub(super) enum Order {
    /// The number of an utterance that begins.
    Started(u32),
    Audio(Vec<i16>),
    Ended,
}

/// The call's end.
pub(super) struct Orders {
    orders: mpsc::Sender<Order>,
    utterances: u32,
    dropped: u64,
}

/// A queue; its receiver sees the end when the call has dropped the other side.
pub(super) fn orders() -> (Orders, mpsc::Receiver<Order>) {
    let (orders, receiver) = mpsc::channel(ORDERS);
    (Orders { orders, utterances: 0, dropped: 0 }, receiver)
}

impl Orders {
    fn order(&mut self, order: Order) {
        if self.orders.try_send(order).is_err() {
            self.dropped += 1;
        }
    }
}

impl Listening for Orders {
    fn started(&mut self) -> u32 {
        self.utterances += 1;
        self.order(Order::Started(self.utterances));
        self.utterances
    }

    fn audio(&mut self, samples: &[i16]) {
        self.order(Order::Audio(samples.to_vec()));
    }

    fn ended(&mut self) {
        self.order(Order::Ended);
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_does_not_listen_costs_sound_and_never_time() {
        let (mut orders, receiver) = orders();
        for _ in 0..ORDERS + 7 {
            orders.audio(&[0; 160]);
        }
        assert_eq!(orders.dropped(), 7);
        drop(receiver);
        orders.ended();
        assert_eq!(orders.dropped(), 8);
    }
}
