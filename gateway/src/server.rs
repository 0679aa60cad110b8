//! The door: all services behind one address, with the limits that keep a stranger from taking more than a share.

use std::sync::Arc;

use shopstream_domain::Context;
use shopstream_proto::admin::v1::admin_service_server::AdminServiceServer;
use shopstream_proto::catalog::v1::product_service_server::ProductServiceServer;
use shopstream_proto::event::v1::event_service_server::EventServiceServer;
use shopstream_proto::inventory::v1::inventory_service_server::InventoryServiceServer;
use shopstream_proto::node::v1::node_service_server::NodeServiceServer;
use shopstream_proto::order::v1::order_service_server::OrderServiceServer;
use shopstream_proto::payment::v1::payment_service_server::PaymentServiceServer;
use shopstream_proto::process::v1::process_service_server::ProcessServiceServer;
use shopstream_proto::returns::v1::return_service_server::ReturnServiceServer;
use tokio::net::TcpListener;
use tonic::service::{Routes, RoutesBuilder};
use tower::Layer as _;

use crate::admin::Admin;
use crate::catalog::Catalog;
use crate::connections;
use crate::event::Events;
use crate::inventory::Inventory;
use crate::live::Live;
use crate::node::Node;
use crate::order::Orders;
use crate::payment::Payments;
use crate::peers::NODE_MESSAGE_MAX;
use crate::places::Places;
use crate::positions::LogName;
use crate::process::Processes;
use crate::returns::Returns;
use crate::rpc::{Methods, Watch, Watched};
use crate::shares::Shares;
use crate::shop::{Means, Shop};

/// The largest message that is taken, in bytes.
pub const MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// The largest message that is sent, in bytes: an order of 1,000 lines is far below it.
const ANSWER_MAX: usize = 16 * 1024 * 1024;
/// The limits that every service has, whatever its type.
macro_rules! limited {
    ($service:expr) => {
        $service
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(ANSWER_MAX)
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip)
    };
}
/// Why the gateway does not start or has ended.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The protos inside this program do not parse: it was not built right.
    #[error("the descriptors of the protos do not parse")]
    Descriptors(#[from] prost::DecodeError),
    /// Reflection cannot be offered.
    #[error("reflection does not start")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// All services, ready to be served.
pub struct Gateway {
    routes: Routes,
    methods: Methods,
    means: Means,
    live: Live,
    shares: Arc<Shares>,
}

impl Gateway {
    /// Makes the services and begins to follow the log for them. Within a tokio runtime.
    ///
    /// # Errors
    /// See [`GatewayError`].
    pub fn new(means: Means) -> Result<Self, GatewayError> {
        let shop = Shop::open(means.clone());
        let live = shop.live.clone();
        let mut routes = Routes::builder();
        if means.takes_calls {
            for context in Context::ALL {
                add(&mut routes, context, &shop);
            }
            routes.add_service(limited!(ProcessServiceServer::new(Processes { shop: shop.clone() })));
            add_reflection(&mut routes)?;
        }
        routes.add_service(limited!(AdminServiceServer::new(Admin { shop: shop.clone() })));
        routes.add_service(limited!(EventServiceServer::new(Events { shop })));
        if means.has_peers {
            let node = NodeServiceServer::new(Node { commands: means.commands.clone() });
            routes.add_service(
                node.max_decoding_message_size(NODE_MESSAGE_MAX).max_encoding_message_size(NODE_MESSAGE_MAX),
            );
        }
        add_health(&mut routes, &means);
        let methods = Methods::of(&[
            shopstream_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ])?;
        let shares = Arc::new(Shares::new(means.policy.limits()));
        Ok(Self { routes: routes.routes().prepare(), methods, means, live, shares })
    }

    /// Serves until the means' `stop`, then finishes the calls that are under way: streams end by themselves then,
    /// and whoever waits for this should do so with patience of his own.
    pub async fn serve(self, listener: TcpListener) {
        tokio::select! {
            biased;
            () = self.means.stop.cancelled() => return,
            () = self.live.started() => {}
        }
        let (shares, stop) = (self.shares.clone(), self.means.stop.clone());
        connections::serve(listener, self.watched(), shares, stop).await;
    }

    /// All services for a caller in this process, who needs no connection: the way of a call from its metadata on is the
    /// same. Answers once there is a live feed to listen to.
    pub async fn in_process(self) -> Watched<Routes> {
        self.live.started().await;
        self.watched()
    }

    fn watched(self) -> Watched<Routes> {
        let watch = Watch {
            methods: self.methods,
            places: Places::new(self.means.policy.calls_max),
            arriving: Arc::default(),
            log: LogName::of(self.means.log.topology()),
        };
        watch.layer(self.routes)
    }
}

/// The service of a context. A new context stops the build here until somebody says how it is spoken to.
fn add(routes: &mut RoutesBuilder, context: Context, shop: &Shop) {
    let shop = shop.clone();
    match context {
        Context::Catalog => routes.add_service(limited!(ProductServiceServer::new(Catalog { shop }))),
        // SetPrice is ProductService's (`rulings.md` 3).
        Context::Pricing | Context::Requests => routes,
        Context::Inventory => routes.add_service(limited!(InventoryServiceServer::new(Inventory { shop }))),
        Context::Order => routes.add_service(limited!(OrderServiceServer::new(Orders { shop }))),
        Context::Payment => routes.add_service(limited!(PaymentServiceServer::new(Payments { shop }))),
        Context::Returns => routes.add_service(limited!(ReturnServiceServer::new(Returns { shop }))),
    };
}

/// Both versions: grpcurl asks for v1, older tools for v1alpha.
fn add_reflection(routes: &mut RoutesBuilder) -> Result<(), GatewayError> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(shopstream_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // What the details of every error are made of: without it nobody's tools can show them.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    routes.add_service(builder().build_v1()?);
    routes.add_service(builder().build_v1alpha()?);
    Ok(())
}

fn add_health(routes: &mut RoutesBuilder, means: &Means) {
    let (reporter, service) = tonic_health::server::health_reporter();
    routes.add_service(service);
    let Means { commands, read_side, stop, .. } = means.clone();
    tokio::spawn(crate::health::watch(reporter, commands, read_side, stop));
}
