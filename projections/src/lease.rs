//! The tables of members and leases: plain statements over them. What they mean the write path says.

use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::database::Reader;
use crate::{Database, DatabaseError};

/// Told whenever somebody came, went, took or gave back.
const CHANNEL: &str = "shopstream_ownership";
/// Members that have been gone for so long are forgotten.
const FORGET: &str = "1 hour";

/// The way to the tables. It has a connection of its own, so that no long query stands before a renewal, and waits for
/// no disk: what a crash of the database forgets is asked for again, and epochs are above what the log has anyway.
pub struct LeaseTable {
    reader: Reader,
    changes: watch::Receiver<u64>,
    sql: Statements,
}

/// A running node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// Its process.
    pub id: Uuid,
    /// Its name.
    pub node: String,
    /// Where it is reached.
    pub address: String,
    /// Whether it may own partitions.
    pub commands: bool,
    /// How long before it has to say again that it is there.
    pub left: Duration,
}

/// A lease, held or free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// What for.
    pub duty: String,
    /// The highest epoch granted, or claimed as far as its holder has said.
    pub epoch: u64,
    /// Whose; `None`: free.
    pub holder: Option<Uuid>,
    /// The holder's name.
    pub node: String,
    /// The holder's address.
    pub address: String,
    /// How long it lasts; zero where it has run out.
    pub left: Duration,
}

/// Fixed texts, made once.
struct Statements {
    join: String,
    renew: String,
    acquire: String,
    release: String,
    leave: String,
}

impl LeaseTable {
    /// Opens the tables, which [`Database::prepare`] made. Within a tokio runtime.
    pub fn open(database: &Database) -> Self {
        // The sender of a notification hears it too.
        let tell = |from: &str| format!("SELECT pg_notify('{CHANNEL}', '') FROM {from} WHERE told");
        Self {
            reader: database.own_hasty_reader(),
            changes: database.listen(CHANNEL),
            sql: Statements {
                join: format!(
                    "WITH gone AS (DELETE FROM member WHERE id <> $1 AND until < now() - interval '{FORGET}'), \
                     joined AS (INSERT INTO member (id, node, address, commands, until) \
                     VALUES ($1, $2, $3, $4, now() + $5::float8 * interval '1 second') \
                     ON CONFLICT (id) DO UPDATE SET until = excluded.until RETURNING xmax = 0 AS told) {}",
                    tell("joined")
                ),
                renew: "UPDATE lease AS l SET until = now() + $4::float8 * interval '1 second', \
                        epoch = greatest(l.epoch, h.epoch) \
                        FROM unnest($2::text[], $3::int8[]) AS h(duty, epoch) \
                        WHERE l.duty = h.duty AND l.holder = $1 RETURNING l.duty"
                    .to_owned(),
                // Many ask for what is not free. That writes nothing, not even a lock.
                acquire: format!(
                    "WITH taken AS (INSERT INTO lease AS l (duty, epoch, holder, node, address, until) \
                     SELECT $1::text, $2::int8 + 1, $3::uuid, $4::text, $5::text, \
                     now() + $6::float8 * interval '1 second' \
                     WHERE NOT EXISTS (SELECT FROM lease AS o WHERE o.duty = $1 AND o.holder <> $3 \
                     AND NOT ($7 AND o.until < now())) \
                     ON CONFLICT (duty) DO UPDATE SET epoch = greatest(l.epoch, $2::int8) + 1, \
                     holder = excluded.holder, node = excluded.node, address = excluded.address, \
                     until = excluded.until \
                     WHERE l.holder IS NULL OR l.holder = $3 OR ($7 AND l.until < now()) \
                     RETURNING epoch, true AS told), told AS ({}) \
                     SELECT epoch FROM taken, told",
                    tell("taken")
                ),
                release: format!(
                    "WITH freed AS (UPDATE lease SET holder = NULL WHERE duty = $2 AND holder = $1 \
                     RETURNING true AS told) {}",
                    tell("freed")
                ),
                leave: format!(
                    "WITH gone AS (DELETE FROM member WHERE id = $1 RETURNING true AS told) {}",
                    tell("gone")
                ),
            },
        }
    }

    /// Notes that a member is there for another `left` of its row.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn join(&self, me: &MemberRow) -> Result<(), DatabaseError> {
        let seconds = me.left.as_secs_f64();
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&me.id, &me.node, &me.address, &me.commands, &seconds];
        self.reader.query(&self.sql.join, &params).await.map(drop)
    }

    /// Renews the leases of these duties for another `term`, those of them that are `holder`'s, and answers which.
    /// Each comes with the epoch that its holder has claimed.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn renew(
        &self,
        holder: Uuid,
        held: &[(String, u64)],
        term: Duration,
    ) -> Result<Vec<String>, DatabaseError> {
        let duties: Vec<&str> = held.iter().map(|(duty, _)| duty.as_str()).collect();
        let epochs: Vec<i64> = held.iter().map(|(_, epoch)| *epoch as i64).collect();
        let rows =
            self.reader.query(&self.sql.renew, &[&holder, &duties, &epochs, &term.as_secs_f64()]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Takes a lease for a `term` where it is free, `holder`'s already, or, if `expired` ones may be taken, has run
    /// out; answers its epoch: one above the highest in the table and above `seen`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn acquire(
        &self,
        holder: &MemberRow,
        duty: &str,
        seen: u64,
        expired: bool,
        term: Duration,
    ) -> Result<Option<u64>, DatabaseError> {
        let (seen, seconds) = (seen as i64, term.as_secs_f64());
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
            [&duty, &seen, &holder.id, &holder.node, &holder.address, &seconds, &expired];
        let rows = self.reader.query(&self.sql.acquire, &params).await?;
        let epoch: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?;
        Ok(epoch.map(i64::unsigned_abs))
    }

    /// Frees the lease of `duty` if it is `holder`'s.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn release(&self, holder: Uuid, duty: &str) -> Result<(), DatabaseError> {
        self.reader.query(&self.sql.release, &[&holder, &duty]).await.map(drop)
    }

    /// Takes a member off the table.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn leave(&self, id: Uuid) -> Result<(), DatabaseError> {
        self.reader.query(&self.sql.leave, &[&id]).await.map(drop)
    }

    /// Who is there now.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn members(&self) -> Result<Vec<MemberRow>, DatabaseError> {
        let sql = "SELECT id, node, address, commands, extract(epoch FROM until - now())::float8 FROM member \
                   WHERE until > now()";
        let member = |row: &Row| -> Result<_, DatabaseError> {
            Ok(MemberRow {
                id: row.try_get(0)?,
                node: row.try_get(1)?,
                address: row.try_get(2)?,
                commands: row.try_get(3)?,
                left: seconds(row.try_get(4)?),
            })
        };
        self.reader.query(sql, &[]).await?.iter().map(member).collect()
    }

    /// Every lease.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn leases(&self) -> Result<Vec<LeaseRow>, DatabaseError> {
        let sql = "SELECT duty, epoch, holder, node, address, extract(epoch FROM until - now())::float8 \
                   FROM lease";
        let lease = |row: &Row| -> Result<_, DatabaseError> {
            Ok(LeaseRow {
                duty: row.try_get(0)?,
                epoch: row.try_get::<_, i64>(1)?.unsigned_abs(),
                holder: row.try_get(2)?,
                node: row.try_get(3)?,
                address: row.try_get(4)?,
                left: seconds(row.try_get(5)?),
            })
        };
        self.reader.query(sql, &[]).await?.iter().map(lease).collect()
    }

    /// Changes soon after the tables did. A hint: while the connection is away nothing is heard.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// What is left, which may be less than nothing.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
