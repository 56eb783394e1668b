//! baresip calls `offhook run`, hears the answer, over RTP and over SRTP, and follows a REFER. From Debian: baresip-core, iproute2,
//! sip-tester.
//!
//! baresip does not use the loopback interface, so both live in a network namespace with a pair of virtual interfaces.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use offhook::codec::Codec;
use offhook::config::{Policy, Trunk, TrunkMode};
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
use network::{Network, Running};
use tones::Sound::{Answer, Greeting, Placeholder};

/// Where baresip takes commands; the namespace has no other listeners.
const CONTROL: u16 = 4444;

/// A folder with baresip's configuration: sound from and to files, this codec, one interface, and what else is said of the account.
fn write_baresip(folder: &Path, codec: Codec, account: &str) {
    // baresip does not resample, and takes Opus for what its clock says: stereo at 48 kHz.
    let (rate, channels) = if codec.name() == "opus" { (48_000, 2) } else { (codec.rate(), 1) };
    let question = resample::resample(&question(), RATE, rate);
    let question: Vec<i16> = question.iter().flat_map(|&sample| std::iter::repeat_n(sample, channels.into())).collect();
    fs::write(folder.join("question.wav"), wav::write(rate, channels, &question)).unwrap();
    let here = folder.display();
    let config = format!(
        "sip_listen {ADDRESS}:0\nnet_interface oh0\naudio_source aufile,{here}/question.wav\nsnd_path {here}\n\
         module_path /usr/lib/baresip/modules\nmodule g711.so\nmodule g722.so\nmodule opus.so\nmodule srtp.so\nmodule aufile.so\nmodule sndfile.so\n\
         module_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\nctrl_tcp_listen 127.0.0.1:{CONTROL}\n"
    );
    fs::write(folder.join("config"), config).unwrap();
    let codec = format!("{}/{rate}/{channels}", codec.name());
    let account = format!("<sip:caller@{ADDRESS};transport=udp>;regint=0;audio_codecs={codec}{account}\n");
    fs::write(folder.join("accounts"), account).unwrap();
}

/// What baresip has decoded, as its module sndfile writes it down.
fn recording(folder: &Path) -> Vec<i16> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|path| path.to_string_lossy().ends_with("-dec.wav"));
    let sound = wav::read(&fs::read(file.expect("baresip recorded the call")).unwrap()).unwrap();
    resample::resample(&sound.samples, sound.rate, RATE)
}

/// baresip calls in this codec, with this said of its account, over a trunk with such a policy, and hears all that there is to hear. What it
/// said.
fn call(codec: Codec, account: &str, srtp: Policy) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut answering = Answering::start(folder.path(), |config| {
        let trunk = Trunk {
            mode: TrunkMode::IpAuth,
            domain: ADDRESS.into(),
            allowed_peers: config.sip.allowed_peers.clone(),
            srtp,
            srtp_over_clear_signalling: true,
            ..Trunk::default()
        };
        config.trunk.insert("baresip".into(), trunk);
    });
    let Answering { network, service, .. } = &mut answering;
    write_baresip(folder.path(), codec, account);
    let mut baresip = network.command("baresip");
    baresip.arg("-f").arg(folder.path()).args(["-t", "25", "-e", &format!("/dial sip:620@{}", service.address)]);
    let output = fs::File::create(folder.path().join("baresip.log")).unwrap();
    baresip.stdout(output.try_clone().unwrap()).stderr(output);
    let mut baresip = Running::start(&mut baresip, "apt-get install baresip-core");
    service.logs("rings");
    let turn = service.logs("outcome=");
    assert!(turn.contains("outcome=\"answered\""), "{turn}");
    // It hangs up when it is told to end.
    assert!(Command::new("kill").arg(baresip.0.id().to_string()).status().unwrap().success());
    service.logs("ended reason=ByPeer");
    baresip.0.wait().unwrap();

    let said = fs::read(folder.path().join("baresip.log")).unwrap();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("Call established") && said.contains(codec.name()), "{said}");
    let heard: Vec<_> = tones::stretches(&recording(folder.path())).iter().map(|stretch| stretch.sound).collect();
    assert_eq!(heard, [Greeting, Placeholder, Answer]);
    service.terminate();
    assert!(service.ended().success(), "{}", service.log);
    said
}

#[test]
fn baresip_calls_and_hears_greeting_placeholder_and_answer() {
    assert!(!call(Codec::Pcma, "", Policy::Off).contains("SRTP"));
}

#[test]
fn baresip_hears_the_same_in_g722_and_in_packets_of_40_ms() {
    call(Codec::G722, ";ptime=40", Policy::Off);
}

#[test]
fn baresip_hears_the_same_in_opus() {
    call(Codec::named("opus").unwrap(), "", Policy::Off);
}

#[test]
fn baresip_that_insists_on_srtp_hears_the_same() {
    let said = call(Codec::Pcma, ";mediaenc=srtp-mand", Policy::Required);
    assert!(said.contains("SRTP is Enabled"), "{said}");
}

#[test]
fn baresip_that_would_like_srtp_has_it_in_the_plain_profile() {
    let said = call(Codec::Pcma, ";mediaenc=srtp", Policy::Optional);
    assert!(said.contains("SRTP is Enabled"), "{said}");
}

/// Tells baresip what to do (its module ctrl_tcp: JSON in netstrings).
fn command(network: &Network, command: &str, parameters: &str) {
    let json = format!("{{\"command\":\"{command}\",\"params\":\"{parameters}\"}}");
    let netstring = format!("{}:{json},", json.len());
    let script =
        format!("exec 3<>/dev/tcp/127.0.0.1/{CONTROL} && printf %s '{netstring}' >&3 && read -r -n 1 -t 5 <&3");
    let told = network.command("bash").args(["-c", &script]).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}

#[test]
fn baresip_presses_the_key_is_referred_to_the_person_and_offhook_is_out_of_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut answering = Answering::start(folder.path(), |config| {
        config.conversation.transfer_to = Some(format!("sip:900@{ADDRESS}:5070"));
    });
    let Answering { network, service, .. } = &mut answering;
    let mut person = network.command("sipp");
    person.args(["-sn", "uas", "-i", ADDRESS, "-p", "5070", "-m", "1", "-nostdin"]).current_dir(folder.path());
    let mut person = Running::start(person.stdout(Stdio::null()).stderr(Stdio::null()), "apt-get install sip-tester");

    write_baresip(folder.path(), Codec::Pcmu, "");
    let mut baresip = network.command("baresip");
    baresip.arg("-f").arg(folder.path()).args(["-t", "25", "-e", &format!("/dial sip:620@{}", service.address)]);
    let log = folder.path().join("baresip.log");
    let output = fs::File::create(&log).unwrap();
    baresip.stdout(output.try_clone().unwrap()).stderr(output);
    let mut baresip = Running::start(&mut baresip, "apt-get install baresip-core");
    service.logs("rings");
    let established = || String::from_utf8_lossy(&fs::read(&log).unwrap()).matches("Call established").count();
    let wait_for = |calls: usize| {
        let until = Instant::now() + Duration::from_secs(10);
        while established() < calls {
            assert!(Instant::now() < until, "{}", String::from_utf8_lossy(&fs::read(&log).unwrap()));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for(1);
    command(network, "sndcode", "0");
    service.logs("hands the caller over");
    service.logs("the caller is in other hands");
    let told = Instant::now();
    service.logs("ended reason=ByUs");
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    wait_for(2);
    // baresip is left with the person alone, and hangs up when it is told to end.
    assert!(Command::new("kill").arg(baresip.0.id().to_string()).status().unwrap().success());
    baresip.0.wait().unwrap();
    assert!(person.0.wait().unwrap().success(), "the person's call was answered and ended in order");
    service.terminate();
    assert!(service.ended().success(), "{}", service.log);
}
