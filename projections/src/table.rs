//! A table declared by the struct of its rows: the SQL that makes, reads and writes it follows from the fields.

use std::marker::PhantomData;

use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;

use crate::DatabaseError;
use crate::column::Unreadable;

/// The values of one column over several rows, as one array parameter.
pub(crate) type ColumnArray<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// A struct that is a row. Made by [`table!`].
pub(crate) trait Row: Sized + Send + Sync + 'static {
    /// The table's name within its schema.
    const NAME: &'static str;
    /// All columns: those of the key first.
    const COLUMNS: &'static [ColumnSpec];
    /// How many of them are the key.
    const KEY: usize;
    /// What else is indexed: the text after `ON table`.
    const INDEXES: &'static [&'static str];

    /// The row whose columns begin at `first` of a result.
    fn read(row: &tokio_postgres::Row, first: usize) -> Result<Self, Unreadable>;

    /// One array per column.
    fn arrays<'a>(rows: &[&'a Self]) -> Vec<ColumnArray<'a>>;
}

/// One column.
#[derive(Debug)]
pub(crate) struct ColumnSpec {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
    pub(crate) nullable: bool,
}

/// Declares a row struct and with it the table `$table`.
macro_rules! table {
    (
        $(#[$meta:meta])*
        pub struct $row:ident in $table:literal {
            key { $($(#[$kmeta:meta])* $key:ident: $kty:ty,)+ }
            $($(#[$cmeta:meta])* $col:ident: $cty:ty,)*
        }
        $(index $index:literal)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $row {
            $($(#[$kmeta])* pub $key: $kty,)+
            $($(#[$cmeta])* pub $col: $cty,)*
        }

        impl $crate::table::Row for $row {
            const NAME: &'static str = $table;
            const COLUMNS: &'static [$crate::table::ColumnSpec] = &[
                $($crate::table::column_spec!($key: $kty),)+
                $($crate::table::column_spec!($col: $cty),)*
            ];
            const KEY: usize = [$(stringify!($key)),+].len();
            const INDEXES: &'static [&'static str] = &[$($index),*];

            fn read(
                row: &tokio_postgres::Row,
                first: usize,
            ) -> Result<Self, $crate::column::Unreadable> {
                let mut columns = first..;
                let mut next = || columns.next().unwrap_or_default();
                Ok(Self {
                    $($key: <$kty as $crate::column::Column>::read(row.try_get(next())?)?,)+
                    $($col: <$cty as $crate::column::Column>::read(row.try_get(next())?)?,)*
                })
            }

            fn arrays<'a>(rows: &[&'a Self]) -> Vec<$crate::table::ColumnArray<'a>> {
                use $crate::column::Column as _;
                vec![
                    $(Box::new(rows.iter().map(|row| row.$key.wire()).collect::<Vec<_>>()),)+
                    $(Box::new(rows.iter().map(|row| row.$col.wire()).collect::<Vec<_>>()),)*
                ]
            }
        }
    };
}
pub(crate) use table;

macro_rules! column_spec {
    ($name:ident: $ty:ty) => {
        $crate::table::ColumnSpec {
            name: stringify!($name),
            sql: <$ty as $crate::column::Column>::SQL,
            nullable: <$ty as $crate::column::Column>::NULLABLE,
        }
    };
}
pub(crate) use column_spec;

/// The statements of a table in one schema, written once.
#[derive(Debug)]
pub(crate) struct Statements<R> {
    pub(crate) create: String,
    load: String,
    upsert: String,
    row: PhantomData<fn() -> R>,
}

impl<R: Row> Statements<R> {
    pub(crate) fn new(schema: &str) -> Self {
        Self {
            create: create::<R>(schema),
            load: load::<R>(schema),
            upsert: upsert::<R>(schema),
            row: PhantomData,
        }
    }

    /// The rows of these keys that exist, each with its key's place. `keys` holds one list per key column.
    pub(crate) async fn load(
        &self,
        transaction: &Transaction<'_>,
        keys: &[Vec<&str>],
    ) -> Result<Vec<(usize, R)>, DatabaseError> {
        let params: Vec<&(dyn ToSql + Sync)> = keys.iter().map(|key| key as _).collect();
        let statement = transaction.prepare_cached(&self.load).await?;
        let rows = transaction.query(&statement, &params).await?;
        rows.iter()
            .map(|row| {
                let ordinal: i64 = row.try_get(0)?;
                // Postgres counts from 1.
                Ok((ordinal as usize - 1, read(row, 1)?))
            })
            .collect()
    }

    /// Writes the rows over those of the same keys, of which there may be only one each. Answers how many.
    pub(crate) async fn upsert(
        &self,
        transaction: &Transaction<'_>,
        rows: &[&R],
    ) -> Result<u64, DatabaseError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let arrays = R::arrays(rows);
        let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| &**array as _).collect();
        let statement = transaction.prepare_cached(&self.upsert).await?;
        Ok(transaction.execute(&statement, &params).await?)
    }
}

/// The row whose columns begin at `first` of a result.
pub(crate) fn read<R: Row>(row: &tokio_postgres::Row, first: usize) -> Result<R, DatabaseError> {
    R::read(row, first).map_err(|source| DatabaseError::Unreadable { table: R::NAME, source })
}

/// The columns of `R`, comma-separated, each after `prefix`.
pub(crate) fn columns<R: Row>(prefix: &str) -> String {
    list(R::COLUMNS, |column| format!("{prefix}\"{}\"", column.name))
}

/// The columns of its key, comma-separated.
pub(crate) fn key<R: Row>() -> String {
    list(&R::COLUMNS[..R::KEY], |column| format!("\"{}\"", column.name))
}

fn list(columns: &[ColumnSpec], mut text: impl FnMut(&ColumnSpec) -> String) -> String {
    columns.iter().map(&mut text).collect::<Vec<_>>().join(", ")
}

fn create<R: Row>(schema: &str) -> String {
    let table = format!("{schema}.{}", R::NAME);
    let columns = list(R::COLUMNS, |column| {
        // Compared and ordered byte by byte, as everywhere else in this program and whatever the cluster's locale.
        let collation = if column.sql == "text" { " COLLATE \"C\"" } else { "" };
        let null = if column.nullable { "" } else { " NOT NULL" };
        format!("\"{}\" {}{collation}{null}", column.name, column.sql)
    });
    let key = key::<R>();
    // Room on each page for the row's next version, so that an update that touches no index stays on it.
    let mut sql = format!("CREATE TABLE {table} ({columns}, PRIMARY KEY ({key})) WITH (fillfactor = 85);\n");
    for index in R::INDEXES {
        sql.push_str(&format!("CREATE INDEX ON {table} {index};\n"));
    }
    sql
}

fn unnest(columns: &[ColumnSpec]) -> String {
    columns
        .iter()
        .enumerate()
        .map(|(i, column)| format!("${}::{}[]", i + 1, column.sql))
        .collect::<Vec<_>>()
        .join(", ")
}

fn load<R: Row>(schema: &str) -> String {
    let keys = &R::COLUMNS[..R::KEY];
    let join =
        keys.iter().map(|key| format!("t.\"{0}\" = k.\"{0}\"", key.name)).collect::<Vec<_>>().join(" AND ");
    format!(
        "SELECT k.n, {} FROM unnest({}) WITH ORDINALITY AS k({}, n) JOIN {schema}.{} AS t ON {join}",
        columns::<R>("t."),
        unnest(keys),
        list(keys, |key| format!("\"{}\"", key.name)),
        R::NAME,
    )
}

fn upsert<R: Row>(schema: &str) -> String {
    let key = key::<R>();
    let rest = list(&R::COLUMNS[R::KEY..], |column| format!("\"{0}\" = excluded.\"{0}\"", column.name));
    let conflict = if rest.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {rest}") };
    format!(
        "INSERT INTO {schema}.{} ({}) SELECT * FROM unnest({}) ON CONFLICT ({key}) DO {conflict}",
        R::NAME,
        columns::<R>(""),
        unnest(R::COLUMNS),
    )
}
