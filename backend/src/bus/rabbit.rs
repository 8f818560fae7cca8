//! The bus over RabbitMQ. Queues are durable and named as the field names them; messages are persistent and confirmed by the
//! broker before they count as sent; a worker acknowledges after the work. What nothing can be made of goes to `bowline.dead`.
//!
//! A connection that is lost is made anew; meanwhile operations wait in the database, whence they are sent again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use lapin::message::Delivery as Message;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};
use tokio::sync::{Mutex, broadcast, mpsc};
use tracing::{info, warn};
use uuid::Uuid;

use super::{Bus, BusError, Delivery, ENDED_REMEMBERED, Receipt};
use crate::secret::Secret;

/// Where messages go that nothing can be made of.
const DEAD_QUEUE: &str = "bowline.dead";

/// Where ends are announced to everybody.
const ENDED_EXCHANGE: &str = "bowline.ended";

/// AMQP's mark of a message that outlives the broker.
const PERSISTENT: u8 = 2;

/// Between tries to reach the broker: doubled each time, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The bus. Cheap to clone.
#[derive(Clone)]
pub struct RabbitBus {
    inner: Arc<Inner>,
}

struct Inner {
    /// Holds a password.
    url: Secret,
    link: Mutex<Option<Link>>,
    ended: broadcast::Sender<Uuid>,
}

/// A connection and its channel for publishing.
#[derive(Clone)]
struct Link {
    connection: Arc<Connection>,
    publisher: Channel,
}

impl RabbitBus {
    /// Connects to a broker, `amqp://user:password@host:port/vhost`.
    pub async fn connect(url: &str) -> Result<Self, BusError> {
        let (ended, _) = broadcast::channel(ENDED_REMEMBERED);
        let bus = Self { inner: Arc::new(Inner { url: Secret::new(url.to_owned()), link: Mutex::default(), ended }) };
        bus.link().await?;
        let listener = bus.clone();
        tokio::spawn(async move { listener.keep_listening().await });
        Ok(bus)
    }

    /// The connection there is, or a new one.
    async fn link(&self) -> Result<Link, BusError> {
        let mut link = self.inner.link.lock().await;
        if let Some(link) = link.as_ref().filter(|link| link.publisher.status().connected()) {
            return Ok(link.clone());
        }
        let properties = ConnectionProperties::default().with_connection_name("bowline-backend".into());
        let connection = Connection::connect(self.inner.url.reveal(), properties).await.map_err(broker("connect"))?;
        let publisher = connection.create_channel().await.map_err(broker("open a channel"))?;
        publisher.confirm_select(ConfirmSelectOptions::default()).await.map_err(broker("ask for confirmations"))?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        publisher
            .queue_declare(DEAD_QUEUE.into(), durable, FieldTable::default())
            .await
            .map_err(broker("declare the dead-letter queue"))?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        publisher
            .exchange_declare(ENDED_EXCHANGE.into(), ExchangeKind::Fanout, options, FieldTable::default())
            .await
            .map_err(broker("declare an exchange"))?;
        let made = Link { connection: Arc::new(connection), publisher };
        *link = Some(made.clone());
        Ok(made)
    }

    async fn send(&self, exchange: &str, key: &str, operation_id: Uuid) -> Result<(), BusError> {
        let link = self.link().await?;
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
        let link = self.link().await?;
        let channel = link.connection.create_channel().await.map_err(broker("open a channel"))?;
        let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), own, FieldTable::default()).await.map_err(broker("declare a queue"))?;
        let name = queue.name().clone();
        channel
            .queue_bind(name.clone(), ENDED_EXCHANGE.into(), "".into(), QueueBindOptions::default(), FieldTable::default())
            .await
            .map_err(broker("bind a queue"))?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut consumer =
            channel.basic_consume(name, "".into(), options, FieldTable::default()).await.map_err(broker("consume"))?;
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery.map_err(broker("consume"))?;
            if let Some(id) = id_of(&delivery.data) {
                // Nobody may be listening.
                let _ = self.inner.ended.send(id);
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
        let link = self.link().await?;
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

    fn ended(&self) -> broadcast::Receiver<Uuid> {
        self.inner.ended.subscribe()
    }
}

/// Makes sure a queue is there, with its way out for dead letters.
async fn declare(channel: &Channel, queue: &str) -> Result<(), BusError> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
    arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(DEAD_QUEUE.into()));
    channel.queue_declare(queue.into(), durable, arguments).await.map_err(broker("declare a queue"))?;
    Ok(())
}

pub(super) async fn ack(message: &Message) -> Result<(), BusError> {
    message.ack(BasicAckOptions::default()).await.map_err(broker("acknowledge")).map(|_| ())
}

pub(super) async fn bury(message: &Message) -> Result<(), BusError> {
    let options = BasicNackOptions { requeue: false, ..BasicNackOptions::default() };
    message.nack(options).await.map_err(broker("put a message aside")).map(|_| ())
}

fn id_of(data: &[u8]) -> Option<Uuid> {
    std::str::from_utf8(data).ok().and_then(|text| Uuid::parse_str(text).ok())
}

fn broker(operation: &'static str) -> impl FnOnce(lapin::Error) -> BusError {
    move |source| BusError::Broker { operation, source: Box::new(source) }
}
