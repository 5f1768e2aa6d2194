//! How often is an operator warned of the same?
//!
//! Whoever sends the requests must not be able to fill the disk: each subject is spoken of once in an interval, peers by
//! their network, and there are only so many subjects.

use std::net::IpAddr;

/// Seconds between two warnings about the same.
pub const WARNING_INTERVAL_S: u64 = 60;

/// Most subjects within [`WARNING_INTERVAL_S`].
pub const MAX_WARNINGS: usize = 100;

/// The network by which a peer is warned of: an IPv4 /24 or an IPv6 /48.
pub fn warning_network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) & 0xffff_ff00).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 80 << 80).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_one_of_its_network() {
        for (address, network) in [
            ("192.0.2.200", "192.0.2.0"),
            ("0.0.0.1", "0.0.0.0"),
            ("2001:db8:1:2::3", "2001:db8:1::"),
            ("::ffff:192.0.2.1", "::"),
        ] {
            let address = address.parse().map(warning_network);
            assert_eq!(address, network.parse(), "{network}");
        }
    }
}
