//! Reserves a port for a process that does not run yet.
//!
//! A socket is bound to the port and never listens. Linux does not assign such a port to a process that asks for any free
//! one, but lets a server bind to it explicitly with `SO_REUSEADDR` (socket(7)).

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A loopback port that the system does not assign to another process until this is dropped.
#[derive(Debug)]
pub struct ReservedPort {
    number: u16,
    _socket: Socket,
}

impl ReservedPort {
    /// Reserves a free port.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub fn any() -> std::io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| std::io::Error::other("the address has no port"))?;
        Ok(Self {
            number: address.port(),
            _socket: socket,
        })
    }

    /// Returns the port number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use fluxlit_support::wait::wait_for;

    use super::*;

    #[test]
    fn a_server_can_bind_to_it_repeatedly() {
        let port = ReservedPort::any().expect("a port");
        for _ in 0..2 {
            // The standard library sets SO_REUSEADDR. A process that another test starts has the socket of the first server
            // until it executes its program.
            let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).ok();
            let server = wait_for(Duration::from_secs(60), bind).expect("bound");
            let _client =
                TcpStream::connect(server.local_addr().expect("address")).expect("a connection");
            server.accept().expect("accepted");
        }
    }

    /// The system assigns only ports that can be bound without `SO_REUSEADDR`.
    #[test]
    fn it_is_not_assigned_to_others() {
        let port = ReservedPort::any().expect("a port");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number())).into();
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let error = other.bind(&address).expect_err("it is taken");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        drop(port);
        other.bind(&address).expect("it is free again");
    }
}
