//! One trunk: its names, its servers, their certificates, and whether they take our password.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinSet;

use super::nat::View;
use super::way::{Silence, UdpLine, Way};
use super::{Check, certificate};
use crate::config::{Transport, Trunk};
use crate::privacy::redact_number;
use crate::sip::{Answer, Probe, Query, Resolver, Source, Target, TlsSettings, Verdict, connect_tls};

/// Servers of a trunk that are asked.
const ASKED: usize = 4;
/// Challenges that a question answers; one each of a proxy and its server, and a stale nonce.
const ROUNDS: usize = 4;

/// What a visit to a trunk takes.
pub(super) struct Visit {
    pub(super) name: String,
    pub(super) trunk: Trunk,
    pub(super) public_address: Option<IpAddr>,
    pub(super) resolver: Resolver,
    pub(super) line: UdpLine,
}

/// What became of the question to one server.
struct Asked {
    target: Target,
    way: Option<Way>,
    result: Result<(Answer, Duration), Silence>,
    certificate: Option<Check>,
    local: Option<SocketAddr>,
}

impl Visit {
    /// All checks, and how the servers see us.
    pub(super) async fn checks(self) -> (Vec<Check>, Vec<View>) {
        let mut checks = Vec::new();
        let targets = match self.look_up(&mut checks).await {
            Some(targets) => targets,
            None => return (checks, Vec::new()),
        };
        let mut questions = JoinSet::new();
        for (place, target) in targets.into_iter().take(ASKED).enumerate() {
            let (trunk, line, area) = (self.trunk.clone(), self.line.clone(), self.area());
            questions.spawn(async move { (place, ask(trunk, line, target, area).await) });
        }
        let mut asked = questions.join_all().await;
        asked.sort_by_key(|(place, _)| *place);
        let mut asked: Vec<Asked> = asked.into_iter().map(|(_, asked)| asked).collect();
        checks.extend(asked.iter_mut().filter_map(|asked| asked.certificate.take()));
        let any = asked.iter().any(|asked| asked.result.is_ok());
        checks.extend(asked.iter().map(|asked| self.reachability(asked, any)));
        let views = asked.iter().filter_map(|asked| self.view(asked)).collect();
        if self.trunk.registers() {
            // A server may leave OPTIONS without an answer and still register phones.
            let best = asked.iter().position(|asked| asked.result.is_ok()).unwrap_or(0);
            if let Some(Asked { target, way: Some(way), .. }) = asked.get_mut(best) {
                let check = self.registration(target.address, way).await;
                checks.push(check);
            }
        }
        (checks, views)
    }

    fn area(&self) -> Cow<'static, str> {
        format!("trunk {}", self.name).into()
    }

    fn said(&self, what: &'static str, finding: impl Into<String>) -> Check {
        Check::ok(self.area(), what, finding)
    }

    async fn look_up(&self, checks: &mut Vec<Check>) -> Option<Vec<Target>> {
        let query = match Query::of_trunk(&self.trunk) {
            Ok(query) => query,
            Err(error) => {
                checks.push(self.said("dns", error.to_string()).failure("put it right in the configuration"));
                return None;
            }
        };
        let began = Instant::now();
        let found = match self.resolver.targets(&query).await {
            Ok(found) => found,
            Err(error) => {
                // The message ends with its remedy.
                let text = error.to_string();
                let (finding, remedy) = text.rsplit_once("; ").unwrap_or((&text, "check the network"));
                checks.push(self.said("dns", finding).failure(remedy));
                return None;
            }
        };
        let how = match found.source {
            Source::Address => "an address, nothing to look up",
            Source::Configuration => "servers of the configuration",
            Source::Host => "A and AAAA records",
            Source::Srv => "SRV records",
            Source::Naptr => "NAPTR and SRV records",
        };
        let shown: Vec<String> = found.targets.iter().map(|target| target.address.to_string()).collect();
        let took = began.elapsed().as_millis();
        checks.push(self.said("dns", format!("{how}: {}; {took} ms", shown.join(", "))));
        Some(found.targets)
    }

    fn reachability(&self, asked: &Asked, others_answer: bool) -> Check {
        let Target { address, transport, .. } = &asked.target;
        let carrier = match transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        };
        let said = |finding: String| self.said("reachable", format!("{address} over {carrier}: {finding}"));
        let (check, remedy) = match &asked.result {
            Ok((answer, took)) => {
                let check = said(format!("{} {} in {:.1} ms", answer.code, answer.reason, took.as_secs_f64() * 1000.0));
                return match answer.code {
                    500.. => check.warning("the server has a fault of its own, or is overloaded: ask its operator"),
                    _ => check,
                };
            }
            Err(Silence::NoAnswer(waited)) => (
                said(format!("no answer for {} s", waited.as_secs())),
                "check the address, and that no firewall stands between; a server that only answers known addresses must know ours",
            ),
            Err(Silence::Refused) => {
                (said("refused: nothing listens there".into()), "check port and transport in the configuration")
            }
            Err(Silence::Failed(reason)) => {
                let remedy = match transport {
                    Transport::Tls => "see what is said of its certificate; else check the network and the address",
                    _ => "check the network and the address in the configuration",
                };
                (said(reason.clone()), remedy)
            }
        };
        if others_answer { check.warning(remedy) } else { check.failure(remedy) }
    }

    fn view(&self, asked: &Asked) -> Option<View> {
        let (answer, _) = asked.result.as_ref().ok()?;
        Some(View {
            trunk: self.name.clone(),
            mode: self.trunk.mode,
            transport: self.trunk.transport,
            public_address: self.public_address,
            target: asked.target.address,
            local: asked.local?,
            seen_as: answer.seen_as?,
            says_received: answer.says_received,
            altered: answer.altered.clone(),
            date: answer.date.clone(),
            at: SystemTime::now(),
        })
    }

    /// Asks for what is registered, which takes the password and changes nothing.
    async fn registration(&self, server: SocketAddr, way: &mut Way) -> Check {
        let trunk = &self.trunk;
        let user = redact_number(&trunk.user);
        let said = |finding: String| self.said("registration", finding);
        let password = trunk.password(&self.name).ok().flatten();
        let known = password.is_some();
        let credentials = password.map(|password| (trunk.auth_id(), password));
        let mut probe = Probe::bindings(&trunk.domain, &trunk.user, trunk.transport, credentials);
        for _ in 0..ROUNDS {
            let answer = match way.ask(&mut probe).await {
                Ok((answer, _)) => answer,
                Err(silence) => {
                    let what = match silence {
                        Silence::NoAnswer(waited) => format!("no answer for {} s", waited.as_secs()),
                        Silence::Refused => "refused".into(),
                        Silence::Failed(reason) => reason,
                    };
                    return said(format!("{server}: {what}"))
                        .failure("check registrar, outbound_proxy and transport; some servers block an address after wrong passwords");
                }
            };
            let finding = format!("{} {} for user {user}", answer.code, answer.reason);
            match answer.code {
                401 | 407 => match probe.challenged(&answer) {
                    Verdict::AskAgain => {}
                    Verdict::Refused => {
                        return said(format!("the password is not accepted ({finding})")).failure(
                            "check user, auth_id (often not the number) and password on the provider's sheet",
                        );
                    }
                    Verdict::Unsupported => {
                        return said(format!("{finding}: it asks for a proof that is not known here"))
                            .failure("let the server offer digest with MD5 or SHA-256");
                    }
                    Verdict::Unanswerable if known => {
                        return said(format!("{finding}: its challenge cannot be read"))
                            .failure("report this to offhook");
                    }
                    Verdict::Unanswerable => {
                        return said(format!("{server} wants a password, and there is none"))
                            .failure("set password_file");
                    }
                },
                200..=299 => {
                    let bindings = match answer.bindings {
                        0 => "nothing is registered there now".to_owned(),
                        1 => "one phone is registered there now".to_owned(),
                        count => format!("{count} phones are registered there now"),
                    };
                    return said(format!("user and password are accepted; {bindings}"));
                }
                403 => {
                    return said(finding).failure(
                        "the server forbids it: check user and domain, that the account may register, and that our address is not blocked there",
                    );
                }
                404 | 410 | 604 => {
                    return said(finding).failure("the server knows no such user: check user and domain");
                }
                500.. => {
                    return said(finding)
                        .warning("the server has a fault of its own, or is overloaded: ask its operator");
                }
                _ => {
                    return said(format!("{finding}: it does not take the question"))
                        .warning("look into the log of the running service for what its registration is answered");
                }
            }
        }
        said(format!("{server} challenges without end")).failure("report this to offhook, with the name of the server")
    }
}

/// Opens the way to a server and asks whether it answers.
async fn ask(trunk: Trunk, line: UdpLine, target: Target, area: Cow<'static, str>) -> Asked {
    let mut certificate = None;
    let opened = open(&trunk, &line, &target, area, &mut certificate).await;
    let (result, way) = match opened {
        Ok(mut way) => {
            let domain = if trunk.domain.is_empty() { &target.name } else { &trunk.domain };
            let mut probe = Probe::options(domain, &trunk.user, trunk.transport);
            (way.ask(&mut probe).await, Some(way))
        }
        Err(silence) => (Err(silence), None),
    };
    let local = way.as_ref().map(Way::local);
    // A port that is closed needs no second question.
    let way = way.filter(|_| !matches!(result, Err(Silence::Refused)));
    Asked { target, way, result, certificate, local }
}

async fn open(
    trunk: &Trunk,
    line: &UdpLine,
    target: &Target,
    area: Cow<'static, str>,
    judged: &mut Option<Check>,
) -> Result<Way, Silence> {
    if target.transport == Transport::Udp {
        return Way::udp(line, target.address);
    }
    // A port that is closed is told from a handshake that fails.
    let tcp = Way::tcp(target.address).await?;
    let local = tcp.local_addr()?;
    if target.transport == Transport::Tcp {
        return Ok(Way::stream(tcp, local));
    }
    drop(tcp);
    match connect_tls(target, &TlsSettings::from(trunk)).await {
        Ok((stream, local, shown)) => {
            *judged = Some(certificate::accepted(area, &target.name, &shown));
            Ok(Way::stream(stream, local))
        }
        Err(error) => {
            *judged = certificate::refused(area, &error);
            Err(Silence::Failed(error.to_string()))
        }
    }
}
