//! Lets the SIP stack look up the host names of Contact and Route headers as everything else here does.

use async_trait::async_trait;
use rsipstack::rsip::{self, Host};
use rsipstack::transport::SipAddr;
use rsipstack::transport::transport_layer::DomainResolver;

use super::{Query, Resolver};
use crate::config::{HostPort, Transport};

/// The stack's view of a [`Resolver`]. It takes one address only: the one that is tried first.
#[derive(Debug, Clone)]
pub(in crate::sip) struct StackResolver(pub(in crate::sip) Resolver);

#[async_trait]
impl DomainResolver for StackResolver {
    async fn resolve(&self, target: &SipAddr) -> rsipstack::Result<SipAddr> {
        let failed = |reason: String| rsipstack::Error::DnsResolutionError(reason);
        let Host::Domain(domain) = &target.addr.host else { return Ok(target.clone()) };
        let transport = match target.r#type {
            None | Some(rsip::Transport::Udp) => Transport::Udp,
            Some(rsip::Transport::Tcp) => Transport::Tcp,
            Some(rsip::Transport::Tls) => Transport::Tls,
            Some(other) => return Err(failed(format!("{domain}: {other} is not served"))),
        };
        let mut server: HostPort = domain.to_string().parse().map_err(|error| failed(format!("{error}")))?;
        // RFC 2606: stands where there is no address to reach.
        if server.host == "invalid" || server.host.ends_with(".invalid") {
            return Err(failed(format!("{domain} stands for no host")));
        }
        server.port = target.addr.port.map(|port| port.value());
        let found = self.0.targets(&Query::to(server, transport)).await.map_err(|error| failed(error.to_string()))?;
        let first = found.targets.first().ok_or_else(|| failed(format!("{domain} has no address")))?;
        Ok(SipAddr { r#type: target.r#type.or(Some(rsip::Transport::Udp)), addr: first.address.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ResolverOptions;
    use super::*;

    fn target(transport: Option<rsip::Transport>, host: &str) -> SipAddr {
        SipAddr { r#type: transport, addr: host.to_owned().try_into().unwrap() }
    }

    #[tokio::test]
    async fn the_stack_gets_an_address_for_a_name_and_keeps_the_transport() {
        let resolver = StackResolver(Resolver::new(ResolverOptions::default()));
        let tcp = Some(rsip::Transport::Tcp);
        assert_eq!(resolver.resolve(&target(tcp, "localhost:5070")).await.unwrap(), target(tcp, "127.0.0.1:5070"));
        let udp = Some(rsip::Transport::Udp);
        assert_eq!(resolver.resolve(&target(None, "localhost:5070")).await.unwrap(), target(udp, "127.0.0.1:5070"));
        assert_eq!(resolver.resolve(&target(tcp, "192.0.2.1")).await.unwrap(), target(tcp, "192.0.2.1"));
    }

    #[tokio::test]
    async fn a_placeholder_and_a_transport_that_is_not_served_are_refused() {
        let resolver = StackResolver(Resolver::new(ResolverOptions::default()));
        let error = resolver.resolve(&target(None, "x.invalid")).await.unwrap_err().to_string();
        assert!(error.contains("stands for no host"), "{error}");
        let error = resolver.resolve(&target(Some(rsip::Transport::Wss), "localhost")).await.unwrap_err().to_string();
        assert!(error.contains("not served"), "{error}");
    }
}
