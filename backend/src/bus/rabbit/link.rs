//! The connection to the broker: one for a process, made anew where it was lost.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::sync::Mutex;

use super::{BusError, answered, broker};
use crate::secret::Secret;

/// Where messages go that nothing can be made of.
pub(super) const DEAD_QUEUE: &str = "bowline.dead";

/// Where ends are announced to everybody.
pub(super) const ENDED_EXCHANGE: &str = "bowline.ended";

/// Where news of operations under way is told to everybody.
pub(super) const CHANGED_EXCHANGE: &str = "bowline.changed";

/// How long the broker may take for an answer; then it counts as away.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A connection and its channel for publishing.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: Arc<Connection>,
    pub(super) publisher: Channel,
}

/// Where the broker is, and the connection to it while there is one.
pub(super) struct Links {
    /// Holds a password.
    url: Secret,
    /// `address:port`, for people.
    broker: String,
    link: Mutex<Option<Link>>,
}

impl Links {
    pub(super) fn new(url: &str) -> Result<Self, BusError> {
        let uri: AMQPUri = url.parse().map_err(|problem| BusError::Url { problem })?;
        let broker = format!("{}:{}", uri.authority.host, uri.authority.port);
        Ok(Self { url: Secret::new(url.to_owned()), broker, link: Mutex::default() })
    }

    pub(super) fn broker(&self) -> &str {
        &self.broker
    }

    /// The connection there is, or a new one.
    pub(super) async fn get(&self) -> Result<Link, BusError> {
        let mut link = self.link.lock().await;
        if let Some(link) = link.as_ref().filter(|link| link.publisher.status().connected()) {
            return Ok(link.clone());
        }
        let made = answered("connect", self.open()).await?;
        *link = Some(made.clone());
        Ok(made)
    }

    async fn open(&self) -> Result<Link, BusError> {
        let properties = ConnectionProperties::default()
            .with_connection_name("bowline-backend".into())
            // Whoever asks tries again by itself, and says so in the log.
            .configure_backoff(|backoff| backoff.with_max_times(0));
        let connection = Connection::connect(self.url.reveal(), properties).await.map_err(|source| {
            let source = Box::new(source);
            if source.is_amqp_error() {
                BusError::Refused { broker: self.broker.clone(), source }
            } else {
                BusError::Connect { broker: self.broker.clone(), source }
            }
        })?;
        let publisher = connection.create_channel().await.map_err(broker("open a channel"))?;
        publisher.confirm_select(ConfirmSelectOptions::default()).await.map_err(broker("ask for confirmations"))?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        publisher
            .queue_declare(DEAD_QUEUE.into(), durable, FieldTable::default())
            .await
            .map_err(broker("declare the dead-letter queue"))?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        for exchange in [ENDED_EXCHANGE, CHANGED_EXCHANGE] {
            publisher
                .exchange_declare(exchange.into(), ExchangeKind::Fanout, options, FieldTable::default())
                .await
                .map_err(broker("declare an exchange"))?;
        }
        Ok(Link { connection: Arc::new(connection), publisher })
    }
}

/// Makes sure a queue is there, with its way out for dead letters.
pub(super) async fn declare(channel: &Channel, queue: &str) -> Result<(), BusError> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
    arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(DEAD_QUEUE.into()));
    channel.queue_declare(queue.into(), durable, arguments).await.map_err(broker("declare a queue"))?;
    Ok(())
}
