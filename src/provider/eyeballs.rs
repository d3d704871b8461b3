//! Connects to a name that has several addresses (Happy Eyeballs, RFC 8305): the next address is tried before the one
//! before it has failed, so that one that swallows packets never takes the whole time.

use super::guard::Unreachable;
use futures::{StreamExt, stream::FuturesUnordered};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// How long an address has for itself (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// So many addresses of a name are tried. More would be a scan, and the resolver is the tenant's.
const MAX_ADDRESSES: usize = 16;

/// Makes a connection to the first of these addresses that takes one. The time is divided over them, but it is the caller
/// who ends it.
///
/// # Errors
/// What the last one said that failed.
pub(super) async fn connect(addresses: Vec<SocketAddr>, within: Duration) -> Result<TcpStream, Unreachable> {
    let mut waiting = by_turns(addresses).into_iter();
    let each = within / u32::try_from(waiting.len().max(1)).unwrap_or(u32::MAX);
    let head_start = HEAD_START.min(each);
    let mut under_way = FuturesUnordered::new();
    let mut failed = Unreachable::Name(io::Error::other("it has no address"));
    loop {
        if let Some(address) = waiting.next() {
            under_way.push(async move {
                TcpStream::connect(address).await.map_err(|error| Unreachable::Connect(address, error))
            });
        }
        let ended = if waiting.len() == 0 {
            under_way.next().await
        } else {
            match timeout(head_start, under_way.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failed = error,
            None => return Err(failed),
        }
    }
}

/// The families take turns (RFC 8305 section 4), that of the first address first. Within a family the resolver's order
/// stays (RFC 6724).
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    first.truncate(MAX_ADDRESSES);
    second.truncate(MAX_ADDRESSES);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let turns = std::iter::from_fn(|| {
        let turn: Vec<_> = first.next().into_iter().chain(second.next()).collect();
        (!turn.is_empty()).then_some(turn)
    });
    turns.flatten().take(MAX_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        net::{TcpListener, TcpSocket},
        time::Instant,
    };

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let table = [
            (vec![], vec![]),
            (vec!["1.1.1.1:1", "1.1.1.2:1"], vec!["1.1.1.1:1", "1.1.1.2:1"]),
            (
                vec!["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"],
                vec!["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"],
            ),
            (vec!["1.1.1.1:1", "1.1.1.2:1", "[::1]:1"], vec!["1.1.1.1:1", "[::1]:1", "1.1.1.2:1"]),
        ];
        for (found, order) in table {
            assert_eq!(by_turns(addresses(&found)), addresses(&order));
        }
        let many: Vec<_> = (0..100).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        assert_eq!(by_turns(many.clone()), many[..MAX_ADDRESSES]);
    }

    #[tokio::test]
    async fn one_that_swallows_packets_costs_its_share() {
        // A listener whose queue is full answers no further connection.
        let hole = TcpSocket::new_v4().unwrap();
        hole.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (swallows, _hole) = (hole.local_addr().unwrap(), hole.listen(1).unwrap());
        let mut queue = Vec::new();
        while let Ok(Ok(queued)) = timeout(HEAD_START, TcpStream::connect(swallows)).await {
            queue.push(queued);
        }
        let serves = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for within in [Duration::from_millis(200), Duration::from_secs(60)] {
            let began = Instant::now();
            let stream = connect(vec![swallows, serves.local_addr().unwrap()], within).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), serves.local_addr().unwrap());
            let share = HEAD_START.min(within / 2);
            assert!((share..share * 4).contains(&began.elapsed()), "{:?} of {within:?}", began.elapsed());
        }
    }

    #[tokio::test]
    async fn one_that_refuses_costs_no_time() {
        let refuses = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let serves = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = serves.local_addr().unwrap();
        let began = Instant::now();
        let stream = connect(vec![refuses, second], Duration::from_secs(60)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), second);
        assert!(began.elapsed() < HEAD_START);
        let refused = connect(vec![refuses], Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(refused, Unreachable::Connect(address, _) if address == refuses));
        let nowhere = connect(Vec::new(), Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(nowhere, Unreachable::Name(_)));
    }
}
