//! In which order servers are tried: by priority, among equals drawn by weight (RFC 2782).

use fastrand::Rng;

/// A server with the rank that an SRV record or the configuration gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Ranked {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) host: String,
    pub(super) port: u16,
}

/// Puts servers into the order in which they are tried. Each call draws anew, so that load spreads by weight.
pub(super) fn ordered(mut servers: Vec<Ranked>, rng: &mut Rng) -> Vec<Ranked> {
    // Those without a weight come first, so that the draw of nought, and only it, finds them.
    servers.sort_by_key(|server| (server.priority, server.weight != 0));
    let mut order = Vec::with_capacity(servers.len());
    while let Some(priority) = servers.first().map(|server| server.priority) {
        let equals = servers.iter().take_while(|server| server.priority == priority);
        let total: u32 = equals.clone().map(|server| u32::from(server.weight)).sum();
        let drawn = rng.u32(0..=total);
        let mut sum = 0;
        let chosen = equals.into_iter().position(|server| {
            sum += u32::from(server.weight);
            sum >= drawn
        });
        order.push(servers.remove(chosen.unwrap_or(0)));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(priority: u16, weight: u16, host: &str) -> Ranked {
        Ranked { priority, weight, host: host.into(), port: 5060 }
    }

    fn hosts(servers: &[Ranked]) -> Vec<&str> {
        servers.iter().map(|server| server.host.as_str()).collect()
    }

    #[test]
    fn a_lower_priority_is_tried_first_whatever_its_weight() {
        let mut rng = Rng::with_seed(1);
        for _ in 0..100 {
            let order = ordered(vec![server(20, 65535, "c"), server(10, 0, "b"), server(0, 1, "a")], &mut rng);
            assert_eq!(hosts(&order), ["a", "b", "c"]);
        }
    }

    #[test]
    fn equals_are_drawn_in_the_proportion_of_their_weights() {
        let mut rng = Rng::with_seed(2);
        let mut first = [0; 3];
        for _ in 0..6000 {
            let servers = vec![server(1, 30, "half"), server(1, 20, "third"), server(1, 10, "sixth")];
            let order = ordered(servers, &mut rng);
            assert_eq!(order.len(), 3);
            let place = ["half", "third", "sixth"].iter().position(|host| *host == order[0].host).unwrap();
            first[place] += 1;
        }
        for (drawn, wanted) in first.into_iter().zip([3000, 2000, 1000]) {
            assert!((wanted - 200..wanted + 200).contains(&drawn), "{first:?}");
        }
    }

    #[test]
    fn a_server_without_weight_is_seldom_first_among_weighted_ones_and_is_never_lost() {
        let mut rng = Rng::with_seed(3);
        let mut first = 0;
        for _ in 0..10_000 {
            let order = ordered(vec![server(1, 99, "weighted"), server(1, 0, "without")], &mut rng);
            assert_eq!(order.len(), 2);
            first += u32::from(order[0].host == "without");
        }
        assert!((50..150).contains(&first), "one draw in a hundred is nought: {first}");
    }

    #[test]
    fn the_same_seed_gives_the_same_order() {
        let servers: Vec<_> = (0..16).map(|n| server(n % 2, n, &n.to_string())).collect();
        let draw = || ordered(servers.clone(), &mut Rng::with_seed(4));
        assert_eq!(draw(), draw());
        assert_eq!(ordered(Vec::new(), &mut Rng::with_seed(4)), []);
    }
}
