//! The bus over RabbitMQ. Queues are durable and named as the field names them; messages are persistent and confirmed by the
//! broker before they count as sent; a worker acknowledges after the work. What nothing can be made of goes to `bowline.dead`.
//!
//! A connection (link.rs) that is lost is made anew; meanwhile operations wait in the database, whence they are sent again.

mod link;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use lapin::message::Delivery as Message;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::{Bus, BusError, Delivery, ENDED_REMEMBERED, Receipt, SOME_MISSED};
use link::{ANSWER_WITHIN, CHANGED_EXCHANGE, DEAD_QUEUE, ENDED_EXCHANGE, Link, Links, declare};

/// AMQP's mark of a message that outlives the broker.
const PERSISTENT: u8 = 2;

/// Between tries to reach the broker: doubled each time, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// While the process starts, somebody waits for it.
const LONGEST_PAUSE_AT_START: Duration = Duration::from_secs(2);

/// The bus. Cheap to clone.
#[derive(Clone)]
pub struct RabbitBus {
    inner: Arc<Inner>,
}

struct Inner {
    links: Links,
    ended: broadcast::Sender<Uuid>,
    changed: broadcast::Sender<Uuid>,
    restored: watch::Sender<u64>,
}

impl RabbitBus {
    /// Connects to a broker, `amqp://user:password@host:port/vhost`. One that is not there yet is waited for, at most `within`; one
    /// that refuses is not.
    pub async fn connect(url: &str, within: Duration) -> Result<Self, BusError> {
        let [ended, changed] = [(); 2].map(|()| broadcast::channel(ENDED_REMEMBERED).0);
        let inner = Inner { links: Links::new(url)?, ended, changed, restored: watch::channel(0).0 };
        let bus = Self { inner: Arc::new(inner) };
        let deadline = Instant::now() + within;
        let mut pause = SHORTEST_PAUSE;
        while let Err(error) = bus.inner.links.get().await {
            if matches!(error, BusError::Refused { .. }) {
                return Err(error);
            }
            if Instant::now() + pause > deadline {
                return Err(BusError::NotThere {
                    broker: bus.inner.links.broker().to_owned(),
                    within,
                    source: Box::new(error),
                });
            }
            warn!("{}; again in {} ms", crate::volume::chain(&error), pause.as_millis());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE_AT_START);
        }
        let listener = bus.clone();
        tokio::spawn(async move { listener.keep_listening().await });
        Ok(bus)
    }

    async fn send(&self, exchange: &str, key: &str, operation_id: Uuid) -> Result<(), BusError> {
        answered("publish", self.send_by(&self.inner.links.get().await?, exchange, key, operation_id)).await
    }

    async fn send_by(&self, link: &Link, exchange: &str, key: &str, operation_id: Uuid) -> Result<(), BusError> {
        if exchange.is_empty() {
            declare(&link.publisher, key).await?;
        }
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let text = operation_id.to_string();
        let confirmed = link
            .publisher
            .basic_publish(exchange.into(), key.into(), BasicPublishOptions::default(), text.as_bytes(), properties)
            .await
            .map_err(broker("publish"))?
            .await
            .map_err(broker("publish"))?;
        match confirmed {
            Confirmation::Nack(_) => Err(BusError::NotTaken(key.to_owned())),
            _ => Ok(()),
        }
    }

    /// Listens for ends, for as long as the process runs.
    async fn keep_listening(&self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.listen().await {
                Ok(()) => pause = SHORTEST_PAUSE,
                Err(error) => {
                    warn!("cannot hear which operations end: {}", crate::volume::chain(&error));
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn listen(&self) -> Result<(), BusError> {
        let link = self.inner.links.get().await?;
        let channel = link.connection.create_channel().await.map_err(broker("open a channel"))?;
        let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), own, FieldTable::default()).await.map_err(broker("declare a queue"))?;
        let name = queue.name().clone();
        for exchange in [ENDED_EXCHANGE, CHANGED_EXCHANGE] {
            let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(name.clone(), exchange.into(), "".into(), bind, none).await.map_err(broker("bind a queue"))?;
        }
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut consumer =
            channel.basic_consume(name, "".into(), options, FieldTable::default()).await.map_err(broker("consume"))?;
        self.inner.restored.send_modify(|times| *times += 1);
        // What ended meanwhile was not heard of: whoever waits looks for itself.
        let _ = (self.inner.ended.send(SOME_MISSED), self.inner.changed.send(SOME_MISSED));
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery.map_err(broker("consume"))?;
            if let Some(id) = id_of(&delivery.data) {
                // Nobody may be listening.
                let _ = self.inner.changed.send(id);
                if delivery.exchange.as_str() == ENDED_EXCHANGE {
                    let _ = self.inner.ended.send(id);
                }
            }
        }
        Ok(())
    }

    /// Hands out what is in a queue, for as long as somebody takes it.
    async fn keep_consuming(&self, queue: String, at_once: u16, sender: mpsc::Sender<Delivery>) {
        let mut pause = SHORTEST_PAUSE;
        while !sender.is_closed() {
            match self.hand_out(&queue, at_once, &sender).await {
                Ok(()) => pause = SHORTEST_PAUSE,
                Err(error) => {
                    warn!(queue, "cannot take operations: {}; again in {} ms", crate::volume::chain(&error), pause.as_millis());
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = sender.closed() => return,
            }
        }
    }

    async fn hand_out(&self, queue: &str, at_once: u16, sender: &mpsc::Sender<Delivery>) -> Result<(), BusError> {
        let link = self.inner.links.get().await?;
        let channel = link.connection.create_channel().await.map_err(broker("open a channel"))?;
        channel.basic_qos(at_once, BasicQosOptions::default()).await.map_err(broker("limit what is handed out"))?;
        declare(&channel, queue).await?;
        let mut consumer = channel
            .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .map_err(broker("consume"))?;
        info!(queue, "taking operations");
        loop {
            let delivery = tokio::select! {
                delivery = consumer.next() => delivery,
                () = sender.closed() => return Ok(()),
            };
            let Some(delivery) = delivery else { return Ok(()) };
            let delivery = delivery.map_err(broker("consume"))?;
            let Some(operation_id) = id_of(&delivery.data) else {
                warn!(queue, "a message that is no operation's id; it goes to {DEAD_QUEUE}");
                bury(&delivery).await?;
                continue;
            };
            if sender.send(Delivery { operation_id, receipt: Receipt::Rabbit(Box::new(delivery)) }).await.is_err() {
                return Ok(());
            }
        }
    }
}

impl Bus for RabbitBus {
    fn publish<'a>(&'a self, queue: &'a str, operation_id: Uuid) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(self.send("", queue, operation_id))
    }

    fn consume<'a>(&'a self, queue: &'a str, at_once: u16) -> BoxFuture<'a, Result<mpsc::Receiver<Delivery>, BusError>> {
        let (sender, deliveries) = mpsc::channel(1);
        let bus = self.clone();
        let queue = queue.to_owned();
        tokio::spawn(async move { bus.keep_consuming(queue, at_once, sender).await });
        Box::pin(async { Ok(deliveries) })
    }

    fn announce(&self, operation_id: Uuid) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(self.send(ENDED_EXCHANGE, "", operation_id))
    }

    fn tell(&self, operation_id: Uuid) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(self.send(CHANGED_EXCHANGE, "", operation_id))
    }

    fn changed(&self) -> broadcast::Receiver<Uuid> {
        self.inner.changed.subscribe()
    }

    fn ended(&self) -> broadcast::Receiver<Uuid> {
        self.inner.ended.subscribe()
    }

    fn restored(&self) -> watch::Receiver<u64> {
        self.inner.restored.subscribe()
    }
}

pub(super) async fn ack(message: &Message) -> Result<(), BusError> {
    message.ack(BasicAckOptions::default()).await.map_err(broker("acknowledge")).map(|_| ())
}

pub(super) async fn bury(message: &Message) -> Result<(), BusError> {
    let options = BasicNackOptions { requeue: false, ..BasicNackOptions::default() };
    message.nack(options).await.map_err(broker("put a message aside")).map(|_| ())
}

/// Fuzz target: a message. It is an operation's id in one of the forms of a UUID, or nothing.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_message(data: &[u8]) {
    let Some(id) = id_of(data) else { return };
    assert!(data.len() <= "urn:uuid:".len() + 36, "{} bytes are an id", data.len());
    assert_eq!(id_of(id.to_string().as_bytes()), Some(id));
}

fn id_of(data: &[u8]) -> Option<Uuid> {
    std::str::from_utf8(data).ok().and_then(|text| Uuid::parse_str(text).ok())
}

/// Waits for the broker's answer, and not for ever.
async fn answered<T>(operation: &'static str, asked: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    tokio::time::timeout(ANSWER_WITHIN, asked).await.unwrap_or(Err(BusError::Silent { operation, within: ANSWER_WITHIN }))
}

fn broker(operation: &'static str) -> impl FnOnce(lapin::Error) -> BusError {
    move |source| BusError::Broker { operation, source: Box::new(source) }
}
