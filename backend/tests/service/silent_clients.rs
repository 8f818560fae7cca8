//! Clients that connect and fall silent must not keep the others from their answers.

use std::time::{Duration, Instant};

use crate::common::Service;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn connect(service: &Service, say: &str) -> TcpStream {
    let address = service.url.strip_prefix("http://").unwrap().strip_suffix("/v3").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(say.as_bytes()).await.unwrap();
    stream
}

/// What the service says until it closes the connection, which it must.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut text)).await;
    // How it ends, in order or not, is no matter.
    assert!(end.is_ok(), "the connection stays open");
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn more_of_them_than_it_has_room_for_are_got_rid_of() {
    let mut service = Service::prepare();
    service.open_files = Some(400);
    service.start_again();
    let token = service.token();
    let body = format!("POST /v3/volumes HTTP/1.1\r\nhost: x\r\nx-auth-token: {token}\r\ncontent-length: 50\r\n\r\n{{");
    let begun = Instant::now();
    let mut silent = Vec::new();
    for n in 0..240 {
        silent.push(connect(&service, ["", "GET /v3/volumes HTTP/1.1\r\nhos", &body][n % 3]).await);
    }
    assert_eq!(service.get("/volumes").await.status, 200, "{}", service.log());
    assert!(begun.elapsed() < Duration::from_secs(40), "it took {} s", begun.elapsed().as_secs());
    let said = rest(silent.get_mut(2).unwrap()).await;
    assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("requestTimeout"), "{said}");
    assert_eq!(rest(silent.get_mut(0).unwrap()).await, "");
}

#[tokio::test]
async fn a_client_that_asks_every_ten_seconds_keeps_its_connection() {
    let service = Service::start();
    let ask = format!("GET /v3/volumes HTTP/1.1\r\nhost: x\r\nx-auth-token: {}\r\n\r\n", service.token());
    let mut buffer = [0; 4096];
    for _ in 0..5 {
        let mut stream = connect(&service, &ask).await;
        let begun = Instant::now();
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        tokio::time::sleep_until((begun + Duration::from_secs(10)).into()).await;
        // A machine so busy that this client was late itself shows nothing.
        let late = begun.elapsed() > Duration::from_millis(11_500);
        let sent = stream.write_all(ask.as_bytes()).await;
        if late {
            continue;
        }
        sent.unwrap();
        assert!(stream.read(&mut buffer).await.unwrap() > 0, "closed in its face");
        return;
    }
    panic!("the machine is too slow to ask every ten seconds");
}
