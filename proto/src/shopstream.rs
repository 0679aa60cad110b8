//! The tree of proto packages, one module per package.

/// What operators ask of a node.
pub mod admin {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("shopstream.admin.v1");
    }
}

/// Products, variants and list prices.
pub mod catalog {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("shopstream.catalog.v1");
    }
}

/// The log itself: reading events, and how each partition is.
pub mod event {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("shopstream.event.v1");
    }
}

/// Stock levels and reservations.
pub mod inventory {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("shopstream.inventory.v1");
    }
}

/// What the nodes of one shop ask of each other; not part of the shop's API.
pub mod node {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("shopstream.node.v1");
    }
}

/// Orders, from draft to confirmed or cancelled.
pub mod order {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("shopstream.order.v1");
    }
}

/// Payments: attempts, captures, refunds and what the provider reports.
pub mod payment {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("shopstream.payment.v1");
    }
}

/// The processes that span aggregates, where they need a person.
pub mod process {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("shopstream.process.v1");
    }
}

/// What the payment provider simulator speaks; not part of the shop's own API.
pub mod provider {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("shopstream.provider.v1");
    }
}

/// Returns: goods come back, money goes back.
pub mod returns {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("shopstream.returns.v1");
    }
}

/// What all packages share: money, positions.
pub mod r#type {
    /// Version 1.
    pub mod v1 {
        // prost names the file with the escaped keyword.
        tonic::include_proto!("shopstream.r#type.v1");
    }
}
