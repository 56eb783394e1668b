//! A sound card as this room sees it: devices with a name, a rate and channels, which hand sound over in callbacks of their own.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

use super::capture::Capture;
use super::playback::Playback;

/// Where sound goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From a microphone.
    Input,
    /// To a loudspeaker.
    Output,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// How a device moves sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Frames a second.
    pub rate: u32,
    /// Samples in a frame.
    pub channels: u16,
}

impl Shape {
    /// What a card may have to be taken: 8 to 192 kHz, 1 to 32 channels.
    ///
    /// # Errors
    /// When it has another.
    pub fn check(self, device: &str) -> Result<Self, CardError> {
        let Self { rate, channels } = self;
        if (8000..=192_000).contains(&rate) && (1..=32).contains(&channels) {
            return Ok(self);
        }
        let what = format!("{channels} channels at {rate} Hz");
        Err(CardError::Unsupported { device: device.to_owned(), what })
    }
}

/// A device that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// What it is chosen by.
    pub name: String,
    /// What its maker calls it.
    pub description: String,
    /// What it is for.
    pub direction: Direction,
    /// Whether it is taken when none is named.
    pub default: bool,
    /// How it moves sound unless told otherwise; `None` when it does not say, because it is in use or gone.
    pub shape: Option<Shape>,
}

/// ALSA's device that throws everything away: only for who names it.
const CLOCKLESS: &str = "null";

/// Which device is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// The one that the system takes by default.
    #[default]
    Default,
    /// One by its name, or by a part of name or description that no other has.
    Named(String),
}

impl FromStr for Choice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "default" { Self::Default } else { Self::Named(text.to_owned()) })
    }
}

impl Choice {
    /// The device among those of one direction that is meant.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn among(&self, devices: &[Device], direction: Direction) -> Result<Device, CardError> {
        let mut there = devices.iter().filter(|device| device.direction == direction);
        let Self::Named(name) = self else {
            let default = there.clone().find(|device| device.default);
            let default = default.or_else(|| there.find(|device| device.name != CLOCKLESS));
            return default.cloned().ok_or(CardError::NoDevice { direction });
        };
        if let Some(exact) = there.clone().find(|device| device.name == *name) {
            return Ok(exact.clone());
        }
        let wanted = name.to_lowercase();
        let is_part = |text: &str| text.to_lowercase().contains(&wanted);
        let parts: Vec<&Device> =
            there.filter(|device| is_part(&device.name) || is_part(&device.description)).collect();
        match parts[..] {
            [one] => Ok(one.clone()),
            [] => Err(CardError::NotFound { direction, name: name.clone() }),
            [..] => {
                let names = parts.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(", ");
                Err(CardError::Ambiguous { direction, name: name.clone(), names })
            }
        }
    }
}

/// Something that goes wrong with a card that is open. Told by its callbacks, which cannot tell more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// It moves sound much faster than time passes.
    Runaway = 1,
    /// It moves sound much slower than time passes.
    Sluggish = 2,
    /// It is gone.
    Gone = 3,
    /// The system reports another error.
    Broken = 4,
}

impl Fault {
    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::Runaway, Self::Sluggish, Self::Gone, Self::Broken].into_iter().find(|fault| *fault as u8 == code)
    }
}

/// Why a card is not there, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CardError {
    /// This program was built without sound.
    #[error("this offhook was built without sound cards; build it with the feature `local-audio`")]
    NotBuilt,
    /// There is none.
    #[error(
        "there is no {direction} device; plug one in (`arecord -l`, `aplay -l` list what the kernel knows), \
         or talk by files: --from question.wav --to answer.wav"
    )]
    NoDevice {
        /// What it should be for.
        direction: Direction,
    },
    /// None of that name.
    #[error("no {direction} device is called {name:?}; `offhook talk --list` shows those that there are")]
    NotFound {
        /// What it should be for.
        direction: Direction,
        /// What was asked for.
        name: String,
    },
    /// Several of that name.
    #[error("several {direction} devices are called {name:?}: {names}; give more of the name")]
    Ambiguous {
        /// What it should be for.
        direction: Direction,
        /// What was asked for.
        name: String,
        /// Those that there are.
        names: String,
    },
    /// Somebody else has it.
    #[error(
        "{device} is in use by another program; end it (`fuser -v /dev/snd/*` shows which), or take another device"
    )]
    Busy {
        /// The device.
        device: String,
    },
    /// We may not have it.
    #[error(
        "{device} may not be opened by this user; add the user to the group audio (`sudo usermod -aG audio $USER`) and log in anew"
    )]
    Permission {
        /// The device.
        device: String,
    },
    /// It cannot do what is needed.
    #[error("{device} does not take {what}; choose another device, or `plughw:` of the same, which converts")]
    Unsupported {
        /// The device.
        device: String,
        /// What it was asked for.
        what: String,
    },
    /// It was unplugged, or never there.
    #[error("{device} is gone; plug it in again, and it is taken up as soon as it is back")]
    Gone {
        /// The device.
        device: String,
    },
    /// Its clock is none.
    #[error(
        "{device} moves sound more than 1.5 times as fast as time passes: it has no clock (ALSA's `null` and `file` are such); \
         choose a real device"
    )]
    Runaway {
        /// The device.
        device: String,
    },
    /// Its clock is none.
    #[error(
        "{device} moves sound at less than half the speed of time; choose a real device, or one without a sound server between"
    )]
    Sluggish {
        /// The device.
        device: String,
    },
    /// It does not come back from being opened or closed.
    #[error("{device} does not answer for {seconds} s; unplug it and plug it in again, or choose another")]
    Stuck {
        /// The device.
        device: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Something else.
    #[error("{device}: {what}; see `dmesg`, and whether `speaker-test` and `arecord` work with it")]
    Other {
        /// The device.
        device: String,
        /// What the system says.
        what: String,
    },
}

impl CardError {
    /// What a callback told, of this device.
    pub fn of_fault(fault: Fault, device: &str) -> Self {
        let device = device.to_owned();
        match fault {
            Fault::Runaway => Self::Runaway { device },
            Fault::Sluggish => Self::Sluggish { device },
            Fault::Gone => Self::Gone { device },
            Fault::Broken => Self::Other { device, what: "the system reports an error".to_owned() },
        }
    }

    /// Whether waiting may mend it.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::NoDevice { .. } | Self::NotFound { .. } | Self::Busy { .. } | Self::Gone { .. } | Self::Other { .. }
        )
    }

    /// The exit status, by sysexits(3).
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NoDevice { .. } | Self::Gone { .. } | Self::Stuck { .. } | Self::Other { .. } | Self::NotBuilt => 69,
            Self::NotFound { .. } | Self::Ambiguous { .. } => 64,
            Self::Busy { .. } => 75,
            Self::Permission { .. } => 77,
            Self::Unsupported { .. } | Self::Runaway { .. } | Self::Sluggish { .. } => 78,
        }
    }
}

/// An open device: closed when it is dropped.
pub trait Opened {}

/// Sound cards: those of this machine, or one that a test makes. Not called from the media thread; opening may take as long as it does.
pub trait Card {
    /// Every device that there is now.
    ///
    /// # Errors
    /// When the system has no sound at all.
    fn list(&mut self) -> Result<Vec<Device>, CardError>;

    /// How the device moves sound.
    ///
    /// # Errors
    /// When it does not say.
    fn shape(&mut self, device: &Device) -> Result<Shape, CardError>;

    /// Opens a microphone; each callback gives its sound to `capture`.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open_input(&mut self, device: &Device, shape: Shape, capture: Capture) -> Result<Box<dyn Opened>, CardError>;

    /// Opens a loudspeaker; each callback has `playback` fill it.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open_output(&mut self, device: &Device, shape: Shape, playback: Playback) -> Result<Box<dyn Opened>, CardError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, direction: Direction, default: bool) -> Device {
        Device { name: name.into(), description: format!("Sound of {name}"), direction, default, shape: None }
    }

    #[test]
    fn a_device_is_chosen_by_its_name_a_part_of_it_or_by_default() {
        use Direction::{Input, Output};
        let there = [device("hw:0", Output, false), device("hw:1", Output, true), device("usb mic", Input, false)];
        let chosen = |text: &str, direction| text.parse::<Choice>().unwrap().among(&there, direction);
        assert_eq!(chosen("default", Output).unwrap().name, "hw:1");
        assert_eq!(chosen("default", Input).unwrap().name, "usb mic", "the first where none is the default");
        assert_eq!(chosen("hw:0", Output).unwrap().name, "hw:0");
        assert_eq!(chosen("USB", Input).unwrap().name, "usb mic");
        assert!(matches!(chosen("hw", Output), Err(CardError::Ambiguous { names, .. }) if names == "hw:0, hw:1"));
        assert!(matches!(chosen("usb", Output), Err(CardError::NotFound { .. })));
        let null = [device("null", Input, false)];
        assert_eq!(Choice::Default.among(&null, Input), Err(CardError::NoDevice { direction: Input }));
        assert_eq!("null".parse::<Choice>().unwrap().among(&null, Input).unwrap().name, "null");
        assert_eq!(Choice::Default.among(&[], Input), Err(CardError::NoDevice { direction: Input }));
    }

    #[test]
    fn every_fault_has_its_message_and_no_two_the_same() {
        let faults = [Fault::Runaway, Fault::Sluggish, Fault::Gone, Fault::Broken];
        let messages: std::collections::HashSet<String> =
            faults.iter().map(|fault| CardError::of_fault(*fault, "hw:0").to_string()).collect();
        assert_eq!(messages.len(), faults.len());
        assert!(faults.iter().all(|fault| Fault::from_code(*fault as u8) == Some(*fault)));
        assert_eq!(Fault::from_code(0), None);
    }
}
