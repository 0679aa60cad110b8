//! Nothing believes a place, a session or a row longer than the server that gave it: a server that begins again may have
//! lost what came last, and one that takes its place more than that.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shopstream_domain::Timestamp;
use shopstream_eventlog::Journal;
use shopstream_projections::cluster::{Cluster, ClusterOptions};
use shopstream_projections::journal::PostgresJournal;
use shopstream_projections::testing::TestLog;
use shopstream_projections::{
    ConnectOptions, Database, LeaseTable, Limits, Projection, ProjectionState, Projector, ReadModels,
};
use shopstream_test_servers::postgres::TestDatabase;
use tokio::time::{Instant, sleep, timeout};

use crate::exactly_once::assert_equals_replay;
use crate::story::{PATIENCE, Shop, sku, tenant};

/// A server of one's own, which a test may do anything to.
struct Server {
    data: PathBuf,
    cluster: Option<Cluster>,
}

impl Server {
    fn start(name: &str) -> Self {
        let data = PathBuf::from(format!("/tmp/shopstream-lost-{name}-{}", std::process::id()));
        let mut server = Self { data, cluster: None };
        server.again();
        server
    }

    fn again(&mut self) {
        let options = ClusterOptions {
            data: self.data.clone(),
            fsync: false,
            settings: vec!["max_connections=100".into()],
        };
        self.cluster = Some(Cluster::start(&options).unwrap());
    }

    fn url(&self) -> String {
        self.cluster.as_ref().unwrap().url().to_owned()
    }

    /// Waits until it does.
    async fn answers(&self) {
        let asked = async {
            while tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, asked).await.unwrap();
    }

    fn pgdata(&self) -> PathBuf {
        self.data.join("pgdata")
    }

    fn postmaster(&self) -> Pid {
        let text = fs::read_to_string(self.pgdata().join("postmaster.pid")).unwrap();
        Pid::from_raw(text.lines().next().unwrap().parse().unwrap())
    }

    /// As `pg_ctl restart -m immediate`.
    fn crash(&mut self) {
        kill(self.postmaster(), Signal::SIGQUIT).unwrap();
        drop(self.cluster.take());
        self.again();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.cluster.take());
        drop(fs::remove_dir_all(&self.data));
    }
}

async fn shop(server: &Server, partitions: u16) -> Shop {
    let options = ConnectOptions { patience: PATIENCE, ..ConnectOptions::default() };
    let database = Database::connect(&server.url(), &options).await.unwrap();
    Shop { log: TestLog::new(partitions).await, db: TestDatabase { database, url: server.url() } }
}

async fn run_all(projector: &Projector) {
    for projection in Projection::ALL {
        let mut state = projector.watch(projection);
        let runs = state.wait_for(|state| *state == ProjectionState::Running);
        timeout(PATIENCE, runs).await.unwrap_or_else(|_| panic!("{projection}")).unwrap();
    }
}

/// Idle when it happens, and then at work again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_views_go_on_after_every_crash_of_the_server() {
    let mut server = Server::start("crash");
    let shop = shop(&server, 2).await;
    let projector = shop.project().await;
    for round in 0..6_u32 {
        shop.order(round, "cus_1", "MUG", u64::from(round) * 2).await;
        shop.caught_up(&projector.progress()).await;
        server.crash();
    }
    shop.order(6, "cus_1", "MUG", 12).await;
    shop.caught_up(&projector.progress()).await;
    run_all(&projector).await;
    projector.stop().await;
    assert_equals_replay(&shop).await;
}

/// As the kernel does where memory is short: the server begins again by itself, and is the same process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_views_go_on_after_a_backend_was_killed() {
    let server = Server::start("backend");
    let shop = shop(&server, 1).await;
    let projector = shop.project().await;
    for round in 0..4_u32 {
        let last = shop.order(round, "cus_1", "MUG", u64::from(round) * 2).await;
        shop.caught_up(&projector.progress()).await;
        let views = shop.read_models(&projector).await;
        let victim = shop
            .count("SELECT pid::int8 FROM pg_stat_activity WHERE state = 'idle' ORDER BY pid LIMIT 1")
            .await;
        let (_probe, ended) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.unwrap();
        kill(Pid::from_raw(victim as i32), Signal::SIGKILL).unwrap();
        // A named position that was answered before is answered again, and with the row.
        let deadline = Instant::now() + PATIENCE;
        let id = shopstream_domain::OrderId::new(&format!("ord_{round}")).unwrap();
        let look = || async {
            let seen = views.wait_for(Projection::OrderDetail, &[last], deadline).await;
            seen.unwrap_or_else(|behind| panic!("{behind}"));
            views.order(&tenant(), &id).await
        };
        let found = loop {
            match views.in_one_session(&[Projection::OrderDetail], look).await {
                Ok(found) => break found,
                Err(error) => assert!(error.is_transient() && Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(found.map(|found| found.detail.version), Some(2));
        // The server ends every connection before it begins again.
        assert!(timeout(PATIENCE, ended).await.unwrap().is_err());
        server.answers().await;
    }
    shop.caught_up(&projector.progress()).await;
    run_all(&projector).await;
    projector.stop().await;
    assert_equals_replay(&shop).await;
}

/// A failover to a copy that lags: the server that takes over has never heard of the last of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_copy_that_takes_over_never_had_is_written_again() {
    let mut server = Server::start("failover");
    let shop = shop(&server, 2).await;
    let projector = shop.project().await;
    shop.order(0, "cus_1", "MUG", 0).await;
    shop.caught_up(&projector.progress()).await;
    let journal = PostgresJournal::new(shop.db.database.clone(), projector.progress());

    // The copy: as of now, without the unlogged tables, as a standby has them not.
    kill(server.postmaster(), Signal::SIGQUIT).unwrap();
    drop(server.cluster.take());
    let copy = server.data.join("copy");
    copy_folder(&server.pgdata(), &copy);
    server.again();
    shop.order(1, "cus_1", "MUG", 2).await;
    shop.caught_up(&projector.progress()).await;
    let promised = projector.progress();

    kill(server.postmaster(), Signal::SIGQUIT).unwrap();
    drop(server.cluster.take());
    fs::remove_dir_all(server.pgdata()).unwrap();
    fs::rename(&copy, server.pgdata()).unwrap();
    server.again();

    // Either nothing is said, or all of it: never the history that was before.
    let asked = ["default/order/ord_1".parse().unwrap()];
    let deadline = Instant::now() + PATIENCE;
    loop {
        match journal.load(&asked).await {
            Ok(found) => {
                assert_eq!(found[0].len(), 2);
                break;
            }
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
    shop.order(2, "cus_1", "MUG", 4).await;
    shop.caught_up(&promised).await;
    run_all(&projector).await;
    assert_eq!(shop.count("SELECT count(*) FROM journal").await, 3 * 11);
    projector.stop().await;
    assert_equals_replay(&shop).await;
}

fn copy_folder(from: &Path, to: &Path) {
    // With its owners, who are not ours.
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_server_is_known_without_a_question_and_so_is_one_that_came_back() {
    let mut server = Server::start("dead");
    let shop = shop(&server, 1).await;
    let mut trouble = shop.db.database.trouble();
    kill(server.postmaster(), Signal::SIGQUIT).unwrap();
    timeout(PATIENCE, trouble.wait_for(Option::is_some)).await.unwrap().unwrap();
    drop(server.cluster.take());
    server.again();
    timeout(PATIENCE, trouble.wait_for(Option::is_none)).await.unwrap().unwrap();
}

/// A session that began while nothing might be written is not kept until the end of its days.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_take_no_writes_are_thrown_away() {
    let shop = Shop::new(1).await;
    let projector = shop.project().await;
    let leases = LeaseTable::open(&shop.db.database);
    shop.order(0, "cus_1", "MUG", 0).await;
    shop.caught_up(&projector.progress()).await;
    set_read_only(&shop, "on").await;
    crate::exactly_once::kill_connections(&shop.db).await;
    let last = shop.order(1, "cus_1", "MUG", 2).await;
    let soon = Instant::now() + Duration::from_millis(500);
    assert!(projector.progress().wait_for(Projection::OrderDetail, &[last], soon).await.is_err());

    // The sessions are left alone.
    set_read_only(&shop, "off").await;
    shop.caught_up(&projector.progress()).await;
    run_all(&projector).await;
    let me = shopstream_projections::MemberRow {
        id: Default::default(),
        node: "n".into(),
        address: "a".into(),
        commands: true,
        left: Duration::from_secs(3),
    };
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = leases.join(&me).await {
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn set_read_only(shop: &Shop, value: &str) {
    let (client, connection) = tokio_postgres::connect(&shop.db.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let name: String = client.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    let set = format!(
        "SET default_transaction_read_only = off; SET transaction_read_only = off; \
         ALTER DATABASE {name} SET default_transaction_read_only = {value}"
    );
    client.batch_execute(&set).await.unwrap();
}

/// Two callers at a table that somebody has locked take nothing from those who ask for something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_stops_only_its_own_queries() {
    let shop = Shop::new(1).await;
    let limits = Limits { read: Duration::from_secs(3), ..Limits::default() };
    let options = ConnectOptions { limits, ..ConnectOptions::default() };
    let database = Database::connect(&shop.db.url, &options).await.unwrap();
    let projector =
        Projector::start(shop.log.log.clone(), database.clone(), Timestamp::default).await.unwrap();
    shop.product("MUG", 100).await;
    shop.order(0, "cus_1", "MUG", 0).await;
    shop.caught_up(&projector.progress()).await;
    let views = ReadModels::open(database.clone(), projector.progress()).await.unwrap();
    let journal = PostgresJournal::new(database.clone(), projector.progress());

    let (mut client, connection) =
        tokio_postgres::connect(&shop.db.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE stock_level_e1.stock IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let (main, mug) = (shopstream_domain::LocationId::main(), sku("MUG"));
    // They come, wait and leave, more of them than there are ways.
    for _ in 0..40 {
        drop(timeout(Duration::from_millis(20), views.stock(&tenant(), &mug, &main)).await);
    }
    let asked = Instant::now();
    let id = shopstream_domain::OrderId::new("ord_0").unwrap();
    for _ in 0..20 {
        views.order(&tenant(), &id).await.unwrap().unwrap();
        journal.load(&["default/order/ord_0".parse().unwrap()]).await.unwrap();
        database.parked(None, None, 10).await.unwrap();
    }
    // Not behind one that waits for the lock until its time is over.
    assert!(asked.elapsed() < limits.read, "{:?}", asked.elapsed());
    // And who waits is told, though the lock stays.
    let told = timeout(PATIENCE, views.stock(&tenant(), &mug, &main)).await.unwrap();
    assert!(told.is_err());
    lock.rollback().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while views.stock(&tenant(), &mug, &main).await.is_err() {
        assert!(Instant::now() < deadline);
    }
}
