//! The present state of something, then every change of it: what every `Stream…Updates` does.
//!
//! First the rows of a view are sent, page by page. Then comes the log, from where the view was at the beginning: every
//! event is folded into the row of its stream by the view's own rules, and the row is sent as it then is. What a row had
//! already when it was sent is left out, so no change is missed and none is told twice; only a token in the midst of a
//! commit brings the whole commit again.
//!
//! A [`Subject`] says what one such stream has of its own: which rows, who wants them, and the words of its messages.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;

use lru::LruCache;
use shopstream_domain::{StreamId, TenantId, Version};
use shopstream_eventlog::{CommitRecord, Offset};
use shopstream_projections::{DatabaseError, Projection, ReadModels, StreamRow};
use shopstream_proto::{Beginning, Resumable, Validate};
use tokio::time::{Instant, timeout_at};

use crate::call::Call;
use crate::failure::Failure;
use crate::follow::{Delivery, Follow};
use crate::positions::log_id;
use crate::shop::Shop;
use crate::stream::{HEARTBEAT, Messages, Source, messages};
use crate::token::{Resume, Scope};

/// Rows per query.
const PAGE: u32 = 500;
/// How many rows one stream keeps in memory; what is not among them is folded from the journal again.
const FOLDED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// What a stream of updates is about, as one request wants it.
pub(crate) trait Subject: Sized + Send + Sync + 'static {
    /// What asks for it.
    type Request: Resumable;
    /// What there is of it: the rows of a view, each made by one stream.
    type Row: StreamRow;
    /// What the rows are ordered by.
    type Key: Send + Sync;
    /// What a client receives.
    type Message: Send + 'static;

    /// The RPC. Tokens are made for it: another name refuses those that clients have.
    const METHOD: &'static str;
    /// The view that has the rows.
    const VIEW: Projection;

    /// What `request`, which is valid by the rules of its proto, wants.
    ///
    /// # Errors
    /// What validation let through and we do not take.
    fn of(request: &Self::Request) -> Result<Self, Failure>;

    /// The key of a row.
    fn key(row: &Self::Row) -> Self::Key;

    /// The stream that makes the row of this key. Its id stands for the key in tokens.
    fn stream(tenant: &TenantId, key: &Self::Key) -> StreamId;

    /// The key that a stream's id stands for.
    ///
    /// # Errors
    /// It is none; the field is `resume_token`.
    fn key_of(id: &str) -> Result<Self::Key, Failure>;

    /// The first `limit` rows behind `after` in the order of their keys. It may answer rows that nobody wants, and none
    /// is left out that somebody does.
    fn page(
        &self,
        reads: &ReadModels,
        tenant: &TenantId,
        after: Option<&Self::Key>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Self::Row>, DatabaseError>> + Send;

    /// Whether the stream with this id may make a row that is wanted. What can be told here costs no fold.
    fn may_want(&self, id: &str) -> bool;

    /// Whether a row is wanted.
    fn wants(&self, row: &Self::Row) -> bool;

    /// A row as it is after an event of this type, which is empty in the present state. Without a row: a heartbeat.
    fn message(row: Option<&Self::Row>, event_type: &str, resume_token: String) -> Self::Message;
}

/// Opens the stream that `request` asks for.
///
/// # Errors
/// The request or its token is wrong, the view is behind, or there is no log to follow.
pub(crate) async fn stream<S: Subject>(
    shop: &Shop,
    call: &Call,
    mut request: S::Request,
) -> Result<Messages<S::Message>, Failure> {
    request.validate()?;
    let Beginning { min_position, resume_token } = request.take_beginning();
    shop.see(call, S::VIEW, &min_position).await?;
    let scope = Scope::new(S::METHOD, "resume_token", &call.tenant, &request);
    let subject = S::of(&request)?;
    let partitions = shop.means.commands.partitions();
    let resume = Resume::of(&resume_token, scope, shop.live.log_name(), partitions)?;
    if let Some(resume) = &resume {
        let begins: Vec<_> = (0..).zip(resume.next.iter().copied()).collect();
        shop.check_begins(&begins, |_| "resume_token".to_owned()).await?;
    }
    let present = match &resume {
        Some(resume) if resume.present_after.is_empty() => None,
        Some(resume) => Some(Some(S::key_of(&resume.present_after)?)),
        None => Some(None),
    };
    // Where the rows are at least; what they have beyond it comes again and is left out then.
    let view = || shop.reads().progress().watch(S::VIEW).borrow().clone();
    let from = resume.map_or_else(view, |resume| resume.next);
    let follow = Follow::from(&shop.live, from.clone()).await?;
    let updates = Updates {
        shop: shop.clone(),
        tenant: call.tenant.clone(),
        subject,
        scope,
        present,
        from,
        follow,
        shown: HashMap::new(),
        folded: LruCache::new(FOLDED),
        ready: VecDeque::new(),
    };
    Ok(messages(&shop.live, updates))
}

struct Updates<S: Subject> {
    shop: Shop,
    tenant: TenantId,
    subject: S,
    scope: Scope,
    /// `Some`: the present state is still to be sent, after this key.
    present: Option<Option<S::Key>>,
    /// By partition, the offset behind what was made into messages.
    from: Vec<Offset>,
    follow: Follow,
    /// Rows that were sent with a version which the log will show again. Few: those that changed meanwhile.
    shown: HashMap<StreamId, Version>,
    folded: LruCache<StreamId, S::Row>,
    /// Made of one page or one delivery.
    ready: VecDeque<S::Message>,
}

impl<S: Subject> Source for Updates<S> {
    type Message = S::Message;

    async fn next(&mut self) -> Result<Option<S::Message>, Failure> {
        // However much comes that nobody wants: a message is due all the same.
        let heartbeat = Instant::now() + HEARTBEAT;
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            if let Some(after) = self.present.take() {
                self.show_present(after.as_ref()).await?;
                continue;
            }
            match timeout_at(heartbeat, self.follow.next()).await {
                Ok(delivery) => self.show_changes(&delivery?).await?,
                Err(_) => return Ok(Some(self.heartbeat())),
            }
            // What was read from the log itself is there at once, and the timeout above never gets its turn.
            if self.ready.is_empty() && Instant::now() >= heartbeat {
                return Ok(Some(self.heartbeat()));
            }
        }
    }
}

impl<S: Subject> Updates<S> {
    async fn show_present(&mut self, after: Option<&S::Key>) -> Result<(), Failure> {
        let rows = self.subject.page(self.shop.reads(), &self.tenant, after, PAGE).await?;
        if rows.len() == PAGE as usize {
            self.present = rows.last().map(|last| Some(S::key(last)));
        }
        for row in rows.iter().filter(|row| self.subject.wants(row)) {
            let (stream, position) = (S::stream(&self.tenant, &S::key(row)), row.position());
            let message = S::message(Some(row), "", self.token(stream.id()));
            self.ready.push_back(message);
            if self.from.get(usize::from(position.partition)).is_some_and(|from| position.offset >= *from) {
                self.shown.insert(stream, row.version());
            }
        }
        Ok(())
    }

    async fn show_changes(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        for record in delivery.commits() {
            if self.may_want(&record.commit.stream) {
                self.change(record).await?;
            }
        }
        self.from = self.follow.resume().next;
        Ok(())
    }

    /// As far as the stream's name tells.
    fn may_want(&self, stream: &StreamId) -> bool {
        stream.kind() == S::Row::KIND
            && stream.tenant_str() == self.tenant.as_str()
            && self.subject.may_want(stream.id())
    }

    async fn change(&mut self, record: &CommitRecord) -> Result<(), Failure> {
        let stream = &record.commit.stream;
        let mut row = self.before(record).await?;
        for (index, data) in record.commit.events.iter().enumerate() {
            fold(&mut row, record, index)?;
            if index + 1 == record.commit.events.len() {
                // Only the last message of a commit leads behind it; a resume must not lose the others.
                self.from[usize::from(record.position.partition)] = record.position.offset + 1;
            }
            let shown = self.shown.get(stream).copied().unwrap_or(0);
            if let Some(row) = row.as_ref().filter(|row| row.version() > shown && self.subject.wants(row)) {
                let message = S::message(Some(row), &data.event_type, self.token(""));
                self.ready.push_back(message);
            }
        }
        if let Some(row) = row {
            self.folded.put(stream.clone(), row);
        }
        Ok(())
    }

    /// The row just before `record`; `None` where its stream begins there.
    async fn before(&mut self, record: &CommitRecord) -> Result<Option<S::Row>, Failure> {
        let wanted = record.commit.first_version - 1;
        let folded = self.folded.pop(&record.commit.stream).filter(|row| row.version() == wanted);
        if wanted == 0 || folded.is_some() {
            return Ok(folded);
        }
        let mut row = None;
        for earlier in self.shop.history_before(record).await? {
            for index in 0..earlier.commit.events.len() {
                fold(&mut row, &earlier, index)?;
            }
        }
        Ok(row)
    }

    /// A message without a row, whose token has moved on.
    fn heartbeat(&self) -> S::Message {
        S::message(None, "", self.token(""))
    }

    /// The token of a message: of the present state, after the row of this stream, or of what follows it.
    fn token(&self, present_after: &str) -> String {
        self.scope.seal(&Resume {
            next: self.from.clone(),
            present_after: present_after.to_owned(),
            log_id: log_id(),
        })
    }
}

/// The log holds what its readers can fold: anything else is a bug, of its writer's or ours.
fn fold<R: StreamRow>(row: &mut Option<R>, record: &CommitRecord, index: usize) -> Result<(), Failure> {
    R::fold(row, record, index).map_err(|obstacle| Failure::Internal(obstacle.to_string()))
}
