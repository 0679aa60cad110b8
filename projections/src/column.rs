//! How a field of a row is kept in Postgres: one Rust type, one column type.

use std::error::Error;
use std::fmt::Debug;

use bytes::BytesMut;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shopstream_domain::inventory::ReleaseReason;
use shopstream_domain::order::{CancelReason, Stage, TimerKind};
use shopstream_domain::payment::PaymentStatus;
use shopstream_domain::returns::ReturnStatus;
use shopstream_domain::{
    Currency, CustomerId, LocationId, OrderId, PaymentId, ProductId, ReservationId, ReturnId, Sku, StreamId,
    TenantId, Timestamp,
};
use tokio_postgres::types::{FromSql, FromSqlOwned, IsNull, Json, ToSql, Type, accepts, to_sql_checked};

/// What a stored value says that its type cannot mean.
pub(crate) type Unreadable = Box<dyn Error + Sync + Send>;

/// A type that is a column.
pub(crate) trait Column: Sized {
    /// The type's name in SQL.
    const SQL: &'static str;
    /// Whether the column may be null.
    const NULLABLE: bool = false;
    /// How a value goes to Postgres; borrowed, since rows are written from memory that stays.
    type Wire<'a>: ToSql + Sync + Send
    where
        Self: 'a;
    /// How it comes back.
    type Stored: FromSqlOwned;

    fn wire(&self) -> Self::Wire<'_>;
    fn read(stored: Self::Stored) -> Result<Self, Unreadable>;
}

/// Types that Postgres takes as they are.
macro_rules! plain {
    ($($type:ty => $sql:literal),+ $(,)?) => {$(
        impl Column for $type {
            const SQL: &'static str = $sql;
            type Wire<'a> = $type;
            type Stored = $type;

            fn wire(&self) -> $type {
                *self
            }

            fn read(stored: $type) -> Result<Self, Unreadable> {
                Ok(stored)
            }
        }
    )+};
}

plain!(bool => "bool", i32 => "int4", i64 => "int8");

/// Unsigned numbers, in the smallest signed type that holds the values that occur.
macro_rules! unsigned {
    ($($type:ty as $wire:ty => $sql:literal),+ $(,)?) => {$(
        impl Column for $type {
            const SQL: &'static str = $sql;
            type Wire<'a> = $wire;
            type Stored = $wire;

            fn wire(&self) -> $wire {
                // Versions, offsets and partitions never come near the sign bit; what did would not come back.
                *self as $wire
            }

            fn read(stored: $wire) -> Result<Self, Unreadable> {
                Ok(stored.try_into()?)
            }
        }
    )+};
}

unsigned!(u16 as i32 => "int4", u32 as i64 => "int8", u64 as i64 => "int8");

impl Column for String {
    const SQL: &'static str = "text";
    type Wire<'a> = &'a str;
    type Stored = String;

    fn wire(&self) -> &str {
        self
    }

    fn read(stored: String) -> Result<Self, Unreadable> {
        Ok(stored)
    }
}

/// Ids and codes: text that is checked when it is read.
macro_rules! text {
    ($($type:ty: $as_str:ident),+ $(,)?) => {$(
        impl Column for $type {
            const SQL: &'static str = "text";
            type Wire<'a> = &'a str;
            type Stored = String;

            fn wire(&self) -> &str {
                self.$as_str()
            }

            fn read(stored: String) -> Result<Self, Unreadable> {
                Ok(stored.try_into()?)
            }
        }
    )+};
}

text!(
    TenantId: as_str,
    ProductId: as_str,
    OrderId: as_str,
    ReservationId: as_str,
    PaymentId: as_str,
    ReturnId: as_str,
    CustomerId: as_str,
    Sku: as_str,
    LocationId: as_str,
    Currency: code,
);

impl Column for StreamId {
    const SQL: &'static str = "text";
    type Wire<'a> = &'a str;
    type Stored = String;

    fn wire(&self) -> &str {
        self.as_str()
    }

    fn read(stored: String) -> Result<Self, Unreadable> {
        Ok(stored.parse()?)
    }
}

/// Enums without fields, by the word that serde gives them.
macro_rules! words {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::column::Column for $type {
            const SQL: &'static str = "text";
            type Wire<'a> = $crate::column::Word<'a, $type>;
            type Stored = String;

            fn wire(&self) -> $crate::column::Word<'_, $type> {
                $crate::column::Word(self)
            }

            fn read(stored: String) -> Result<Self, $crate::column::Unreadable> {
                let word = serde::de::value::StringDeserializer::<serde::de::value::Error>::new(stored);
                Ok(serde::Deserialize::deserialize(word)?)
            }
        }
    )+};
}
pub(crate) use words;

words!(CancelReason, PaymentStatus, ReleaseReason, ReturnStatus, Stage, TimerKind);

/// An enum as the word that serde gives it.
#[derive(Debug)]
pub(crate) struct Word<'a, T>(pub(crate) &'a T);

impl<T: Serialize + Debug> ToSql for Word<'_, T> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Unreadable> {
        match serde_json::to_value(self.0)? {
            serde_json::Value::String(word) => word.to_sql(ty, out),
            other => Err(format!("{other} is not a word").into()),
        }
    }

    accepts!(TEXT);
    to_sql_checked!();
}

impl<T: Serialize + DeserializeOwned + Debug + Send + Sync> Column for Vec<T> {
    const SQL: &'static str = "jsonb";
    type Wire<'a>
        = Json<&'a [T]>
    where
        T: 'a;
    type Stored = Json<Self>;

    fn wire(&self) -> Json<&[T]> {
        Json(self)
    }

    fn read(stored: Json<Self>) -> Result<Self, Unreadable> {
        Ok(stored.0)
    }
}

/// An aggregate's own folded state, kept in a row so that the row never says otherwise than the aggregate would.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folded<A>(pub A);

impl<A: Serialize + DeserializeOwned + Debug + Send + Sync> Column for Folded<A> {
    const SQL: &'static str = "jsonb";
    type Wire<'a>
        = Json<&'a A>
    where
        A: 'a;
    type Stored = Json<A>;

    fn wire(&self) -> Json<&A> {
        Json(&self.0)
    }

    fn read(stored: Json<A>) -> Result<Self, Unreadable> {
        Ok(Self(stored.0))
    }
}

impl<T: Column> Column for Option<T> {
    const SQL: &'static str = T::SQL;
    const NULLABLE: bool = true;
    type Wire<'a>
        = Option<T::Wire<'a>>
    where
        T: 'a;
    type Stored = Option<T::Stored>;

    fn wire(&self) -> Option<T::Wire<'_>> {
        self.as_ref().map(T::wire)
    }

    fn read(stored: Option<T::Stored>) -> Result<Self, Unreadable> {
        stored.map(T::read).transpose()
    }
}

impl Column for Timestamp {
    const SQL: &'static str = "timestamptz";
    type Wire<'a> = Instant;
    type Stored = Instant;

    fn wire(&self) -> Instant {
        Instant(*self)
    }

    fn read(stored: Instant) -> Result<Self, Unreadable> {
        Ok(stored.0)
    }
}

/// A timestamp as Postgres sends it: microseconds since 2000-01-01T00:00:00Z, to the microsecond ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instant(pub(crate) Timestamp);

const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

impl ToSql for Instant {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Unreadable> {
        self.0.micros().saturating_sub(POSTGRES_EPOCH_MICROS).to_sql(ty, out)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Instant {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Unreadable> {
        let micros = i64::from_sql(ty, raw)?;
        Ok(Self(Timestamp::from_micros(micros.saturating_add(POSTGRES_EPOCH_MICROS))))
    }

    accepts!(TIMESTAMPTZ);
}

/// JSON text exactly as it is, for columns of type `json`, which keep it so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawJson<'a>(pub(crate) &'a [u8]);

impl ToSql for RawJson<'_> {
    fn to_sql(&self, _ty: &Type, out: &mut BytesMut) -> Result<IsNull, Unreadable> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    accepts!(JSON);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for RawJson<'a> {
    fn from_sql(_ty: &Type, raw: &'a [u8]) -> Result<Self, Unreadable> {
        Ok(Self(raw))
    }

    accepts!(JSON);
}
