//! A ring's end on loan: a card's callback owns it, and when the card is closed, whenever that is, it goes back to who opened it.

use std::ops::{Deref, DerefMut};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Where it goes back to.
#[derive(Debug)]
pub struct Lender<T> {
    back: Receiver<T>,
    way: Sender<T>,
}

impl<T> Lender<T> {
    /// Of this.
    pub fn new(thing: T) -> Self {
        let (way, back) = channel();
        let _ = way.send(thing);
        Self { back, way }
    }

    /// Lends it; `None` when it is not back after `patience`.
    pub fn lend(&self, patience: Duration) -> Option<Home<T>> {
        let thing = self.back.recv_timeout(patience).ok()?;
        Some(Home { thing: Some(thing), way: self.way.clone() })
    }
}

/// What is lent.
#[derive(Debug)]
pub struct Home<T> {
    thing: Option<T>,
    way: Sender<T>,
}

impl<T> Deref for Home<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().expect("it is taken out only when this is dropped")
    }
}

impl<T> DerefMut for Home<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().expect("it is taken out only when this is dropped")
    }
}

impl<T> Drop for Home<T> {
    fn drop(&mut self) {
        if let Some(thing) = self.thing.take() {
            let _ = self.way.send(thing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_comes_back_when_it_is_dropped_and_is_there_only_once() {
        let lender = Lender::new(7);
        let mut lent = lender.lend(Duration::ZERO).unwrap();
        *lent += 1;
        assert!(lender.lend(Duration::ZERO).is_none());
        drop(lent);
        assert_eq!(*lender.lend(Duration::ZERO).unwrap(), 8);
    }
}
