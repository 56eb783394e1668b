//! What a certificate says of itself: for which names it stands, and from when to when (RFC 5280 §4.1.2.5, §4.2.1.6).
//!
//! Reads just those two of a DER certificate, for messages to people; whether the certificate is to be trusted is
//! rustls's to say. Not implemented: the common name of the subject, which RFC 5922 does not count.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// The names and the validity of the certificate that the other side showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Host names, addresses and URIs (`sip:…`) that it stands for.
    pub names: Vec<String>,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
}

const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17
const SUBJECT_ALTERNATIVE_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

/// The rest of a DER encoding.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Tag and content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 || rest.len() < count {
                return None;
            }
            let (bytes, after) = rest.split_at(count);
            length = bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            rest = after;
        }
        if rest.len() < length {
            return None;
        }
        let (content, rest) = rest.split_at(length);
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|&(found, _)| found == tag).map(|(_, content)| content)
    }
}

impl PeerCertificate {
    /// Reads a certificate in DER; `None` when it is none.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let certificate = Der(der).expect(SEQUENCE)?;
        let mut body = Der(Der(certificate).expect(SEQUENCE)?);
        if body.0.first() == Some(&VERSION) {
            body.next()?;
        }
        // Serial number, signature algorithm, issuer.
        for _ in 0..3 {
            body.next()?;
        }
        let mut validity = Der(body.expect(SEQUENCE)?);
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let mut names = Vec::new();
        while let Some((tag, content)) = body.next() {
            if tag == EXTENSIONS {
                names = alternative_names(content).unwrap_or_default();
            }
        }
        Some(Self { names, not_before, not_after })
    }

    /// Whether it is valid at that time.
    pub fn is_valid_at(&self, time: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut extensions = Der(Der(extensions).expect(SEQUENCE)?);
    while let Some((_, extension)) = extensions.next() {
        let mut extension = Der(extension);
        if extension.expect(OBJECT_IDENTIFIER)? != SUBJECT_ALTERNATIVE_NAME {
            continue;
        }
        let (mut tag, mut value) = extension.next()?;
        if tag == BOOLEAN {
            (tag, value) = extension.next()?;
        }
        let mut general = Der(Der((tag == OCTET_STRING).then_some(value)?).expect(SEQUENCE)?);
        let mut names = Vec::new();
        while let Some((tag, name)) = general.next() {
            match tag {
                // dNSName and uniformResourceIdentifier.
                0x82 | 0x86 => names.push(String::from_utf8_lossy(name).into_owned()),
                // iPAddress.
                0x87 => {
                    let four = <[u8; 4]>::try_from(name).map(IpAddr::from);
                    let address = four.or_else(|_| <[u8; 16]>::try_from(name).map(IpAddr::from));
                    names.extend(address.map(|address| address.to_string()));
                }
                _ => {}
            }
        }
        return Some(names);
    }
    None
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn time((tag, text): (u8, &[u8])) -> Option<SystemTime> {
    let text = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = |digits: &[u8]| digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    let (year, rest) = match (tag, text.len()) {
        // RFC 5280 §4.1.2.5.1.
        (UTC_TIME, 12) => (number(&text[..2]) + if number(&text[..2]) < 50 { 2000 } else { 1900 }, &text[2..]),
        (GENERALIZED_TIME, 14) => (number(&text[..4]), &text[4..]),
        _ => return None,
    };
    let part = |at: usize| number(&rest[at..at + 2]);
    let (month, day) = (part(0), part(2));
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_of_years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = days_of_years + lengths[..month as usize - 1].iter().sum::<u64>() + day - 1;
    let seconds = ((days * 24 + part(4)) * 60 + part(6)) * 60 + part(8);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_dates_are_read_and_no_damage_panics() {
        let mut parameters =
            rcgen::CertificateParams::new(vec!["sip.example.com".to_owned(), "192.0.2.1".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2024, 2, 29);
        parameters.not_after = rcgen::date_time_ymd(2051, 1, 2);
        let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let der = certificate.der().to_vec();
        let read = PeerCertificate::read(&der).unwrap();
        assert_eq!(read.names, ["sip.example.com", "192.0.2.1"]);
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!((read.not_before, read.not_after), (at(1_709_164_800), at(2_556_230_400)));
        assert!(read.is_valid_at(at(1_800_000_000)) && !read.is_valid_at(at(1_600_000_000)));
        let mut random = fastrand::Rng::with_seed(1);
        for length in 0..der.len() {
            PeerCertificate::read(&der[..length]);
            let mut damaged = der.clone();
            damaged[length] = random.u8(..);
            PeerCertificate::read(&damaged);
        }
    }
}
