//! How is a port kept free for a process that does not run yet?
//!
//! A socket is bound to it and never listens. Linux gives such a port to nobody who asks for any free one, and still lets
//! it be taken by whoever asks for this very one with `SO_REUSEADDR`, as servers do (socket(7)).

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A loopback port that nobody is given by chance, until this is dropped.
#[derive(Debug)]
pub struct ReservedPort {
    number: u16,
    _socket: Socket,
}

impl ReservedPort {
    /// Reserves a port that is free.
    ///
    /// # Errors
    ///
    /// If there is none.
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

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn it_is_taken_by_its_number_again_and_again() {
        let port = ReservedPort::any().expect("a port");
        for _ in 0..2 {
            // The standard library sets SO_REUSEADDR.
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).expect("bound");
            let _client =
                TcpStream::connect(server.local_addr().expect("address")).expect("a connection");
            server.accept().expect("accepted");
        }
    }

    /// A port that is given out by chance is one that could be bound without `SO_REUSEADDR`.
    #[test]
    fn nobody_is_given_it_by_chance() {
        let port = ReservedPort::any().expect("a port");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number())).into();
        let stranger = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let error = stranger.bind(&address).expect_err("it is taken");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        drop(port);
        stranger.bind(&address).expect("it is free again");
    }
}
