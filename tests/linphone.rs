//! linphone calls `offhook run` in each codec and hears the answer. From Debian: linphone-cli, iproute2.
//!
//! linphone believes that there is no network where there is only loopback, so both live in a network namespace with a pair of virtual
//! interfaces. Its sound comes from a file and goes to one.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use offhook::codec::Codec;
use offhook::pcm::{RATE, resample, wav};

#[path = "support/answering.rs"]
mod answering;
#[path = "support/network.rs"]
mod network;
#[path = "support/service.rs"]
mod service;
#[path = "support/tones.rs"]
mod tones;
use answering::{ADDRESS, Answering, question};
use network::Running;
use tones::Sound::{Answer, Greeting, Placeholder};

/// All that it has switched on, and G.722, which it has not.
const CODECS: [(&str, u32, u32); 7] = [
    ("opus", 48_000, 2),
    ("G722", 8000, 1),
    ("PCMU", 8000, 1),
    ("PCMA", 8000, 1),
    ("G729", 8000, 1),
    ("speex", 16_000, 1),
    ("speex", 8000, 1),
];

/// linphone's configuration, with one codec switched on; the namespace has no other listeners.
fn write_linphone(folder: &Path, codec: Codec) {
    let question = resample::resample(&question(), RATE, codec.clock_rate().max(codec.rate()));
    let rate = codec.clock_rate().max(codec.rate());
    fs::write(folder.join("question.wav"), wav::write(rate, 1, &question)).unwrap();
    fs::create_dir_all(folder.join(".local/share/linphone")).unwrap();
    let mut config = format!(
        "[sip]\nsip_port=5071\nsip_tcp_port=0\nsip_tls_port=0\nguess_hostname=0\ncontact=<sip:caller@{ADDRESS}>\nuse_ipv6=0\n\
         [rtp]\naudio_rtp_port=7078\n[sound]\nechocancellation=0\n"
    );
    for (n, (name, rate, channels)) in CODECS.iter().enumerate() {
        let enabled = u8::from(*name == codec.name());
        config += &format!("[audio_codec_{n}]\nmime={name}\nrate={rate}\nchannels={channels}\nenabled={enabled}\n");
    }
    fs::write(folder.join("linphonerc"), config).unwrap();
}

/// linphone calls in this codec and hears all that there is to hear.
fn call(codec: &str) {
    let codec = Codec::named(codec).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let mut answering = Answering::start(here, |_| {});
    let Answering { network, service, .. } = &mut answering;

    write_linphone(here, codec);
    let mut linphone = network.command("linphonec");
    linphone.args(["-c", "linphonerc", "-d", "3", "-l", "log"]).current_dir(here).env("HOME", here);
    linphone.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut linphone = Running::start(&mut linphone, "apt-get install linphone-cli");
    let mut type_in = |line: String| writeln!(linphone.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    type_in("soundcard use files".into());
    type_in(format!("play {}/question.wav", here.display()));
    type_in(format!("record {}/heard.wav", here.display()));
    type_in(format!("call sip:620@{}", service.address));
    service.logs("rings");
    let turn = service.logs("outcome=");
    assert!(turn.contains("outcome=\"answered\""), "{turn}");
    type_in("terminate".into());
    service.logs("ended reason=ByPeer");
    type_in("quit".into());
    linphone.0.wait().unwrap();

    let said = fs::read(here.join("log")).unwrap();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains(&format!(" {}", codec.rtpmap())), "{said}");
    let heard = wav::read(&fs::read(here.join("heard.wav")).unwrap()).unwrap();
    let heard = resample::resample(&heard.samples, heard.rate, RATE);
    let heard: Vec<_> = tones::stretches(&heard).iter().map(|stretch| stretch.sound).collect();
    assert_eq!(heard, [Greeting, Placeholder, Answer]);
    service.terminate();
    assert!(service.ended().success(), "{}", service.log);
}

#[test]
fn linphone_hears_greeting_placeholder_and_answer_in_opus() {
    call("opus");
}

#[test]
fn linphone_hears_the_same_in_g722() {
    call("g722");
}

#[test]
fn linphone_hears_the_same_in_g711_of_both_laws() {
    call("pcmu");
    call("pcma");
}
