//! Whether a cluster's monitors are there.

use crate::model::{Fault, Health, Portal};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};

/// How long a monitor may take to accept a connection: it is on the storage network.
const LIMIT: Duration = Duration::from_secs(3);

/// Opens a connection to each, all at once. Any one that answers is enough for a client, which learns of the others from it.
pub(super) async fn health(monitors: &[Portal]) -> Health {
    let faults = join_all(monitors.iter().map(|monitor| async move {
        let problem = match timeout(LIMIT, TcpStream::connect((monitor.host.as_str(), monitor.port))).await {
            Ok(Ok(_)) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("does not answer within {} s", LIMIT.as_secs()),
        };
        Some(Fault { part: format!("monitor {monitor}"), problem })
    }))
    .await;
    Health::of_parts(monitors.len(), faults.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_monitor_that_answers_is_enough() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there: Portal = listener.local_addr().unwrap().to_string().parse().unwrap();
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string().parse().unwrap();
        assert_eq!(health(std::slice::from_ref(&there)).await, Health::Healthy);
        let degraded = health(&[there, gone]).await;
        assert!(matches!(&degraded, Health::Degraded(faults) if faults[0].problem.contains("refused")), "{degraded:?}");
        let gone = degraded.faults()[0].part.strip_prefix("monitor ").unwrap().parse().unwrap();
        assert_eq!(health(&[gone]).await.as_str(), "lost");
    }
}
